//! The **virtual address**: one of the control planes answers at it, and another one when that one is gone.
//!
//! Who, is decided by a Lease that each control plane tries to get while its own API server is ready. What the holder
//! gives its link is an address that the kernel takes away by itself before the Lease runs out, so that an agent that
//! hangs, is killed or cannot write any more needs no help to let go: two machines never have the address at once.
//!
//! Whose turn it is, [`election`](crate::election) decides; [`address`] holds the address on a [`link`], and
//! [`pod_network::announce`] tells the neighbours.

pub mod address;
pub mod link;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bootwright_model::agent::VIRTUAL_IP_LEASE;
use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::balancer::Balancer;
use crate::election::lease::{Lease, LeaseError};
use crate::election::{Election, Step};
use address::{Address, AddressError};

/// Time that a Lease is good for after it was written.
pub const LEASE: Duration = Duration::from_secs(10);
/// From one look at the Lease to the next.
const INTERVAL: Duration = Duration::from_secs(2);
/// For one look and one write together.
const ROUND: Duration = Duration::from_secs(4);
/// To give the Lease back when the agent stops. The API server is stopped after it.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is held, by whom, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualIp {
    /// `virtual-ip` of the cluster file.
    pub address: IpAddr,
    /// This node's name, which stands in the Lease.
    pub node: String,
    /// The link that gets the address.
    pub link: String,
    /// This node's API server, which is to answer at the address.
    pub server: std::net::SocketAddr,
}

/// Asks [`run`] to end.
#[derive(Debug, Clone)]
pub struct Farewell(Arc<watch::Sender<bool>>);

impl Default for Farewell {
    fn default() -> Farewell {
        Farewell(Arc::new(watch::Sender::new(false)))
    }
}

impl Farewell {
    /// Has the address and the Lease given back, and waits for that for a moment.
    pub async fn say(&self) {
        self.0.send_replace(true);
        // Later the address is gone by itself, and the Lease with it.
        let _ = timeout(FAREWELL, self.0.closed()).await;
    }
}

/// Tries to hold the address, for ever or until `farewell`.
///
/// The receiver of `farewell` lives as long as this call: that it is gone says that all is given back.
pub async fn run(client: Client, virtual_ip: VirtualIp, balancer: Arc<Balancer>, farewell: Farewell) {
    let mut asked = farewell.0.subscribe();
    if *asked.borrow() {
        return;
    }
    let lease = Lease::new(client, VIRTUAL_IP_LEASE, &virtual_ip.node, LEASE);
    let mut holder = Holder {
        election: Election::new(&virtual_ip.node, LEASE),
        address: Address::new(virtual_ip.address, &virtual_ip.link),
        lease,
        not_before: None,
        said: String::new(),
    };
    loop {
        let next = Instant::now() + INTERVAL;
        holder.round(balancer.is_healthy(virtual_ip.server)).await;
        tokio::select! {
            () = sleep_until(next) => {}
            _ = asked.changed() => {
                holder.let_go().await;
                return;
            }
        }
    }
}

/// Why the address is not held although it could be.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("no answer from the API server within {} s", ROUND.as_secs())]
    Late,
}

struct Holder {
    election: Election,
    lease: Lease,
    address: Address,
    /// When to try again after this machine's link did not take the address: others get their turn.
    not_before: Option<Instant>,
    /// The last thing said, which is not said again.
    said: String,
}

impl Holder {
    /// `ready`: whether the API server beside us would serve who comes by the address.
    async fn round(&mut self, ready: bool) {
        let outcome = match timeout(ROUND, self.elect(ready)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(RoundError::Late),
        };
        match outcome {
            Ok(state) => self.say(state),
            // What is held stays until it runs out; the next round may renew it in time.
            Err(error) => self.say(crate::chain(&error)),
        }
    }

    async fn elect(&mut self, ready: bool) -> Result<String, RoundError> {
        // One that does not serve lets its Lease run out rather than give it back: it may be for a moment.
        if !ready {
            return Ok("the API server of this node is not ready; another may hold the address".to_owned());
        }
        if self.not_before.is_some_and(|time| Instant::now() < time) {
            return Ok(self.said.clone());
        }
        let record = self.lease.look().await?;
        match self.election.step(Instant::now(), record.as_ref()) {
            Step::Wait { holder } => {
                self.address.give_back()?;
                Ok(match holder {
                    Some(holder) => format!("{} is held by {holder}", self.address),
                    None => format!("there is no Lease; without one for {} s it is made", LEASE.as_secs()),
                })
            }
            Step::Take => {
                // The Lease counts from when we ask, which is before the others can see it.
                let asked = Instant::now();
                if !self.lease.write().await? {
                    return Ok("another control plane was faster".to_owned());
                }
                if let Err(error) = self.address.hold(asked + LEASE) {
                    if matches!(error, AddressError::Kernel { .. }) {
                        self.not_before = Some(Instant::now() + 2 * LEASE);
                        self.lease.give_back().await?;
                    }
                    return Err(error.into());
                }
                Ok(format!("this node holds {}", self.address))
            }
        }
    }

    async fn let_go(&mut self) {
        if let Err(error) = self.address.give_back() {
            // It is still here for a moment: nobody may have it meanwhile, so the Lease runs out.
            eprintln!("vip: {}", crate::chain(&error));
            return;
        }
        match timeout(FAREWELL, self.lease.give_back()).await {
            Ok(Ok(true)) => eprintln!("vip: given back"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => eprintln!("vip: {}; it runs out", crate::chain(&error)),
            Err(_) => eprintln!("vip: the Lease could not be given back in time; it runs out"),
        }
    }

    fn say(&mut self, what: String) {
        if what != self.said {
            eprintln!("vip: {what}");
            self.said = what;
        }
    }
}
