//! Which control planes there are, how they are, and where the next connection goes. No I/O, no clock.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

/// Most control planes; the list comes from outside.
pub const MOST_BACKENDS: usize = 32;

/// What the last look at a control plane showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Not looked at yet.
    Unknown,
    /// `/readyz` answers 200.
    Healthy,
    /// It answers, and says that it is not ready: it starts, stops, or has lost etcd.
    NotReady(String),
    /// It is there, and does not answer in time: it is busy, or hangs.
    Silent(String),
    /// Nobody is there, or another answers in its place.
    Unreachable(String),
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Health::Unknown => write!(f, "not looked at yet"),
            Health::Healthy => write!(f, "healthy"),
            Health::NotReady(why) => write!(f, "not ready: {why}"),
            Health::Silent(why) => write!(f, "silent: {why}"),
            Health::Unreachable(why) => write!(f, "unreachable: {why}"),
        }
    }
}

/// The table of control planes. Never empty: the baked ones stay whatever happens.
pub struct Pool {
    baked: Vec<SocketAddr>,
    table: Mutex<Table>,
}

struct Table {
    backends: Vec<Backend>,
    /// Where the next round begins.
    next: usize,
    /// Whether it was said that none is healthy.
    said_none: bool,
}

struct Backend {
    address: SocketAddr,
    health: Health,
    /// Wakes its probe early.
    look: Arc<Notify>,
    /// Tells its connections to end; they end too when it is dropped.
    cut: watch::Sender<()>,
    open: usize,
}

/// A control plane to connect to.
pub struct Candidate {
    /// Its API server.
    pub address: SocketAddr,
    /// Changes, or closes, when the connection has to end.
    pub cut: watch::Receiver<()>,
}

/// Counts one connection until it is dropped.
pub struct Open<'a> {
    pool: &'a Pool,
    address: SocketAddr,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(backend) = find(&mut self.pool.table().backends, self.address) {
            backend.open = backend.open.saturating_sub(1);
        }
    }
}

impl Pool {
    /// `first` is where the first connection goes: nodes that boot together shall not all begin with the same.
    pub fn new(mut baked: Vec<SocketAddr>, first: usize) -> Pool {
        baked.truncate(MOST_BACKENDS);
        let backends = baked.iter().copied().map(Backend::new).collect();
        Pool { baked, table: Mutex::new(Table { backends, next: first, said_none: false }) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every control plane, baked ones first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.table().backends.iter().map(|backend| backend.address).collect()
    }

    /// Sets what the API knows beside the baked ones; true if that changed anything. Connections to one that is
    /// known no longer are cut.
    pub fn learn(&self, learned: Vec<SocketAddr>) -> bool {
        let mut wanted = self.baked.clone();
        for address in learned {
            if !wanted.contains(&address) && wanted.len() < MOST_BACKENDS {
                wanted.push(address);
            }
        }
        let mut table = self.table();
        let before: Vec<SocketAddr> = table.backends.iter().map(|backend| backend.address).collect();
        if before == wanted {
            return false;
        }
        let mut old = std::mem::take(&mut table.backends);
        for address in wanted {
            let known = old.iter().position(|backend| backend.address == address);
            let backend = known.map(|at| old.swap_remove(at)).unwrap_or_else(|| {
                eprintln!("balancer: {address} is a further control plane");
                Backend::new(address)
            });
            table.backends.push(backend);
        }
        for gone in old {
            eprintln!("balancer: {} is no control plane any more", gone.address);
        }
        true
    }

    /// All control planes in the order in which to try them: the healthy ones from the one whose turn it is, then
    /// those not looked at yet, then the rest. A look may be wrong or old, and no connection is worse than a
    /// failed one.
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut table = self.table();
        let count = table.backends.len();
        let turn = table.next;
        table.next = turn.wrapping_add(1);
        let mut order: Vec<(u8, usize, usize)> = Vec::with_capacity(count);
        let healthy = table.backends.iter().filter(|b| b.health == Health::Healthy).count();
        let mut rank = 0;
        for (index, backend) in table.backends.iter().enumerate() {
            let class = backend.health.class();
            // Turns are taken among the healthy ones, so that the neighbour of a dead one gets no more than others.
            let (at, of) = if class == 0 { (rank, healthy) } else { (index, count) };
            rank += usize::from(class == 0);
            order.push((class, (at + of - turn % of) % of, index));
        }
        order.sort_unstable();
        let backends = &table.backends;
        order
            .into_iter()
            .map(|(_, _, index)| Candidate {
                address: backends[index].address,
                cut: backends[index].cut.subscribe(),
            })
            .collect()
    }

    /// Counts a connection as long as the answer lives.
    pub fn opened(&self, address: SocketAddr) -> Open<'_> {
        if let Some(backend) = find(&mut self.table().backends, address) {
            backend.open += 1;
        }
        Open { pool: self, address }
    }

    /// A connection to it failed: it is looked at soon.
    pub fn suspect(&self, address: SocketAddr) {
        if let Some(backend) = find(&mut self.table().backends, address)
            && backend.health == Health::Healthy
        {
            backend.look.notify_one();
        }
    }

    /// Wakes the probe of a control plane when it is suspected.
    pub fn look(&self, address: SocketAddr) -> Arc<Notify> {
        find(&mut self.table().backends, address).map(|b| Arc::clone(&b.look)).unwrap_or_default()
    }

    /// What a look showed. Connections to a control plane that does not answer are cut if there is another to go
    /// to, so that clients move instead of waiting for their own patience to end. Those to one that is not ready
    /// are cut if another is healthy: with all of them not ready (etcd has no leader) a cut would only make
    /// everybody come again.
    pub fn report(&self, address: SocketAddr, health: Health) {
        let mut table = self.table();
        let Table { backends, said_none, .. } = &mut *table;
        let another = backends.iter().any(|b| b.address != address && b.health == Health::Healthy);
        let elsewhere =
            backends.iter().any(|b| b.address != address && !matches!(b.health, Health::Unreachable(_)));
        let Some(backend) = find(backends, address) else { return };
        let changed = std::mem::discriminant(&backend.health) != std::mem::discriminant(&health);
        let cut = match health {
            Health::Unknown | Health::Healthy => false,
            Health::NotReady(_) | Health::Silent(_) => another && backend.open > 0,
            Health::Unreachable(_) => elsewhere && backend.open > 0,
        };
        if changed {
            let moved = if cut { format!("; cut {} connections", backend.open) } else { String::new() };
            eprintln!("balancer: {address} is {health}{moved}");
        }
        if cut {
            backend.cut.send_replace(());
        }
        backend.health = health;
        let none = backends.iter().all(|b| b.health.class() == LAST);
        if none && !*said_none {
            eprintln!("balancer: no control plane is healthy; connections try each of them");
        }
        *said_none = none;
    }

    /// The last look at it found it ready.
    pub fn is_healthy(&self, address: SocketAddr) -> bool {
        self.table().backends.iter().any(|one| one.address == address && one.health == Health::Healthy)
    }

    /// One line for each control plane.
    pub fn describe(&self) -> Vec<String> {
        let line = |b: &Backend| format!("{} {}, {} connections", b.address, b.health, b.open);
        self.table().backends.iter().map(line).collect()
    }
}

/// Class of the unhealthy.
const LAST: u8 = 2;

impl Health {
    /// Whom to try first.
    fn class(&self) -> u8 {
        match self {
            Health::Healthy => 0,
            Health::Unknown => 1,
            Health::NotReady(_) | Health::Silent(_) | Health::Unreachable(_) => LAST,
        }
    }
}

impl Backend {
    fn new(address: SocketAddr) -> Backend {
        Backend {
            address,
            health: Health::Unknown,
            look: Arc::default(),
            cut: watch::Sender::new(()),
            open: 0,
        }
    }
}

fn find(backends: &mut [Backend], address: SocketAddr) -> Option<&mut Backend> {
    backends.iter_mut().find(|backend| backend.address == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 20, 0, 10], port))
    }

    fn order(pool: &Pool) -> Vec<u16> {
        pool.candidates().iter().map(|candidate| candidate.address.port()).collect()
    }

    fn dead() -> Health {
        Health::Unreachable("refused".to_owned())
    }

    #[test]
    fn turns_go_round_among_the_healthy_and_the_rest_come_last() {
        let pool = Pool::new(vec![at(1), at(2), at(3), at(4)], 0);
        assert_eq!(order(&pool), [1, 2, 3, 4], "unknown ones are tried in turn too");
        for port in [1, 2, 4] {
            pool.report(at(port), Health::Healthy);
        }
        pool.report(at(3), dead());
        let firsts: Vec<u16> = (0..300).map(|_| order(&pool)[0]).collect();
        for port in [1, 2, 4] {
            assert_eq!(firsts.iter().filter(|first| **first == port).count(), 100);
        }
        assert!((0..4).all(|_| order(&pool)[3] == 3));
        for port in [1, 2, 4] {
            pool.report(at(port), Health::NotReady("etcd".to_owned()));
        }
        let mut all = order(&pool);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 4], "never an empty list");
    }

    #[test]
    fn nodes_begin_with_different_control_planes() {
        let firsts: Vec<u16> =
            (0..3).map(|first| order(&Pool::new(vec![at(1), at(2), at(3)], first))[0]).collect();
        assert_eq!(firsts, [1, 2, 3]);
        assert!(Pool::new(Vec::new(), usize::MAX).candidates().is_empty());
        assert_eq!(order(&Pool::new(vec![at(1)], usize::MAX)), [1]);
    }

    #[test]
    fn who_is_cut() {
        let pool = Pool::new(vec![at(1), at(2)], 0);
        pool.report(at(1), Health::Healthy);
        let mut candidates = pool.candidates();
        assert_eq!(candidates[0].address, at(1));
        let open = pool.opened(at(1));
        // Nobody to move to: left alone.
        pool.report(at(1), Health::NotReady("etcd".to_owned()));
        assert!(!candidates[0].cut.has_changed().unwrap());
        pool.report(at(2), Health::Healthy);
        pool.report(at(1), Health::NotReady("etcd".to_owned()));
        assert!(candidates[0].cut.has_changed().unwrap(), "said again once there is another");
        candidates[0].cut.borrow_and_update();
        pool.report(at(1), dead());
        assert!(candidates[0].cut.has_changed().unwrap());
        assert!(!candidates[1].cut.has_changed().unwrap());
        assert_eq!(pool.describe()[0], "10.20.0.10:1 unreachable: refused, 1 connections");
        drop(open);
        assert_eq!(pool.describe()[0], "10.20.0.10:1 unreachable: refused, 0 connections");
    }

    #[test]
    fn connections_that_have_nowhere_to_go_stay() {
        let alone = Pool::new(vec![at(1)], 0);
        let candidates = alone.candidates();
        let _open = alone.opened(at(1));
        alone.report(at(1), dead());
        assert!(!candidates[0].cut.has_changed().unwrap(), "a single control plane, busy or gone");
        let pool = Pool::new(vec![at(1), at(2)], 0);
        let candidates = pool.candidates();
        let _open = pool.opened(at(1));
        pool.report(at(2), dead());
        pool.report(at(1), dead());
        assert!(!candidates[0].cut.has_changed().unwrap(), "the other is dead as well");
        pool.report(at(2), Health::NotReady("etcd".to_owned()));
        pool.report(at(1), dead());
        assert!(candidates[0].cut.has_changed().unwrap(), "the other answers again");
    }

    #[test]
    fn learned_ones_come_and_go_and_baked_ones_stay() {
        let pool = Pool::new(vec![at(1)], 0);
        pool.report(at(1), Health::Healthy);
        assert!(!pool.learn(vec![at(1)]));
        assert!(pool.learn(vec![at(2), at(1)]));
        assert_eq!(pool.addresses(), [at(1), at(2)]);
        assert_eq!(order(&pool), [1, 2], "health is kept");
        let candidates = pool.candidates();
        assert!(pool.learn(vec![at(3)]));
        assert_eq!(pool.addresses(), [at(1), at(3)]);
        assert!(candidates[1].cut.has_changed().is_err(), "cut with it");
        assert!(pool.learn((10..1000).map(at).collect()));
        assert_eq!(pool.addresses().len(), MOST_BACKENDS);
        // Of one that is gone nothing is kept, and nothing is wrong with hearing of it.
        pool.report(at(3), dead());
        pool.suspect(at(3));
        drop(pool.opened(at(3)));
    }
}
