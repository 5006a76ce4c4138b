//! What goes wrong on purpose: cables that are cut, frames that are lost, late or doubled.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Most copies that one frame becomes, however many rules double it.
const MOST_COPIES: u32 = 4;

/// Where a fault is. Ports are numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everything from and to a port.
    Port(usize),
    /// What goes between two ports, both ways.
    Between(usize, usize),
}

impl Scope {
    /// The scope of one port, or of the way between two. The order of the two makes no difference.
    pub fn of(one: usize, other: Option<usize>) -> Scope {
        match other {
            None => Scope::Port(one),
            Some(other) => Scope::Between(one.min(other), one.max(other)),
        }
    }

    fn touches(self, port: usize) -> bool {
        match self {
            Scope::Port(one) => one == port,
            Scope::Between(one, other) => one == port || other == port,
        }
    }
}

/// A fault, as it is asked for. A second of the same kind and scope replaces the first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// No frame passes. The link keeps its carrier, as behind a switch whose uplink is gone.
    Cut,
    /// Each frame comes that many milliseconds later; their order is kept.
    Delay(u32),
    /// Percent of frames that do not arrive.
    Loss(f64),
    /// Percent of frames that arrive twice.
    Duplicate(f64),
}

/// What is to be done with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How many of it arrive.
    pub copies: u32,
    /// How much later.
    pub delay: Duration,
}

struct Rule {
    cut: bool,
    delay_ms: u32,
    loss: f64,
    duplicate: f64,
    random: StdRng,
}

impl Rule {
    fn new(seed: u64, scope: Scope) -> Rule {
        // Each scope has numbers of its own, so that traffic elsewhere does not change what is lost here.
        let number = match scope {
            Scope::Port(one) => one as u64,
            Scope::Between(one, other) => ((one as u64 + 1) << 32) | other as u64,
        };
        let random = StdRng::seed_from_u64(seed ^ number.rotate_left(17));
        Rule { cut: false, delay_ms: 0, loss: 0.0, duplicate: 0.0, random }
    }

    fn is_idle(&self) -> bool {
        !self.cut && self.delay_ms == 0 && self.loss == 0.0 && self.duplicate == 0.0
    }

    fn happens(&mut self, percent: f64) -> bool {
        percent > 0.0 && self.random.random_bool((percent / 100.0).clamp(0.0, 1.0))
    }
}

/// All faults of a switch. The same seed, commands and frames give the same losses.
pub struct Faults {
    seed: u64,
    rules: BTreeMap<Scope, Rule>,
}

impl Faults {
    /// None yet.
    pub fn new(seed: u64) -> Faults {
        Faults { seed, rules: BTreeMap::new() }
    }

    /// Adds a fault, or replaces that of its kind.
    pub fn add(&mut self, scope: Scope, fault: Fault) {
        let seed = self.seed;
        let rule = self.rules.entry(scope).or_insert_with(|| Rule::new(seed, scope));
        match fault {
            Fault::Cut => rule.cut = true,
            Fault::Delay(milliseconds) => rule.delay_ms = milliseconds,
            Fault::Loss(percent) => rule.loss = percent,
            Fault::Duplicate(percent) => rule.duplicate = percent,
        }
        if rule.is_idle() {
            self.rules.remove(&scope);
        }
    }

    /// Takes faults away: of one port, those of its ways to others included; between two ports; or all.
    pub fn heal(&mut self, scope: Option<Scope>) {
        match scope {
            None => self.rules.clear(),
            Some(Scope::Port(port)) => self.rules.retain(|scope, _| !scope.touches(port)),
            Some(scope) => drop(self.rules.remove(&scope)),
        }
    }

    /// What becomes of the next frame from one port to another.
    pub fn judge(&mut self, from: usize, to: usize) -> Verdict {
        let mut verdict = Verdict { copies: 1, delay: Duration::ZERO };
        if self.rules.is_empty() {
            return verdict;
        }
        for scope in [Scope::Port(from), Scope::Port(to), Scope::of(from, Some(to))] {
            let Some(rule) = self.rules.get_mut(&scope) else { continue };
            let (loss, duplicate) = (rule.loss, rule.duplicate);
            // Both are drawn for each frame, so that the one does not depend on the other.
            let (lost, doubled) = (rule.happens(loss), rule.happens(duplicate));
            if rule.cut || lost {
                verdict.copies = 0;
            } else if doubled {
                verdict.copies = (verdict.copies * 2).min(MOST_COPIES);
            }
            verdict.delay += Duration::from_millis(u64::from(rule.delay_ms));
        }
        verdict
    }

    /// The faults in words: `cp1: cut`, `cp1 - w1: 20 ms later, 5 % lost`.
    pub fn describe(&self, name: impl Fn(usize) -> String) -> Vec<String> {
        let one = |(scope, rule): (&Scope, &Rule)| {
            let place = match *scope {
                Scope::Port(port) => name(port),
                Scope::Between(one, other) => format!("{} - {}", name(one), name(other)),
            };
            let mut words = Vec::new();
            if rule.cut {
                words.push("cut".to_owned());
            }
            if rule.delay_ms > 0 {
                words.push(format!("{} ms later", rule.delay_ms));
            }
            if rule.loss > 0.0 {
                words.push(format!("{} % lost", rule.loss));
            }
            if rule.duplicate > 0.0 {
                words.push(format!("{} % twice", rule.duplicate));
            }
            format!("{place}: {}", words.join(", "))
        };
        self.rules.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Verdict = Verdict { copies: 1, delay: Duration::ZERO };

    fn name(port: usize) -> String {
        ["cp1", "cp2", "w1"][port].to_owned()
    }

    #[test]
    fn a_cut_port_hears_nobody_and_a_cut_way_is_cut_both_ways() {
        let mut faults = Faults::new(1);
        assert_eq!(faults.judge(0, 1), WHOLE);
        faults.add(Scope::of(0, None), Fault::Cut);
        assert_eq!((faults.judge(0, 1).copies, faults.judge(2, 0).copies), (0, 0));
        assert_eq!(faults.judge(1, 2), WHOLE);
        faults.heal(Some(Scope::Port(0)));
        faults.add(Scope::of(2, Some(1)), Fault::Cut);
        assert_eq!((faults.judge(1, 2).copies, faults.judge(2, 1).copies), (0, 0));
        assert_eq!(faults.judge(0, 1), WHOLE);
        assert_eq!(faults.describe(name), ["cp2 - w1: cut"]);
    }

    #[test]
    fn healing_a_port_heals_its_ways_too() {
        let mut faults = Faults::new(1);
        faults.add(Scope::of(0, Some(1)), Fault::Cut);
        faults.add(Scope::of(1, Some(2)), Fault::Delay(5));
        faults.heal(Some(Scope::Port(0)));
        assert_eq!(faults.describe(name), ["cp2 - w1: 5 ms later"]);
        faults.heal(None);
        assert!(faults.describe(name).is_empty());
    }

    #[test]
    fn delays_add_up_and_zero_takes_a_fault_away() {
        let mut faults = Faults::new(1);
        faults.add(Scope::Port(0), Fault::Delay(10));
        faults.add(Scope::of(0, Some(1)), Fault::Delay(5));
        assert_eq!(faults.judge(1, 0).delay, Duration::from_millis(15));
        faults.add(Scope::Port(0), Fault::Delay(0));
        assert_eq!(faults.judge(1, 0).delay, Duration::from_millis(5));
        assert_eq!(faults.judge(2, 0), WHOLE);
    }

    #[test]
    fn losses_have_their_share_and_are_the_same_for_the_same_seed() {
        let losses = |seed| {
            let mut faults = Faults::new(seed);
            faults.add(Scope::Port(0), Fault::Loss(20.0));
            (0..1000).map(|_| faults.judge(0, 1).copies).collect::<Vec<_>>()
        };
        let lost = losses(7).iter().filter(|&&copies| copies == 0).count();
        assert!((150..250).contains(&lost), "{lost}");
        assert_eq!(losses(7), losses(7));
        assert_ne!(losses(7), losses(8));
    }

    #[test]
    fn certainties() {
        let mut faults = Faults::new(1);
        faults.add(Scope::Port(0), Fault::Duplicate(100.0));
        faults.add(Scope::Port(1), Fault::Duplicate(100.0));
        faults.add(Scope::of(0, Some(1)), Fault::Duplicate(100.0));
        assert_eq!(faults.judge(0, 1).copies, MOST_COPIES);
        faults.add(Scope::Port(0), Fault::Loss(100.0));
        assert_eq!(faults.judge(0, 1).copies, 0);
        assert_eq!(faults.describe(name)[0], "cp1: 100 % lost, 100 % twice");
    }
}
