//! The same for several machines at once, each on a thread of its own: one that is not there holds up nobody.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Does `work` for all items at once, and gives each result with the item's position to `take` until that says that it
/// has enough, all are done, or `patience` is over. Whatever is still at work then is not waited for, so `work` has to
/// end by itself.
pub fn at_once<I: Send + 'static, T: Send + 'static>(
    items: Vec<I>,
    patience: Duration,
    work: impl Fn(&I) -> T + Send + Sync + 'static,
    mut take: impl FnMut(usize, T) -> bool,
) {
    let deadline = Instant::now() + patience;
    let (sender, results) = channel();
    let work = Arc::new(work);
    for (index, item) in items.into_iter().enumerate() {
        let (work, sender) = (Arc::clone(&work), sender.clone());
        // Without a thread there is no result, as of a machine that does not answer.
        let _ = std::thread::Builder::new().name("question".to_owned()).spawn(move || {
            // Nobody may be interested any more.
            let _ = sender.send((index, work(&item)));
        });
    }
    drop(sender);
    while let Ok((index, result)) = results.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if !take(index, result) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_waited_for_in_vain() {
        let began = Instant::now();
        let mut taken = Vec::new();
        let work = |milliseconds: &u64| {
            std::thread::sleep(Duration::from_millis(*milliseconds));
            *milliseconds
        };
        at_once(vec![60_000, 0, 60_000], Duration::from_secs(30), work, |index, result| {
            taken.push((index, result));
            false
        });
        assert_eq!(taken, [(1, 0)]);
        at_once(vec![60_000, 0], Duration::from_millis(300), work, |index, _| {
            taken.push((index, 0));
            true
        });
        assert_eq!(taken, [(1, 0), (1, 0)]);
        at_once(vec![1, 2], Duration::from_secs(30), work, |_, _| true);
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
