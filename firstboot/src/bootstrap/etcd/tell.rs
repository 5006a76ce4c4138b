//! Tells what etcd waits for: in the service's log, and on the consoles, as the cluster may stand still for it.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::report::{Consoles, uptime_ms};

/// Tells each thing that lasts or comes back, and what stays the case again after pauses that double.
pub struct Teller {
    consoles: Consoles,
    program: &'static str,
    /// How many things were seen.
    round: u32,
    seen: Vec<Seen>,
    /// When a line was told last.
    told: Option<Instant>,
}

/// Something that was the case.
struct Seen {
    text: String,
    /// The round of the last time.
    round: u32,
    /// How many times, and how many of them in a row.
    times: u32,
    in_a_row: u32,
    told: Option<Instant>,
    /// From when it was told to when it is told again.
    pause: Duration,
}

/// Times in a row that something has to be seen. Machines that are switched on together pass through much that is not
/// worth a line: a member that starts knows for a moment only what its last snapshot says.
const IN_A_ROW: u32 = 3;
/// Or times in all, as reasons may alternate.
const TIMES: u32 = 6;
/// Rounds after which what has not come back is forgotten.
const FORGOTTEN: u32 = 30;
/// Most things that are remembered: reasons hold others' words, which may be different each time.
const MOST: usize = 16;
/// The first of the pauses, and the longest.
const PAUSE: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(960)];
/// Least time between two lines about what is waited for.
const GAP: Duration = Duration::from_secs(5);

impl Teller {
    /// Tells on the consoles below `root`.
    pub fn new(root: &Path, program: &'static str) -> Teller {
        Teller { consoles: Consoles::find(root), program, round: 0, seen: Vec::new(), told: None }
    }

    /// Tells something at once.
    pub fn say(&mut self, text: &str) {
        let now = uptime_ms();
        self.consoles.write(&format!("[{:5}.{:03}] {}: {text}", now / 1000, now % 1000, self.program));
        println!("{}: {text}", self.program);
    }

    /// Takes what is the case now, and tells it if it has been for some time.
    pub fn see(&mut self, text: &str) {
        self.see_at(text, Instant::now());
    }

    fn see_at(&mut self, text: &str, now: Instant) {
        if self.is_due(text, now) {
            self.told = Some(now);
            self.say(text);
        }
    }

    /// Counts it, and decides.
    fn is_due(&mut self, text: &str, now: Instant) -> bool {
        self.round = self.round.wrapping_add(1);
        let round = self.round;
        self.seen.retain(|seen| round.wrapping_sub(seen.round) <= FORGOTTEN);
        let quiet = self.told.is_none_or(|told| now.duration_since(told) >= GAP);
        let seen = self.remember(text);
        seen.in_a_row = if seen.round == round.wrapping_sub(1) { seen.in_a_row + 1 } else { 1 };
        seen.times += 1;
        seen.round = round;
        let due = match seen.told {
            None => seen.in_a_row >= IN_A_ROW || seen.times >= TIMES,
            Some(told) => now.duration_since(told) >= seen.pause,
        };
        if due && quiet {
            if seen.told.is_some() {
                seen.pause = PAUSE[1].min(seen.pause * 2);
            }
            seen.told = Some(now);
        }
        due && quiet
    }

    fn remember(&mut self, text: &str) -> &mut Seen {
        let index = self.seen.iter().position(|seen| seen.text == text).unwrap_or_else(|| {
            if self.seen.len() >= MOST {
                // In the order in which they came first.
                self.seen.remove(0);
            }
            let (text, round) = (text.to_owned(), self.round);
            self.seen.push(Seen { text, round, times: 0, in_a_row: 0, told: None, pause: PAUSE[0] });
            self.seen.len() - 1
        });
        &mut self.seen[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        root: tempfile::TempDir,
        teller: Teller,
        now: Instant,
    }

    impl World {
        fn new() -> World {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir(root.path().join("dev")).unwrap();
            std::fs::write(root.path().join("dev/console"), "").unwrap();
            let teller = Teller::new(root.path(), "etcd");
            World { root, teller, now: Instant::now() }
        }

        /// Sees one each second.
        fn see(&mut self, texts: &[&str], times: usize) -> &mut World {
            for text in std::iter::repeat_n(texts, times).flatten() {
                self.now += Duration::from_secs(1);
                self.teller.see_at(text, self.now);
            }
            self
        }

        /// The lines without their times.
        fn lines(&self) -> Vec<String> {
            let text = std::fs::read_to_string(self.root.path().join("dev/console")).unwrap();
            text.lines().map(|line| line.split_once("etcd: ").unwrap().1.to_owned()).collect()
        }
    }

    #[test]
    fn what_passes_is_not_told_and_what_stays_is_told_once() {
        let mut world = World::new();
        world.see(&["a", "b", "a", "a", "b"], 1);
        assert!(world.lines().is_empty());
        world.see(&["waits: for cp2"], 60);
        assert_eq!(world.lines(), ["waits: for cp2"]);
        world.see(&["waits: for cp2"], 3);
        assert_eq!(world.lines().len(), 2);
        world.see(&["waits: for cp2"], 100);
        assert_eq!(world.lines().len(), 2, "the pause has doubled");
        world.teller.say("begins");
        assert_eq!(world.lines().last().unwrap(), "begins");
    }

    #[test]
    fn reasons_that_alternate_are_told_both_and_seldom() {
        let mut world = World::new();
        world.see(&["a", "b"], 30);
        assert_eq!(world.lines(), ["a", "b"]);
        world.see(&["a", "b"], 600);
        assert!((5..=12).contains(&world.lines().len()), "{:?}", world.lines());
        // One that is new is told among them.
        world.see(&["a", "c"], 10);
        assert_eq!(world.lines().last().unwrap(), "c");
    }

    #[test]
    fn words_that_differ_each_time_fill_nothing() {
        let mut world = World::new();
        for number in 0..1000 {
            world.see(&[&format!("refused by port {number}"), "x"], 1);
        }
        assert!(world.teller.seen.len() <= MOST);
        assert!(world.lines().iter().all(|line| line == "x") && !world.lines().is_empty());
    }
}
