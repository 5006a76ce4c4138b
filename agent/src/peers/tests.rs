//! What reaches the dataplane, and when.

use std::sync::Mutex;

use super::*;

/// Remembers what it was told.
struct Fake {
    told: Arc<Mutex<Vec<usize>>>,
    incomplete: usize,
}

impl Dataplane for Fake {
    fn reconcile(&mut self, peers: &[Peer]) -> Outcome {
        self.told.lock().unwrap().push(peers.len());
        let incomplete = self.incomplete > 0;
        self.incomplete = self.incomplete.saturating_sub(1);
        Outcome { lines: Vec::new(), incomplete }
    }

    fn own_ranges(&mut self, _: &[IpNet]) {}
}

fn peer(number: u8) -> Peer {
    let addresses = vec![[10, 0, 0, number].into()];
    Peer { since: 1, name: format!("w{number}"), addresses, pod_cidrs: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn changes_are_coalesced_and_repeated_when_something_failed() {
    let table = Arc::new(Mutex::new(Table::new("own".to_owned(), Vec::new())));
    let (news, told) = (Arc::new(Notify::new()), Arc::new(Mutex::new(Vec::new())));
    let fake = Fake { told: Arc::clone(&told), incomplete: 2 };
    tokio::spawn(apply(Arc::clone(&table), Arc::clone(&news), fake));
    sleep(Duration::from_secs(3600)).await;
    assert!(told.lock().unwrap().is_empty(), "nothing is known yet, so nothing is changed");
    for number in 1..=50 {
        table.lock().unwrap().set(peer(number));
        news.notify_one();
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*told.lock().unwrap(), [50]);
    sleep(RETRY).await;
    assert_eq!(*told.lock().unwrap(), [50, 50], "as the first was incomplete");
    sleep(RETRY).await;
    assert_eq!(told.lock().unwrap().len(), 2, "after a longer pause than before");
    sleep(RETRY).await;
    assert_eq!(*told.lock().unwrap(), [50, 50, 50]);
    // Never quiet: applied all the same.
    for _ in 0..15 {
        news.notify_one();
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(told.lock().unwrap().len(), 4);
    sleep(AGAIN * 2).await;
    assert!(told.lock().unwrap().len() >= 6, "looked at again without a change");
}
