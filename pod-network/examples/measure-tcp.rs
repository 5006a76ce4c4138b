//! `measure-tcp SECONDS RUNS`: how much one TCP connection carries between two network namespaces: over the link
//! between them, over our VXLAN on it, and over one with flannel's settings made by hand, in turn, each in new
//! namespaces. Needs iperf3. Prints JSON, in bits per second of payload. An example, not a program: nothing of it
//! belongs into an image.

mod common;

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use bootwright_model::cluster::{Network, NetworkMode};
use common::{Result, become_root, run};
use network_namespaces::Namespace;
use pod_network::{Own, Peer, PodNetwork, Settings, Wanted};

/// Bytes of a packet on the link, as of most networks, and as of a cluster file that does not say.
const LINK_MTU: u32 = 1500;
/// Left out at the beginning, in which the connection gathers speed.
const OMITTED_SECONDS: u32 = 1;

/// Flannel's VXLAN backend, as its documentation (Documentation/backends.md) and its devices say: VNI 1, Linux'
/// own port, no learning, fixed to the link; the MTU of the link less 50; checksum offload as the kernel has it. Its
/// address is the first of the node's range, alone.
const FLANNEL: [&str; 3] = [
    "ip link add flannel.1 address {mac} mtu 1450 type vxlan id 1 dev eth0 local {local} dstport 8472 nolearning",
    "ip address add {own}/32 dev flannel.1",
    "ip link set flannel.1 up",
];
/// What flannel sets for each other node.
const FLANNEL_PEER: [&str; 3] = [
    "ip neighbour replace {peer} lladdr {peer-mac} dev flannel.1 nud permanent",
    "bridge fdb replace {peer-mac} dev flannel.1 dst {remote} self permanent",
    "ip route replace {peer-range} via {peer} dev flannel.1 onlink",
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, seconds, runs] = &arguments[..] else { return Err("measure-tcp SECONDS RUNS".into()) };
    become_root()?;
    let seconds = seconds.parse()?;
    let mut measured = Vec::new();
    for run in 0..runs.parse::<u16>()? {
        let mut figures = serde_json::Map::new();
        // Each is first in turn: what the machine does besides is no question of the order.
        for turn in 0..WAYS.len() {
            let Way { name, address, prepare } = WAYS[(usize::from(run) + turn) % WAYS.len()];
            figures.insert(name.to_owned(), measure(seconds, address, prepare)?.into());
        }
        measured.push(figures.into());
    }
    println!("{}", serde_json::Value::Array(measured));
    Ok(())
}

/// What is measured.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    /// Of a side, where it sends from and to.
    address: fn(Side) -> Ipv4Addr,
    /// Done on a side, told which is the other.
    prepare: fn(Side, Side) -> Result<()>,
}

const WAYS: [Way; 3] = [
    Way { name: "link", address: Side::link, prepare: |_, _| Ok(()) },
    Way { name: "ours", address: Side::pods, prepare: ours },
    Way { name: "flannel", address: Side::pods, prepare: flannel },
];

/// One of the two nodes.
#[derive(Clone, Copy)]
struct Side(u8);

impl Side {
    const BOTH: [Side; 2] = [Side(1), Side(2)];

    fn name(self) -> String {
        format!("n{}", self.0)
    }

    /// Its address on the link.
    fn link(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 20, 0, self.0)
    }

    /// The first address of its range of pods, which its VXLAN device has.
    fn pods(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 10, self.0, 0)
    }

    fn range(self) -> String {
        format!("{}/24", self.pods())
    }

    fn mac(self) -> String {
        format!("02:00:00:00:00:0{}", self.0)
    }
}

/// Bits per second from the first to the second side; see [`Way`].
fn measure(
    seconds: u32,
    address: fn(Side) -> Ipv4Addr,
    prepare: fn(Side, Side) -> Result<()>,
) -> Result<f64> {
    let [here, there] = [Namespace::new(), Namespace::new()];
    here.enter(|| {
        let far = format!("peer name eth0 mtu {LINK_MTU} netns {}", there.path());
        run(&format!("ip link add eth0 mtu {LINK_MTU} type veth {far}"))
    })?;
    let [one, two] = Side::BOTH;
    for (namespace, side, other) in [(&here, one, two), (&there, two, one)] {
        namespace.enter(|| {
            run(&format!("ip address add {}/24 dev eth0", side.link()))?;
            run("ip link set eth0 up")?;
            prepare(side, other)
        })?;
    }
    let server = there.enter(|| Server::start(address(two)))?;
    let measured = here.enter(|| client(address(one), address(two), seconds));
    drop(server);
    measured
}

/// As first boot makes it, from a cluster file that says nothing of the network but its mode.
fn ours(own: Side, other: Side) -> Result<()> {
    let own = Own {
        name: own.name(),
        addresses: vec![format!("{}/24", own.link()).parse()?],
        pod_cidrs: vec![own.range().parse()?],
        cluster_cidrs: Vec::new(),
    };
    let peer = Peer {
        since: Peer::EXPECTED,
        name: other.name(),
        addresses: vec![other.link().into()],
        pod_cidrs: vec![other.range().parse()?],
    };
    let settings = Settings::from(&Network { mode: NetworkMode::Vxlan, ..Network::default() });
    let wanted = Wanted::from_peers(&own, &settings, &[peer]);
    let outcome = PodNetwork::open()?.reconcile("eth0", &wanted)?;
    match outcome.failures.into_iter().next() {
        Some(failure) => Err(failure.into()),
        None => Ok(()),
    }
}

fn flannel(own: Side, other: Side) -> Result<()> {
    let values = [
        ("{mac}", own.mac()),
        ("{local}", own.link().to_string()),
        ("{own}", own.pods().to_string()),
        ("{peer}", other.pods().to_string()),
        ("{peer-mac}", other.mac()),
        ("{peer-range}", other.range()),
        ("{remote}", other.link().to_string()),
    ];
    let filled = |command: &str| {
        values.iter().fold(command.to_owned(), |command, (name, value)| command.replace(name, value))
    };
    FLANNEL.iter().chain(&FLANNEL_PEER).try_for_each(|command| run(&filled(command)))
}

/// An iperf3 that waits for one client; ended with this.
struct Server(Child);

impl Server {
    fn start(address: Ipv4Addr) -> Result<Server> {
        let mut command = Command::new("iperf3");
        command.args(["--server", "--one-off", "--forceflush", "--bind", &address.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut server = Server(child.map_err(|error| format!("cannot start iperf3: {error}"))?);
        let mut said = BufReader::new(server.0.stdout.take().ok_or("no output of iperf3")?).lines();
        let mut lines = said.by_ref().map_while(std::result::Result::ok);
        if !lines.any(|line| line.contains("listening")) {
            return Err(format!("iperf3 does not listen on {address}").into());
        }
        // What it says later is read, so that it is not ended by a closed pipe.
        std::thread::spawn(move || said.for_each(drop));
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended by itself if there was a client.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn client(own: Ipv4Addr, server: Ipv4Addr, seconds: u32) -> Result<f64> {
    let mut command = Command::new("iperf3");
    command.args(["--client", &server.to_string(), "--bind", &own.to_string(), "--json"]);
    command.args(["--time", &seconds.to_string(), "--omit", &OMITTED_SECONDS.to_string()]);
    let output = command.output().map_err(|error| format!("cannot start iperf3: {error}"))?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let received = &report["end"]["sum_received"]["bits_per_second"];
    received.as_f64().ok_or_else(|| format!("iperf3 to {server}: {}", report["error"]).into())
}
