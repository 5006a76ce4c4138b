//! Agents as they are, on an API server in memory: calls arrive, are refused, get lost and come late in whatever order,
//! while Nodes come, change and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use bootwright_model::addresses::overlaps;
use http::Method;
use ipnet::IpNet;
use kube::Api;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::super::{Giver, TRIES};
use super::pools;
use super::server::{Server, Shared, client};
use crate::election::Election;
use crate::election::lease::Lease;
use bootwright_model::agent::{POD_CIDR_LEASE, WANTS_POD_CIDR};

const AGENTS: usize = 3;
/// Few, so that they are after the same ranges.
const STRANGERS: usize = 3;
/// Eight ranges, of which two are the cluster file's nodes'.
const POD_CIDR: &str = "10.10.0.0/21";
/// Of the cluster file's nodes.
const INVENTORY: [&str; 2] = ["10.10.0.0/24", "10.10.2.0/24"];
/// What strangers ask for: anything; what is free, or another's; a described node's; no range of this cluster.
const WISHES: [&str; 5] = ["true", "10.10.5.0/24", "10.10.7.0/24", "10.10.2.0/24", "10.99.0.0/24"];

#[derive(Debug, Clone, Copy)]
enum Move {
    /// A stranger's Node turns up with a wish, or goes.
    Stranger(usize, usize),
    /// The Node of the cluster file's worker turns up with its range, or goes.
    Described,
    /// A kubelet writes its Node's status.
    Status(usize),
    /// So many calls of an agent arrive, one after the other, and are answered. The others stand still meanwhile.
    Go(usize, usize),
    /// A call arrives whose caller may not wait any more.
    Arrive(usize),
    /// A call arrives, and the answer is lost.
    Unanswered(usize),
    /// The connection is lost; the call may arrive later.
    Cut(usize),
    /// An agent is ended, and starts again.
    Restart(usize),
}

/// The agents and what they talk to.
struct World {
    server: Shared,
    /// Those that were not ended.
    agents: Vec<JoinHandle<()>>,
    /// Of each agent: how many of its calls this round has had answered, and the most of any round.
    calls: [(Arc<AtomicUsize>, Arc<AtomicUsize>); AGENTS],
}

impl World {
    fn new() -> World {
        let mut world = World { server: Shared::default(), agents: Vec::new(), calls: Default::default() };
        for agent in 0..AGENTS {
            let handle = world.begin(agent);
            world.agents.push(handle);
        }
        world
    }

    /// An agent, which begins a round when one has ended. Leases end at once: any agent takes the Lease from any other.
    fn begin(&self, agent: usize) -> JoinHandle<()> {
        let (client, name) = (client(&self.server, agent), format!("cp{agent}"));
        let mut giver = Giver {
            lease: Lease::new(client.clone(), POD_CIDR_LEASE, &name, Duration::ZERO),
            election: Election::new(&name, Duration::ZERO),
            nodes: Api::all(client),
            pools: pools(POD_CIDR),
            said: Default::default(),
        };
        let (calls, most) = self.calls[agent].clone();
        tokio::spawn(async move {
            loop {
                calls.store(0, Ordering::Relaxed);
                // A round that fails is tried again, as `give` does it after a while.
                let _ = giver.round().await;
                most.fetch_max(calls.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        })
    }

    /// Until each agent waits for an answer.
    async fn settle(&self) {
        for _ in 0..1000 {
            let waiting = |agent| {
                let server = self.server.lock().unwrap();
                server.calls.iter().any(|call| call.agent == agent && call.is_awaited())
            };
            if (0..self.agents.len()).all(waiting) {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("an agent does nothing");
    }

    /// The next call of an agent arrives.
    fn next(&self, agent: usize) {
        let mut server = self.server.lock().unwrap();
        let next = server.calls.iter().position(|call| call.agent == agent && call.is_awaited()).unwrap();
        let call = server.calls.remove(next);
        self.calls[agent].0.fetch_add(1, Ordering::Relaxed);
        server.arrive(call);
    }

    /// An agent alone goes on until something is so.
    async fn until(&self, agent: usize, done: impl Fn(&Server) -> bool) {
        for _ in 0..100 {
            self.settle().await;
            if done(&self.server.lock().unwrap()) {
                return;
            }
            self.next(agent);
        }
        panic!("it does not come to that: {:?}", self.server.lock().unwrap().nodes);
    }

    async fn act(&mut self, one: Move) {
        if let Move::Go(agent, calls) = one {
            for _ in 0..calls {
                self.settle().await;
                self.next(agent);
            }
        }
        let mut server = self.server.lock().unwrap();
        let count = server.calls.len();
        match one {
            Move::Stranger(number, wish) => {
                let name = format!("n{number}");
                if server.nodes.remove(&name).is_none() {
                    let wish = json!({ "metadata": { "annotations": { WANTS_POD_CIDR: WISHES[wish] } } });
                    server.put(&name, wish);
                }
            }
            Move::Described => {
                if server.nodes.remove("w1").is_none() {
                    server.put(
                        "w1",
                        json!({ "spec": { "podCIDR": INVENTORY[1], "podCIDRs": [INVENTORY[1]] } }),
                    );
                }
            }
            Move::Status(number) => {
                let name = format!("n{number}");
                if let Some(node) = server.nodes.get(&name).cloned() {
                    server.put(&name, node);
                }
            }
            Move::Go(..) => {}
            Move::Arrive(_) | Move::Unanswered(_) | Move::Cut(_) if count == 0 => {}
            Move::Arrive(which) | Move::Unanswered(which) => {
                let mut call = server.calls.remove(which % count);
                if matches!(one, Move::Unanswered(_)) {
                    call.cut();
                }
                self.calls[call.agent].0.fetch_add(1, Ordering::Relaxed);
                server.arrive(call);
            }
            Move::Cut(which) => server.calls[which % count].cut(),
            Move::Restart(agent) => {
                drop(server);
                self.agents[agent].abort();
                self.agents[agent] = self.begin(agent);
            }
        }
    }

    /// Whatever happened.
    fn check(&self) -> Result<(), TestCaseError> {
        let server = self.server.lock().unwrap();
        let mut all: Vec<(&str, IpNet)> = Vec::new();
        for (name, node) in &server.nodes {
            for range in ranges(node) {
                let taken = all.iter().find(|(_, other)| overlaps(other, &range));
                prop_assert!(taken.is_none(), "{range} is {name}'s and {taken:?}");
                let described = INVENTORY.iter().any(|other| overlaps(&other.parse().unwrap(), &range));
                prop_assert!(name == "w1" || !described, "{range} of the cluster file is {name}'s");
                all.push((name, range));
            }
        }
        // Looking, taking and giving back; the list; and all tries of every gift.
        let most = 3 + (STRANGERS + 1) + STRANGERS * (1 + 3 * TRIES);
        for (_, calls) in &self.calls {
            prop_assert!(calls.load(Ordering::Relaxed) <= most, "a round of {calls:?} calls");
        }
        Ok(())
    }

    /// The others are ended, and nothing goes wrong any more: everybody is served within as many calls as a few rounds have,
    /// whatever was begun by whom.
    async fn left_alone(&mut self) -> Result<(), TestCaseError> {
        for other in self.agents.drain(1..) {
            other.abort();
        }
        let mut made = 0;
        while self.waiting() > 0 {
            prop_assert!(
                made < 100,
                "{} Nodes still wait: {:?}",
                self.waiting(),
                self.server.lock().unwrap().nodes
            );
            self.settle().await;
            self.next(0);
            made += 1;
        }
        self.check()
    }

    fn waiting(&self) -> usize {
        let server = self.server.lock().unwrap();
        server.nodes.values().filter(|node| ranges(node).is_empty()).count()
    }
}

fn ranges(node: &Value) -> Vec<IpNet> {
    let ranges = node["spec"]["podCIDRs"].as_array().into_iter().flatten();
    ranges.map(|range| range.as_str().unwrap().parse().unwrap()).collect()
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let any = 0..1000_usize;
    let one = prop_oneof![
        3 => (0..STRANGERS, 0..WISHES.len()).prop_map(|(number, wish)| Move::Stranger(number, wish)),
        1 => Just(Move::Described),
        3 => (0..STRANGERS).prop_map(Move::Status),
        10 => (0..AGENTS, prop_oneof![1..4_usize, 10..30_usize]).prop_map(|(agent, calls)| Move::Go(agent, calls)),
        3 => any.clone().prop_map(Move::Arrive),
        1 => any.clone().prop_map(Move::Unanswered),
        2 => any.prop_map(Move::Cut),
        1 => (0..AGENTS).prop_map(Move::Restart),
    ];
    prop::collection::vec(one, 1..100)
}

/// Runs agents on one thread, in the order that the test says.
fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test)
}

/// Between two tries another takes the Lease and gives away what was to be given: the Node had gone by then, and is back.
#[test]
fn who_tries_again_looks_whether_the_lease_is_still_its_own() {
    run(async {
        let mut world = World::new();
        world.act(Move::Stranger(0, 0)).await;
        let calls = |method: Method| {
            move |server: &Server| server.calls.iter().any(|call| call.agent == 0 && call.method == method)
        };
        world.until(0, calls(Method::PATCH)).await;
        world.act(Move::Status(0)).await;
        world.next(0);
        world.until(0, calls(Method::GET)).await;
        for one in [Move::Stranger(0, 0), Move::Stranger(1, 0)] {
            world.act(one).await;
        }
        world.until(1, |server| !ranges(&server.nodes["n1"]).is_empty()).await;
        world.act(Move::Stranger(0, 0)).await;
        world.left_alone().await.unwrap();
        let server = world.server.lock().unwrap();
        let [first, second] = ["n0", "n1"].map(|name| ranges(&server.nodes[name])[0].to_string());
        assert_eq!([first.as_str(), second.as_str()], ["10.10.6.0/24", "10.10.7.0/24"]);
    });
}

/// A Node whose kubelet writes faster than it is read is left to a later round, and others are served.
#[test]
fn a_node_that_changes_all_the_time_keeps_nobody_waiting() {
    run(async {
        let mut world = World::new();
        for one in [Move::Stranger(0, 0), Move::Stranger(1, 0)] {
            world.act(one).await;
        }
        for _ in 0..100 {
            world.settle().await;
            world.act(Move::Status(0)).await;
            world.next(0);
            world.check().unwrap();
        }
        assert_eq!(ranges(&world.server.lock().unwrap().nodes["n1"]).len(), 1);
        assert_eq!(ranges(&world.server.lock().unwrap().nodes["n0"]).len(), 0);
        world.left_alone().await.unwrap();
    });
}

proptest! {
    // Each is hundreds of calls.
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_range_is_given_twice_and_everybody_gets_one(moves in moves()) {
        run(async {
            let mut world = World::new();
            for one in moves {
                world.settle().await;
                world.act(one).await;
                world.check()?;
            }
            world.left_alone().await
        })?;
    }
}
