//! `measure-pods PEERS RUNS`: how long the pod network takes to program so many VXLAN peers, and how long `ip -batch`
//! and `bridge -batch` take for the same entries, in turn, each in a new network namespace. Prints JSON, times in
//! milliseconds. An example, not a program: nothing of it belongs into an image.

mod common;

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

use common::{Result, become_root, run};
use network_namespaces::Namespace;
use pod_network::{Difference, Entry, Family, Mode, Overlay, Own, Peer, PodNetwork, Settings, Wanted};

/// A link as a node has it.
const LINK: [&str; 3] = [
    "ip link add eth0 type veth peer name far",
    "ip address add 10.200.255.1/16 dev eth0",
    "ip link set eth0 up",
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, peers, runs] = &arguments[..] else { return Err("measure-pods PEERS RUNS".into()) };
    become_root()?;
    let wanted = wanted(peers.parse()?);
    let mut measured = Vec::new();
    for _ in 0..runs.parse::<u16>()? {
        let (programmed, no_change) = in_namespace(|| ours(&wanted))?;
        let plain = in_namespace(|| batch(&wanted, false))?;
        let metrics = in_namespace(|| batch(&wanted, true))?;
        measured.push(serde_json::json!({
            "programmed": programmed, "no-change": no_change,
            "ip-batch": plain, "ip-batch-metrics": metrics,
        }));
    }
    println!("{}", serde_json::Value::Array(measured));
    Ok(())
}

/// Peers as a cluster of this size has them: consecutive ranges and addresses.
fn wanted(count: u32) -> Wanted {
    let own = Own {
        name: "node-0".to_owned(),
        addresses: vec!["10.200.255.1/16".parse().expect("well formed")],
        pod_cidrs: vec!["10.10.0.0/24".parse().expect("well formed")],
        cluster_cidrs: Vec::new(),
    };
    let peer = |number: u32| {
        let range = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 0)) + (number << 8));
        Peer {
            since: 1,
            name: format!("node-{number}"),
            addresses: vec![Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 200, 0, 0)) + number).into()],
            pod_cidrs: vec![ipnet::Ipv4Net::new(range, 24).expect("24 is a prefix length").into()],
        }
    };
    let peers: Vec<Peer> = (1..=count).map(peer).collect();
    let settings = Settings { mode: Mode::Vxlan, overlay: Overlay { vni: 4096, port: 4789 } };
    Wanted::from_peers(&own, &settings, &peers)
}

/// Does something in a new namespace with a link.
fn in_namespace<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    Namespace::new().enter(|| {
        LINK.into_iter().try_for_each(run)?;
        work()
    })
}

/// From nothing to all entries, the device included, and once more without a change.
fn ours(wanted: &Wanted) -> Result<(f64, f64)> {
    let begin = Instant::now();
    let outcome = PodNetwork::open()?.reconcile("eth0", wanted)?;
    let programmed = milliseconds(begin);
    let count = wanted.routes.len() + wanted.neighbours.len() + wanted.forwarding.len();
    if outcome.set != count || !outcome.failures.is_empty() {
        return Err(format!("{} of {count} entries were set", outcome.set).into());
    }
    let begin = Instant::now();
    let again = PodNetwork::open()?.reconcile("eth0", wanted)?;
    let no_change = milliseconds(begin);
    if again.is_unchanged() {
        Ok((programmed, no_change))
    } else {
        Err("the second time changed something".into())
    }
}

/// The same entries by the programs; the device is not measured.
fn batch(wanted: &Wanted, metrics: bool) -> Result<f64> {
    let bare = Wanted { devices: wanted.devices.clone(), ..Wanted::default() };
    let mut network = PodNetwork::open()?;
    network.reconcile("eth0", &bare)?;
    let difference = Difference::between(wanted, &network.present("eth0")?);
    let mut lines = [String::new(), String::new(), String::new()];
    for entry in difference.entries() {
        match entry {
            Entry::Neighbour { device: Family::V4, address, mac } => {
                lines[0] +=
                    &format!("neighbour replace {address} lladdr {mac} dev vxlan-pods4 nud permanent\n")
            }
            Entry::Forwarding { device: Family::V4, mac, remote } => {
                lines[1] += &format!("fdb replace {mac} dev vxlan-pods4 dst {remote} self permanent\n")
            }
            Entry::Route { destination, metric, hop: Some(hop) } => {
                lines[2] += &format!(
                    "route replace {destination} via {} dev vxlan-pods4 onlink src {} proto 98",
                    hop.gateway, hop.source
                );
                lines[2] += &if metrics { format!(" metric {metric}\n") } else { "\n".to_owned() };
            }
            other => return Err(format!("{other} is not IPv4").into()),
        }
    }
    let folder = std::env::temp_dir().join(format!("measure-pods.{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let measured = run_batches(&folder, &lines);
    fs::remove_dir_all(&folder)?;
    let count =
        if metrics { Difference::between(wanted, &network.present("eth0")?).entries().count() } else { 0 };
    if count == 0 { measured } else { Err(format!("{count} entries are not what we would have set").into()) }
}

fn run_batches(folder: &Path, lines: &[String; 3]) -> Result<f64> {
    let mut total = 0.0;
    for (program, lines) in ["ip", "bridge", "ip"].into_iter().zip(lines) {
        let path = folder.join(program);
        fs::write(&path, lines)?;
        let begin = Instant::now();
        run(&format!("{program} -batch {}", path.display()))?;
        total += milliseconds(begin);
    }
    Ok(total)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
