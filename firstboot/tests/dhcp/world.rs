//! A machine, and another one on its link with the DHCP server: two network namespaces and a cable.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bootwright_model::baked::{ClusterLayer, OsRelease};
use bootwright_model::node::NodeFacts;
use firstboot::identity::Identity;
use firstboot::identity::machine::Machine;
use firstboot::network::dhcp::keep::Keeper;
use firstboot::network::dhcp::kept::Kept;
use firstboot::network::resolvers::{self, Said};
use firstboot::stages::Done;
use firstboot::stages::identity::Known;
use firstboot::stages::network::{self, NetworkError};
use network_namespaces::Namespace;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Of the machine's link.
pub const MAC: &str = "52:54:00:09:00:01";

/// The two machines.
pub struct World {
    /// The one that gets an address, on `eth0`.
    pub machine: Namespace,
    /// 10.9.0.1 on `srv`.
    pub other: Namespace,
    root: TempDir,
}

impl World {
    /// Both, with the cable in.
    pub fn new() -> World {
        let world =
            World { machine: Namespace::new(), other: Namespace::new(), root: tempfile::tempdir().unwrap() };
        world.cable("eth0", MAC, "srv");
        world.other.ip("address add 10.9.0.1/24 dev srv");
        world.other.ip("link set srv up");
        fs::create_dir_all(world.root().join("dev")).unwrap();
        File::create(world.root().join("dev/console")).unwrap();
        // The host's kernel makes bridges by itself.
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let modules = world.root().join("usr/lib/modules").join(release);
        fs::create_dir_all(&modules).unwrap();
        for (file, text) in [("dep", ""), ("alias", ""), ("builtin", "kernel/net/bridge/bridge.ko\n")] {
            fs::write(modules.join(format!("modules.{file}")), text).unwrap();
        }
        world
    }

    /// A cable from a link of the machine, with a MAC address, to one of the other; neither is up.
    pub fn cable(&self, link: &str, mac: &str, to: &str) {
        let there = self.machine.path();
        self.other.ip(&format!("link add {to} type veth peer name {link} address {mac} netns {there}"));
    }

    /// What is `/` to first boot.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A file of it.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path.trim_start_matches('/'))).unwrap()
    }

    /// Runs the stage as a node that nobody gives an address: its facts, and what the console says. There is nothing that
    /// it has to go on without.
    pub fn stage(&self) -> Result<(NodeFacts, String), NetworkError> {
        let done = self.run()?;
        assert_eq!(done.problems, []);
        Ok((done.value, done.summary))
    }

    /// The same, with the problems.
    pub fn run(&self) -> Result<Done<NodeFacts>, NetworkError> {
        self.run_as(World::identity())
    }

    /// A node that nobody gives an address.
    pub fn identity() -> Identity {
        Identity {
            name: "w9".to_owned(),
            address: None,
            gateway: None,
            mac: None,
            pod_cidr: "10.10.9.0/24".parse().ok(),
            provider_id: None,
            links: Vec::new(),
            time_servers: None,
            sources: Vec::new(),
        }
    }

    /// Runs the stage as any node.
    pub fn run_as(&self, identity: Identity) -> Result<Done<NodeFacts>, NetworkError> {
        let (layer, os) = baked();
        // As the stage identity leaves it.
        let described = Said::by(&identity.links);
        resolvers::say(self.root(), resolvers::DESCRIBED, &described, &layer.file.network.resolvers).unwrap();
        let known = Known { identity, machine: Machine::default(), layer, os };
        self.machine.enter(|| network::run(self.root(), known))
    }

    /// The service on the link of the node's address, about to take up the lease that is there.
    pub fn keeper(&self, facts: &NodeFacts) -> Keeper {
        let kept = Kept::own(self.root()).unwrap().expect("the node's address is lent");
        Keeper::of(self.root(), facts, kept)
    }

    /// The service on all links, in their order.
    pub fn keepers(&self, facts: &NodeFacts) -> Vec<Keeper> {
        let all = Kept::all(self.root()).unwrap();
        all.into_iter().map(|kept| Keeper::of(self.root(), facts, kept)).collect()
    }

    /// The IPv4 address of `eth0`, as `ip` shows it.
    pub fn address(&self) -> Option<Value> {
        self.machine.ip("-4 address show dev eth0")[0]["addr_info"].get(0).cloned()
    }

    /// A cable from a link of the machine to another network, of a machine of its own with 10.`number`.0.1 on `srv`.
    pub fn further(&self, link: &str, mac: &str, number: u8) -> Network {
        let namespace = Namespace::new();
        let there = self.machine.path();
        namespace.ip(&format!("link add srv type veth peer name {link} address {mac} netns {there}"));
        namespace.ip(&format!("address add 10.{number}.0.1/24 dev srv"));
        namespace.ip("link set srv up");
        Network { namespace, number }
    }

    /// A DHCP server with these options, which knows nobody yet.
    pub fn server(&self, options: &[&str]) -> Server {
        Server::start(&self.other, options)
    }

    /// The first IPv4 address of a link.
    pub fn address_of(&self, link: &str) -> Option<String> {
        let address = &self.machine.ip(&format!("-4 address show dev {link}"))[0]["addr_info"][0]["local"];
        address.as_str().map(str::to_owned)
    }

    /// Default routes: link, next hop and metric, the one that counts first.
    pub fn ways_out(&self) -> Vec<(String, String, u64)> {
        let routes = self.machine.ip("-4 route show default");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let routes = routes.as_array().unwrap().iter();
        routes
            .map(|route| {
                (text(&route["dev"]), text(&route["gateway"]), route["metric"].as_u64().unwrap_or(0))
            })
            .collect()
    }
}

/// Another network of the machine's.
pub struct Network {
    /// The other machine in it.
    pub namespace: Namespace,
    number: u8,
}

impl Network {
    /// A DHCP server that lends 10.`number`.0.50 to 60, is a router and a resolver, and is asked for more after three seconds,
    /// with further options.
    pub fn server(&self, options: &[&str]) -> Server {
        let number = self.number;
        let usual = [
            format!("--dhcp-range=10.{number}.0.50,10.{number}.0.60,255.255.255.0,120"),
            format!("--dhcp-option=option:dns-server,10.{number}.0.2"),
            format!("--dhcp-option=option:ntp-server,10.{number}.0.3"),
            // The least that dnsmasq takes for T1.
            "--dhcp-option=option:T1,3".to_owned(),
            "--dhcp-option=option:T2,100".to_owned(),
        ];
        let all: Vec<&str> = usual.iter().map(String::as_str).chain(options.iter().copied()).collect();
        Server::start(&self.namespace, &all)
    }
}

/// dnsmasq; it ends when this is dropped.
pub struct Server {
    process: Child,
    folder: TempDir,
}

impl Server {
    /// On `srv` of a namespace.
    fn start(namespace: &Namespace, options: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--conf-file=/dev/null"]);
        command.args(["--port=0", "--interface=srv", "--except-interface=lo", "--bind-interfaces"]);
        // It would look for three seconds whether an address is in use before it lends it.
        command.args(["--no-ping", "--dhcp-authoritative", "--user=root", "--pid-file"]);
        command.arg(format!("--dhcp-leasefile={}", folder.path().join("leases").display())).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let process = namespace.enter(|| command.spawn()).expect("dnsmasq is installed (./run setup)");
        Server { process, folder }
    }

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
fn baked() -> (ClusterLayer, OsRelease) {
    let layer = json!({
        "file": {
            "cluster": {
                "name": "harbor", "endpoint": "10.20.0.10", "pod-cidr": "10.10.0.0/16",
                "service-cidr": "10.96.0.0/16",
            },
            "kubernetes": { "version": "1.20.2" },
            "network": { "resolvers": ["10.20.0.53"] },
            "node": [{ "name": "cp1", "role": "control-plane", "address": "10.20.0.10/24" }],
        },
        "role": "worker", "epoch": 0, "root-hash": "00",
    });
    let os = json!({
        "kernel-release": "6.1.0", "kubernetes": "1.20.2", "containerd": "1.6.20", "etcd": "3.4.23",
        "pause-image": "bootwright.local/pause:1", "images": [],
    });
    (serde_json::from_value(layer).unwrap(), serde_json::from_value(os).unwrap())
}
