//! A machine, and another one on its link with the DHCP server: two network namespaces and a cable.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bootwright_model::baked::{ClusterLayer, OsRelease};
use bootwright_model::node::NodeFacts;
use firstboot::identity::Identity;
use firstboot::identity::machine::Machine;
use firstboot::network::dhcp::keep::Keeper;
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
        let known = Known { identity, machine: Machine::default(), layer, os };
        self.machine.enter(|| network::run(self.root(), known))
    }

    /// The service, about to take up the lease that is there.
    pub fn keeper(&self, facts: &NodeFacts) -> Keeper {
        self.machine.enter(|| Keeper::open(self.root(), facts)).unwrap()
    }

    /// The IPv4 address of `eth0`, as `ip` shows it.
    pub fn address(&self) -> Option<Value> {
        self.machine.ip("-4 address show dev eth0")[0]["addr_info"].get(0).cloned()
    }

    /// A DHCP server with these options, which knows nobody yet.
    pub fn server(&self, options: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--conf-file=/dev/null"]);
        command.args(["--port=0", "--interface=srv", "--except-interface=lo", "--bind-interfaces"]);
        // It would look for three seconds whether an address is in use before it lends it.
        command.args(["--no-ping", "--dhcp-authoritative", "--user=root", "--pid-file"]);
        command.arg(format!("--dhcp-leasefile={}", folder.path().join("leases").display())).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let process = self.other.enter(|| command.spawn()).expect("dnsmasq is installed (./run setup)");
        Server { process, folder }
    }
}

/// dnsmasq; it ends when this is dropped.
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
