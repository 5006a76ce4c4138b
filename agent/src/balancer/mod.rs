//! The way to the API: a TCP balancer on loopback, with every control plane behind it.
//!
//! Bytes are passed on as they come: TLS is between the client and the API server, whose certificate names the
//! loopback addresses. What is decided here is only where a connection goes. [`pool`] decides and does no I/O,
//! [`probe`] looks at one API server, [`relay`] carries one connection, [`endpoints`] learns of further control
//! planes from the API, and this file joins them.
//!
//! No crate was found that fits: load balancers such as pingora bring threads, a TLS library and configuration of
//! their own for what is a few hundred lines on tokio.

pub mod endpoints;
pub mod pool;
pub mod probe;
mod relay;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use pool::Pool;
use probe::Prober;

/// Connections at a time. A node has some twenty clients of the API, with one or two connections each; one that
/// leaks them shall not take the memory of all. Further ones wait in the kernel's queue.
pub const MOST_CONNECTIONS: usize = 512;
/// Before accept(2) is tried again after it failed, as it does without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The balancer: its control planes and their probes.
pub struct Balancer {
    pool: Arc<Pool>,
    prober: Prober,
    probes: Mutex<HashMap<SocketAddr, AbortHandle>>,
}

impl Balancer {
    /// Starts probing the baked control planes, which are never forgotten. Wants a tokio runtime.
    pub fn start(baked: Vec<SocketAddr>, first: usize, prober: Prober) -> Arc<Balancer> {
        let balancer = Balancer { pool: Arc::new(Pool::new(baked, first)), prober, probes: Mutex::default() };
        balancer.follow_pool();
        Arc::new(balancer)
    }

    /// The control planes that the API knows of, in addition to the baked ones. None at all changes nothing.
    pub fn learn(&self, addresses: Vec<SocketAddr>) {
        if !addresses.is_empty() && self.pool.learn(addresses) {
            self.follow_pool();
        }
    }

    /// The last look at this API server found it ready.
    pub fn is_healthy(&self, address: SocketAddr) -> bool {
        self.pool.is_healthy(address)
    }

    /// What is known of each control plane, one line each.
    pub fn describe(&self) -> Vec<String> {
        self.pool.describe()
    }

    /// A probe for each control plane and for nothing else.
    fn follow_pool(&self) {
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.pool.addresses();
        probes.retain(|address, probe| {
            let keep = wanted.contains(address);
            if !keep {
                probe.abort();
            }
            keep
        });
        for address in wanted {
            probes.entry(address).or_insert_with(|| {
                tokio::spawn(self.prober.clone().run(address, Arc::clone(&self.pool))).abort_handle()
            });
        }
    }

    /// Carries connections for ever.
    pub async fn serve(self: Arc<Self>, listeners: Vec<TcpListener>) {
        let free = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let loops =
            listeners.into_iter().map(|listener| Arc::clone(&self).accept(listener, Arc::clone(&free)));
        futures_util::future::join_all(loops).await;
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, free: Arc<Semaphore>) {
        let mut full = false;
        loop {
            let permit = match Arc::clone(&free).try_acquire_owned() {
                Ok(permit) => {
                    full = false;
                    permit
                }
                Err(_) => {
                    if !full {
                        eprintln!("balancer: {MOST_CONNECTIONS} connections are open; further ones wait");
                        full = true;
                    }
                    let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
                    permit
                }
            };
            match listener.accept().await {
                Ok((client, _)) => {
                    let pool = Arc::clone(&self.pool);
                    tokio::spawn(async move {
                        carry(client, &pool).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    eprintln!("balancer: cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Finds a control plane for a client and passes bytes on until one of the three ends it.
async fn carry(client: TcpStream, pool: &Pool) {
    for candidate in pool.candidates() {
        match relay::connect(candidate.address).await {
            Ok(server) => {
                let open = pool.opened(candidate.address);
                relay::relay(client, server, candidate.cut).await;
                drop(open);
                return;
            }
            // The probe finds out what is wrong with it, and the next one is tried meanwhile.
            Err(_) => pool.suspect(candidate.address),
        }
    }
}

/// Listens at a port of both loopback addresses. A kernel without IPv6 has one of them.
pub async fn listen(port: u16) -> io::Result<Vec<TcpListener>> {
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let port = v4.local_addr()?.port();
    match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
        Ok(v6) => Ok(vec![v4, v6]),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported) =>
        {
            eprintln!("balancer: on IPv4 only: this machine has no ::1");
            Ok(vec![v4])
        }
        Err(error) => Err(error),
    }
}
