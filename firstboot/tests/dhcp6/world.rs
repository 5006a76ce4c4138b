//! A machine, and another one on its link that is router and DHCP server: two network namespaces and a cable.

use std::fs::{self, File};
use std::net::Ipv6Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bootwright_model::baked::{ClusterLayer, OsRelease};
use bootwright_model::node::NodeFacts;
use firstboot::identity::Identity;
use firstboot::identity::machine::Machine;
use firstboot::network::dhcp6::keep::Keeper;
use firstboot::network::dhcp6::kept::Kept;
use firstboot::network::resolvers::{self, Said};
use firstboot::stages::Done;
use firstboot::stages::identity::Known;
use firstboot::stages::network::{self, NetworkError};
use network_namespaces::Namespace;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Of the machine's link.
pub const MAC: &str = "52:54:00:09:00:01";
/// What the kernel makes of it in fd00:9::/64.
pub const MADE: &str = "fd00:9::5054:ff:fe09:1";
/// Of its second link.
pub const SECOND: &str = "52:54:00:09:00:02";
/// Longer than anything here takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The two machines.
pub struct World {
    /// The one that gets an address, on `eth0`.
    pub machine: Namespace,
    /// fd00:9::1 and 10.9.0.1 on `srv`.
    pub other: Namespace,
    root: TempDir,
}

impl World {
    /// Both, with the cable in.
    pub fn new() -> World {
        let world =
            World { machine: Namespace::new(), other: Namespace::new(), root: tempfile::tempdir().unwrap() };
        world.cable("eth0", MAC, &world.other, "srv");
        world.other.ip("address add 10.9.0.1/24 dev srv");
        world.other.ip("address add fd00:9::1/64 dev srv nodad");
        world.other.ip("link set srv up");
        fs::create_dir_all(world.root().join("dev")).unwrap();
        File::create(world.root().join("dev/console")).unwrap();
        // The kernel's parameters are those of the namespace that is asked from.
        std::os::unix::fs::symlink("/proc", world.root().join("proc")).unwrap();
        // The host's kernel makes bridges by itself.
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let modules = world.root().join("usr/lib/modules").join(release);
        fs::create_dir_all(&modules).unwrap();
        for (file, text) in [("dep", ""), ("alias", ""), ("builtin", "kernel/net/bridge/bridge.ko\n")] {
            fs::write(modules.join(format!("modules.{file}")), text).unwrap();
        }
        world
    }

    /// A cable from a link of the machine, with a MAC address, to one of another machine.
    fn cable(&self, link: &str, mac: &str, other: &Namespace, to: &str) {
        let there = self.machine.path();
        other.ip(&format!("link add {to} type veth peer name {link} address {mac} netns {there}"));
    }

    /// A cable from `eth1` of the machine to another network, of a machine with fd00:8::1 on `srv`.
    pub fn further(&self) -> Network {
        let other = Namespace::new();
        self.cable("eth1", SECOND, &other, "srv");
        other.ip("address add fd00:8::1/64 dev srv nodad");
        other.ip("link set srv up");
        Network(other)
    }

    /// What is `/` to first boot.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A file of it.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path.trim_start_matches('/'))).unwrap()
    }

    /// A node that nobody gives an address.
    pub fn identity() -> Identity {
        Identity {
            name: "w9".to_owned(),
            address: None,
            gateway: None,
            mac: None,
            pod_cidr: "fd00:10:0:9::/64".parse().ok(),
            provider_id: None,
            links: Vec::new(),
            time_servers: None,
            sources: Vec::new(),
        }
    }

    /// Runs the stage as a node of a cluster with IPv6 alone. There is nothing that it has to go on without.
    pub fn stage(&self) -> Result<(NodeFacts, String), NetworkError> {
        let done = self.run(World::identity(), "fd00:10::/56")?;
        assert_eq!(done.problems, []);
        Ok((done.value, done.summary))
    }

    /// Runs the stage as any node, in a cluster with these ranges of pods.
    pub fn run(&self, identity: Identity, pods: &str) -> Result<Done<NodeFacts>, NetworkError> {
        let (layer, os) = baked(pods);
        // As the stage identity leaves it.
        let described = Said::by(&identity.links);
        resolvers::say(self.root(), resolvers::DESCRIBED, &described, &layer.file.network.resolvers).unwrap();
        let known = Known { identity, machine: Machine::default(), layer, os };
        self.machine.enter(|| network::run(self.root(), known))
    }

    /// The service, about to take up what is there.
    pub fn keeper(&self, facts: &NodeFacts) -> Keeper {
        let kept = Kept::own(self.root()).unwrap().expect("the node has found an address");
        self.machine.enter(|| Keeper::of(self.root(), facts, kept))
    }

    /// The service on all links, in their order, about to take up what is there.
    pub fn keepers(&self, facts: &NodeFacts) -> Vec<Keeper> {
        let all = Kept::all(self.root()).unwrap();
        self.machine.enter(|| all.into_iter().map(|kept| Keeper::of(self.root(), facts, kept)).collect())
    }

    /// The IPv6 addresses of `eth0` that others can reach, as `ip` shows them.
    pub fn addresses(&self) -> Vec<Value> {
        self.addresses_of("eth0")
    }

    /// Those of a link.
    pub fn addresses_of(&self, link: &str) -> Vec<Value> {
        listed(&self.machine.ip(&format!("-6 address show dev {link} scope global")))
    }

    /// IPv6 default routes: link and metric, the one that counts first.
    pub fn ways_out(&self) -> Vec<(String, u64)> {
        let routes = self.machine.ip("-6 route show default");
        let routes = routes.as_array().unwrap().iter();
        let way = |route: &Value| (route["dev"].as_str()?.to_owned(), route["metric"].as_u64()?).into();
        routes.filter_map(way).collect()
    }

    /// Whether `eth0` has an address.
    pub fn has(&self, address: impl ToString) -> bool {
        let address = address.to_string();
        self.addresses().iter().any(|one| one["local"] == address.as_str())
    }

    /// The next hops of the default route.
    pub fn gateways(&self) -> Vec<String> {
        let routes = self.machine.ip("-6 route show default");
        let routes = routes.as_array().unwrap().iter();
        routes.map(|route| route["gateway"].as_str().unwrap_or("none").to_owned()).collect()
    }

    /// The link-local address of the other machine, which it announces itself by.
    pub fn router(&self) -> Ipv6Addr {
        let shown = listed(&self.other.ip("-6 address show dev srv scope link"));
        shown[0]["local"].as_str().unwrap().parse().unwrap()
    }

    /// dnsmasq with these options, which knows nobody yet.
    pub fn dnsmasq(&self, options: &[&str]) -> Server {
        dnsmasq(&self.other, options)
    }

    /// radvd with these words about `srv`.
    pub fn radvd(&self, words: &str) -> Server {
        radvd(&self.other, words)
    }
}

/// Another network of the machine's, with the other machine in it.
pub struct Network(pub Namespace);

impl Network {
    /// As in the first network.
    pub fn dnsmasq(&self, options: &[&str]) -> Server {
        dnsmasq(&self.0, options)
    }

    /// As in the first network.
    pub fn radvd(&self, words: &str) -> Server {
        radvd(&self.0, words)
    }
}

fn dnsmasq(namespace: &Namespace, options: &[&str]) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("dnsmasq");
    command.args(["--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--conf-file=/dev/null"]);
    command.args(["--port=0", "--interface=srv", "--except-interface=lo", "--bind-interfaces"]);
    command.args(["--no-ping", "--dhcp-authoritative", "--user=root", "--pid-file"]);
    command.arg(format!("--dhcp-leasefile={}", folder.path().join("leases").display())).args(options);
    start(namespace, command, folder)
}

fn radvd(namespace: &Namespace, words: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let (file, pid) = (folder.path().join("radvd.conf"), folder.path().join("pid"));
    fs::write(&file, format!("interface srv {{ AdvSendAdvert on; {words} }};\n")).unwrap();
    let mut command = Command::new("radvd");
    command.args(["--nodaemon", "--debug=1", "--logmethod=stderr"]);
    command.arg(format!("--config={}", file.display())).arg(format!("--pidfile={}", pid.display()));
    start(namespace, command, folder)
}

fn start(namespace: &Namespace, mut command: Command, folder: TempDir) -> Server {
    let program = command.get_program().to_string_lossy().into_owned();
    // An address that is still looked at by the kernel is none that can be spoken from.
    until("the router has its link-local address", || {
        let shown = namespace.ip("-6 address show dev srv");
        !shown.to_string().contains("tentative")
    });
    let log = File::create(folder.path().join("log")).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let process = namespace.enter(|| command.spawn());
    let process = process.unwrap_or_else(|_| panic!("{program} is installed (./run setup)"));
    Server { process, folder }
}

/// The addresses in what `ip -j address` shows, which has empty entries for what was asked for and is not there.
fn listed(shown: &Value) -> Vec<Value> {
    let links = shown.as_array().into_iter().flatten();
    let addresses = links.flat_map(|link| link["addr_info"].as_array().cloned().unwrap_or_default());
    addresses.filter(|one| one["local"].is_string()).collect()
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A program; it ends when this is dropped.
pub struct Server {
    process: Child,
    folder: TempDir,
}

impl Server {
    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            println!("the server said\n{}", self.log());
        }
    }
}

/// A cluster that has no node `w9`.
pub fn baked(pods: &str) -> (ClusterLayer, OsRelease) {
    let ranges = |each: fn(&str) -> &'static str| pods.split(',').map(each).collect::<Vec<_>>();
    let services = ranges(|one| if one.contains(':') { "fd00:96::/112" } else { "10.96.0.0/16" });
    let of_cp1 = ranges(|one| if one.contains(':') { "fd00:9::c1/64" } else { "10.9.0.201/24" });
    let endpoint = if pods.starts_with("10") { "10.9.0.201" } else { "fd00:9::c1" };
    let layer = json!({
        "file": {
            "cluster": {
                "name": "harbor", "endpoint": endpoint, "pod-cidr": pods.split(',').collect::<Vec<_>>(),
                "service-cidr": services,
            },
            "kubernetes": { "version": "1.20.2" },
            "network": { "resolvers": ["fd00:20::53"] },
            "node": [{ "name": "cp1", "role": "control-plane", "address": of_cp1 }],
        },
        "role": "worker", "epoch": 0, "root-hash": "00",
    });
    let os = json!({
        "kernel-release": "6.1.0", "kubernetes": "1.20.2", "containerd": "1.6.20", "etcd": "3.4.23",
        "pause-image": "bootwright.local/pause:1", "images": [],
    });
    (serde_json::from_value(layer).unwrap(), serde_json::from_value(os).unwrap())
}
