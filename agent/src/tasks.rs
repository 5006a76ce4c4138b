//! Keeps a task running: a fault in one is none of the others.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Pauses before a task that ended is started again; the largest stays, the first comes back once it ran well.
const PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// After this long it ran well.
const WELL: Duration = Duration::from_secs(600);

/// Runs what `task` makes, again if it panics or ends, for ever.
pub async fn keep<F>(name: &str, mut task: impl FnMut() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut pause = PAUSE[0];
    loop {
        let started = Instant::now();
        // In a task of its own, where a panic ends that and nothing else.
        let ended = tokio::spawn(task()).await;
        if started.elapsed() > WELL {
            pause = PAUSE[0];
        }
        let why = ended.map_or_else(|error| error.to_string(), |()| "it is over".to_owned());
        eprintln!("{name}: {why}; starting again in {pause:?}");
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE[1]);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_after_longer_and_longer_pauses() {
        let count = Arc::new(AtomicUsize::new(0));
        let kept = keep("test", || {
            let count = Arc::clone(&count);
            async move {
                count.fetch_add(1, Ordering::Relaxed);
                panic!("a fault");
            }
        });
        let _ = tokio::time::timeout(Duration::from_secs(1 + 2 + 4 + 8 + 1), kept).await;
        assert_eq!(count.load(Ordering::Relaxed), 5);
    }
}
