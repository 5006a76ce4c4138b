//! Nodes with a pod each, on switches of a namespace that is also the router between them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bootwright_model::cluster::ClusterFile;
use bootwright_model::families::Family;
use bootwright_model::kubernetes::component_below;
use bootwright_model::node::NodeFacts;
use network_namespaces::Namespace;
use serde_json::{Value, json};

use super::bird::{Bird, Program, eventually};
use super::places::{address, digit, global, link_length, nodad, plug, pod, range};

/// A node, its pod, and its BIRD while it runs.
pub struct Node {
    pub families: &'static [Family],
    pub number: u8,
    pub net: Namespace,
    pub pod: Namespace,
    pub bird: Option<Bird>,
    network: u8,
    root: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
}

/// Switches `10.20.0.0/24` and `10.30.0.0/24` (`fd00:20::/64` and `fd00:30::/64`) with a router between: the first
/// address of each.
pub struct Fabric {
    pub families: &'static [Family],
    pub net: Namespace,
}

impl Fabric {
    pub fn new(families: &'static [Family]) -> Fabric {
        let net = Namespace::new();
        for network in [20, 30] {
            net.ip(&format!("link add br{network} type bridge"));
            plug(families, &net, &format!("br{network}"), network, 1);
        }
        Fabric { families, net }
    }

    /// A namespace with `eth0` on a switch, as the node with this number.
    pub fn machine(&self, network: u8, number: u8) -> Namespace {
        let net = Namespace::new();
        self.net.ip(&format!("link add p{number} type veth peer name eth0 netns {}", net.path()));
        self.net.ip(&format!("link set p{number} master br{network} up"));
        plug(self.families, &net, "eth0", network, number);
        net
    }

    /// A node as its first boot leaves it, by the cluster file that its image has. Its BIRD does not run yet.
    pub fn node(&self, scratch: &Path, network: u8, number: u8, file: &ClusterFile) -> Node {
        let families = self.families;
        let (net, pod_net) = (self.machine(network, number), Namespace::new());
        net.ip(&format!("link add veth0 type veth peer name eth0 netns {}", pod_net.path()));
        net.ip("link set veth0 up");
        pod_net.ip("link set eth0 up");
        for family in families.iter().copied() {
            net.ip(&format!("route add default via {}", address(family, network, 1)));
            let ((own, length), nodad) = (pod(family, number, 1), nodad(family));
            net.ip(&format!("address add {own}/{length} dev veth0{nodad}"));
            pod_net.ip(&format!("address add {}/{length} dev eth0{nodad}", pod(family, number, 2).0));
            pod_net.ip(&format!("route add default via {own}"));
        }

        let each = |value: &dyn Fn(Family) -> String| families.iter().copied().map(value).collect::<Vec<_>>();
        let facts: NodeFacts = serde_json::from_value(json!({
            "name": format!("n{number}"),
            "address": each(&|family| format!("{}/{}", address(family, network, number), link_length(family))),
            "gateway": each(&|family| address(family, network, 1).to_string()),
            "link": "eth0",
            "pod-cidr": each(&|family| range(family, number)),
            "layer": { "file": file, "role": "worker", "epoch": 0, "root-hash": "00" },
            "os": { "kernel-release": "6.1.0", "kubernetes": "1.20.2", "containerd": "1.6.20", "etcd": "",
                    "pause-image": "bootwright.local/pause:1", "images": [] },
        }))
        .unwrap();
        let root = scratch.join(format!("n{number}"));
        let component = component_below(root.to_str().unwrap(), "bird", &facts).unwrap();
        for file in &component.files {
            std::fs::create_dir_all(Path::new(&file.path).parent().unwrap()).unwrap();
            std::fs::write(&file.path, &file.contents).unwrap();
        }
        let (log, arguments) = (root.join("log"), component.arguments);
        Node { families, number, net, pod: pod_net, bird: None, network, root, arguments, log }
    }
}

impl Node {
    /// With the command that `firstboot bird` becomes.
    pub fn start(&mut self, program: &Program) {
        let flags = self.arguments.iter().map(OsString::from);
        let arguments: Vec<OsString> = std::iter::once(program.path().into()).chain(flags).collect();
        let command = firstboot::network::bird::command(&self.root, &arguments).unwrap();
        self.bird = Some(program.start(&self.net, command, &self.log));
    }

    /// BIRD's routes: range to the gateway and the source, or to the type of one without.
    pub fn routes(&self) -> BTreeMap<String, String> {
        let word = |route: &Value, name: &str| route[name].as_str().unwrap_or_default().to_owned();
        let mut routes = BTreeMap::new();
        for family in self.families {
            let shown = self.net.ip(&format!("-{} -N route show proto 12", digit(*family)));
            for route in shown.as_array().into_iter().flatten() {
                let way = match route["type"].as_str() {
                    // RTN_UNREACHABLE: rtnetlink(7).
                    Some("7" | "unreachable") => "unreachable".to_owned(),
                    _ => format!("{} from {}", global(&word(route, "gateway")), word(route, "prefsrc")),
                };
                routes.insert(word(route, "dst"), way);
            }
        }
        routes
    }

    /// Waits until it has these routes to pods and no others, in each family: number of a node to the place of the
    /// gateway, a network and the number there.
    pub fn expect(&mut self, wanted: &[(u8, (u8, u8))]) {
        let wanted = wanted.iter().flat_map(|(number, (network, gateway))| {
            let of =
                |family: &Family| (*family, range(*family, *number), address(*family, *network, *gateway));
            self.families.iter().map(of)
        });
        self.expect_ranges(&wanted.collect::<Vec<_>>());
    }

    /// The same for any ranges.
    pub fn expect_ranges(&mut self, wanted: &[(Family, String, IpAddr)]) {
        let own = |family: Family| address(family, self.network, self.number);
        let mut expected: BTreeMap<String, String> = wanted
            .iter()
            .map(|(family, range, gateway)| (range.clone(), format!("{gateway} from {}", own(*family))))
            .collect();
        for family in self.families {
            expected.insert(range(*family, self.number), "unreachable".to_owned());
        }
        let mut last = BTreeMap::new();
        let what = format!("n{} has {expected:?}", self.number);
        let came = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(&what, || {
                if let Some(bird) = &mut self.bird {
                    bird.assert_alive();
                }
                last = self.routes();
                last == expected
            });
        }));
        if let Err(panic) = came {
            println!(
                "n{} has {last:?}\n{}",
                self.number,
                self.bird.as_ref().map(Bird::said).unwrap_or_default()
            );
            std::panic::resume_unwind(panic);
        }
    }

    /// The pod of this node and that of another reach each other.
    pub fn pods_reach_each_other(&self, other: &Node) {
        for family in self.families {
            for (from, to) in [(self, other), (other, self)] {
                let (address, _) = pod(*family, to.number, 2);
                assert!(from.pod.reaches(address), "n{}'s pod to {address}", from.number);
                assert!(from.net.reaches(address), "n{} itself to {address}", from.number);
            }
        }
    }

    /// Routes that are not BIRD's, as `ip` prints them.
    pub fn foreign(&self) -> String {
        let mut foreign = Vec::new();
        for family in self.families {
            let arguments = format!("-{} -N route show table all", digit(*family));
            let text = String::from_utf8(self.net.run("ip", &arguments).stdout).unwrap();
            // Nor the kernel's own, some of which come with the first packet.
            let lines = text.lines().filter(|line| !line.contains("proto 12 ") && !line.contains("proto 2 "));
            foreign.extend(lines.map(str::to_owned));
        }
        foreign.join("\n")
    }
}
