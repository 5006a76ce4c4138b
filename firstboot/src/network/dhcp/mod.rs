//! DHCPv4 (RFC 2131): the address of a node that nobody gives one, and those of links that are described so.
//!
//! [`first`] asks on all links at once, for PID 1, in [`rounds`], where no link is described; [`acquire`] on one.
//! [`keep`] is the service that renews what came of it, a process of its own, so that nothing that a server sends can take
//! PID 1 down after the start.
//!
//! Nothing is released when the machine stops: it is to have the same address when it comes back, and with RELEASE the
//! server might lend it to another meanwhile.

pub mod acquire;
pub mod apply;
pub mod held;
pub mod identifier;
pub mod keep;
pub mod kept;
pub mod lease;
pub mod message;
pub mod options;
mod packet;
mod renew;
pub mod rounds;
pub mod taken;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};

use self::acquire::{Card, Lent, Search, no_lease};
use self::lease::Lease;
use self::message::Client;
use crate::stages::Advice;

/// How long a boot waits for a lease: a switch with spanning tree lets nothing through for the first 30 s.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long a boot waits for the lease of a further link, which has a carrier: four requests. The service goes on asking.
pub const FURTHER_PATIENCE: Duration = Duration::from_secs(5);
/// How long the same cards are asked on before it is looked whether there are more of them.
pub const ROUND: Duration = Duration::from_secs(10);

/// No server lent an address.
#[derive(Debug, thiserror::Error)]
#[error("no DHCP server lent this machine an address within {} s; {seen}", .patience.as_secs())]
pub struct NoLease {
    /// How long it was asked.
    pub patience: Duration,
    /// What was seen on each link.
    pub seen: String,
}

impl Advice for NoLease {
    fn advice(&self) -> String {
        "check cable, switch port and DHCP server, or write the node's address into node.toml on the seed partition"
            .to_owned()
    }
}

impl Client {
    /// This machine on a card.
    pub fn on(root: &Path, card: &Card, host_name: &str) -> Client {
        let mac = card.mac;
        Client { mac, identifier: identifier::of(root, mac), host_name: host_name.to_owned() }
    }
}

/// Asks on all cards at once, which must be set up; the first lease wins, and the others are not asked for any more.
pub fn first(root: &Path, cards: &[Card], host_name: &str, patience: Duration) -> Result<Lent, NoLease> {
    let end = Instant::now() + patience;
    let stop = AtomicBool::new(false);
    let (sender, receiver) = channel();
    let (mut won, mut lost) = (None, Vec::new());
    std::thread::scope(|scope| {
        for card in cards {
            let (sender, stop) = (sender.clone(), &stop);
            scope.spawn(move || {
                let client = Client::on(root, card, host_name);
                // Whether it can be used is the stage's to say, which ends the boot if not.
                let usable = |_: &Lease| Ok(());
                let result = Search { card, client: &client, end, stop, usable: &usable }.run();
                if result.is_ok() {
                    stop.store(true, Ordering::Relaxed);
                }
                // Nobody hears it once there is a winner.
                let _ = sender.send((card.clone(), result));
            });
        }
        drop(sender);
        for (card, result) in receiver {
            match result {
                Ok(lent) => {
                    won.get_or_insert(lent);
                }
                Err(seen) => lost.push((card, seen)),
            }
        }
    });
    won.ok_or_else(|| NoLease { patience, seen: no_lease(&lost) })
}

/// A number that neighbours do not guess: of the kernel, without waiting for it early in the boot.
pub(crate) fn random() -> u32 {
    let mut bytes = [0; 4];
    match getrandom(&mut bytes, GetRandomFlags::INSECURE) {
        Ok(_) => u32::from_ne_bytes(bytes),
        // A kernel before 5.6 has no such flag; the time tells machines apart well enough.
        Err(_) => crate::report::uptime_us() as u32,
    }
}

/// `52:54:00:00:00:01`
fn hex(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
