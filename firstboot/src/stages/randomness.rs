//! **randomness**: before the first key is made, the kernel's generator is ready and has the seed of the last boot.

use std::io;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Advice, Done, Problem, problem};
use crate::kmsg::{Log, Record};
use crate::randomness::{self, Generator, Kernel, RandomnessError};

/// The words of `crng_set_ready`, drivers/char/random.c.
const READY: &str = "random: crng init done";

impl Advice for RandomnessError {
    fn advice(&self) -> String {
        match self {
            RandomnessError::Generator(_) => "use one of Debian's kernels",
            RandomnessError::Keep { .. } => {
                "check the state partition; writing the image to the disk again loses the state"
            }
        }
        .to_owned()
    }
}

/// Waits for the generator beside other stages.
#[derive(Debug)]
pub struct Gathering(io::Result<JoinHandle<io::Result<Duration>>>);

/// The kernel begins to gather randomness when somebody waits for it. Waiting here, beside everything else, means that
/// nobody waits when keys are made.
pub fn begin(root: &Path) -> Gathering {
    let mut kernel = Kernel::of(root);
    Gathering(std::thread::Builder::new().name("randomness".to_owned()).spawn(move || wait(&mut kernel)))
}

/// How long it took until there was a random byte.
fn wait(generator: &mut dyn Generator) -> io::Result<Duration> {
    let began = Instant::now();
    generator.fill(&mut [0])?;
    Ok(began.elapsed())
}

/// Returns when the generator is ready. A seed that cannot be kept is no reason to stop; a generator that cannot be used is.
pub fn run(root: &Path, gathering: Gathering, log: &mut Log) -> Result<Done<()>, RandomnessError> {
    let mut kernel = Kernel::of(root);
    let began = Instant::now();
    let gathered = match gathering.0.map(JoinHandle::join) {
        Ok(Ok(gathered)) => gathered,
        // No thread: nobody has waited yet.
        _ => wait(&mut kernel),
    };
    let gathered = gathered.map_err(RandomnessError::Generator)?;
    let waited = began.elapsed();
    let mut problems: Vec<Problem> = Vec::new();
    let seed = match randomness::refresh(root, &mut kernel) {
        Ok(true) => "seed of the last boot mixed in",
        Ok(false) => "no seed of an earlier boot",
        Err(error) => {
            problems.push(problem(&error));
            "no seed for the next boot"
        }
    };
    let ready = ready(log.records());
    let summary = summary(&randomness::sources(root), ready, gathered, waited);
    Ok(Done { value: (), summary: format!("{summary}, {seed}"), problems })
}

/// When the generator was ready, since kernel start.
fn ready(log: &[Record]) -> Option<Duration> {
    log.iter().find(|record| record.text == READY).map(|record| Duration::from_micros(record.microseconds))
}

/// `by RDRAND and virtio_rng.0, ready 0.004 s after kernel start, no key has waited`
fn summary(sources: &[String], ready: Option<Duration>, gathered: Duration, waited: Duration) -> String {
    let sources = match sources {
        [] => "the timing of interrupts alone".to_owned(),
        sources => sources.join(" and "),
    };
    let ready = match ready {
        Some(ready) => format!("ready {:.3} s after kernel start", ready.as_secs_f64()),
        None => format!("ready after {:.3} s", gathered.as_secs_f64()),
    };
    let waited = match waited.as_millis() {
        0 => "keys did not wait".to_owned(),
        _ => format!("keys waited {:.3} s", waited.as_secs_f64()),
    };
    format!("by {sources}, {ready}, {waited}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_after_the_generator_and_a_seed_is_left() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dev")).unwrap();
        std::fs::write(root.path().join("dev/urandom"), "").unwrap();
        std::fs::write(root.path().join("dev/kmsg"), "5,3,1042000,-;random: crng init done\n").unwrap();
        let first = run(root.path(), begin(root.path()), &mut Log::open(root.path())).unwrap();
        assert!(
            first
                .summary
                .starts_with("by the timing of interrupts alone, ready 1.042 s after kernel start, keys ")
                && first.summary.ends_with(", no seed of an earlier boot"),
            "{}",
            first.summary
        );
        let second = run(root.path(), begin(root.path()), &mut Log::open(root.path())).unwrap();
        assert!(second.summary.ends_with(", seed of the last boot mixed in"), "{}", second.summary);
        assert_eq!((first.problems, second.problems), (Vec::new(), Vec::new()));
    }

    #[test]
    fn how_long_keys_waited_is_told() {
        let ms = Duration::from_millis;
        let sources = ["RDRAND".to_owned(), "virtio_rng.0".to_owned()];
        assert_eq!(
            summary(&sources, None, ms(812), ms(507)),
            "by RDRAND and virtio_rng.0, ready after 0.812 s, keys waited 0.507 s"
        );
        assert_eq!(
            summary(&sources, Some(ms(4)), ms(0), ms(0)),
            "by RDRAND and virtio_rng.0, ready 0.004 s after kernel start, keys did not wait"
        );
    }
}
