//! Certificates are renewed while the machine runs, once a day if one is due.

use std::io;
use std::thread;
use std::time::Duration;

use super::mailbox::{Message, Post};

/// Between looks at the certificates.
const INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Stack of the thread, bytes: signing runs on it.
const STACK: usize = 512 << 10;

/// Starts the thread. `renew` names the services to restart, which may be none.
pub fn start(
    post: Post,
    mut renew: impl FnMut() -> Result<Vec<String>, String> + Send + 'static,
) -> io::Result<()> {
    let work = move || {
        loop {
            thread::sleep(INTERVAL);
            match renew() {
                Ok(names) if names.is_empty() => {}
                Ok(names) => post.send(Message::Renewed(names)),
                Err(reason) => post.send(Message::RenewalFailed(reason)),
            }
        }
    };
    thread::Builder::new().name("renewal".to_owned()).stack_size(STACK).spawn(work).map(drop)
}
