//! What a lab is made of: decided from the cluster file and the options before anything starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bootwright_model::cluster::{ClusterFile, Node};
use bootwright_model::families::Family;
use bootwright_model::kubernetes::is_control_plane;

use crate::lab::switch::{self, Forward, gateway};
use crate::lab::{Error, Firmware};

/// MAC address of a node that is alone and has none in the cluster file.
const ONLY_MAC: &str = "52:54:00:00:00:01";
/// Processors of a machine at most, unless asked for: more do not make a boot faster.
const CPUS: usize = 2;

/// What to bring up, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The checked cluster file that the images were built from.
    pub cluster: ClusterFile,
    /// Folder with the images and the kubeconfig.
    pub output: PathBuf,
    /// Cache folder, for the accelerator's verdict.
    pub cache: PathBuf,
    /// Firmware of all machines.
    pub firmware: Firmware,
    /// Memory, MiB; the last that fits a node holds.
    pub memory: Vec<Setting>,
    /// Virtual processors; the last that fits a node holds.
    pub cpus: Vec<Setting>,
    /// Further ports of nodes to forward.
    pub forwards: Vec<Wish>,
    /// Seed of the losses on the switch.
    pub seed: u64,
    /// How long all nodes may take to be Ready.
    pub limit: Duration,
}

/// `2048`, `worker=1024` or `cp1=4096`: a number, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Role or name; everybody if absent.
    pub whom: Option<String>,
    /// The number.
    pub value: u32,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Setting, String> {
        let (whom, number) = match text.split_once('=') {
            Some((whom, number)) => (Some(whom.to_owned()), number),
            None => (None, text),
        };
        match number.parse() {
            Ok(value) if value > 0 => Ok(Setting { whom, value }),
            _ => Err(format!("'{number}' is not a number above 0; write NUMBER, ROLE=NUMBER or NODE=NUMBER")),
        }
    }
}

impl Setting {
    fn for_node(settings: &[Setting], node: &Node) -> Option<u32> {
        let fits = |setting: &&Setting| match setting.whom.as_deref() {
            None => true,
            Some(whom) => whom == node.name || whom == node.role,
        };
        settings.iter().rfind(fits).map(|setting| setting.value)
    }
}

/// `w1:30080` or `w1:30080=8080`: a port of a node, and one of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Name of the node.
    pub node: String,
    /// TCP port of the node.
    pub port: u16,
    /// TCP port of 127.0.0.1; a free one if absent.
    pub host: Option<u16>,
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Wish, String> {
        let parse = || {
            let (node, ports) = text.split_once(':')?;
            let (port, host) = match ports.split_once('=') {
                Some((port, host)) => (port, Some(host.parse().ok()?)),
                None => (ports, None),
            };
            Some(Wish { node: node.to_owned(), port: port.parse().ok()?, host })
        };
        parse().ok_or_else(|| format!("'{text}' is not NODE:PORT or NODE:PORT=HOSTPORT, as in w1:30080=8080"))
    }
}

/// Where a port of the host leads.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Forwarded {
    /// `API`, `virtual address`, or the node's name.
    pub name: String,
    /// TCP port of 127.0.0.1.
    pub host: u16,
    /// The targets on the switch; the first that answers is taken.
    pub targets: Vec<SocketAddr>,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The node.
    pub node: Node,
    /// Its MAC address.
    pub mac: String,
    /// The image of its role.
    pub image: PathBuf,
    /// MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u8,
}

/// The machines of a lab. The number of a machine is that of its port on the switch.
///
/// # Errors
/// A node that the lab cannot tell from others, an image that was not built, a setting for nobody.
pub fn places(options: &Options, processors: usize) -> Result<Vec<Place>, Error> {
    let nodes = &options.cluster.nodes;
    if nodes.is_empty() {
        return Err(Error::State("the cluster file has no [[node]]".to_owned()));
    }
    for setting in options.memory.iter().chain(&options.cpus) {
        if let Some(whom) = &setting.whom
            && !nodes.iter().any(|node| node.name == *whom || node.role == *whom)
        {
            return Err(Error::State(format!("no node of the cluster file has the name or role '{whom}'")));
        }
    }
    let cpus = (processors * 2 / nodes.len()).clamp(1, CPUS);
    // The others wait for the control plane; it has what there is. Several share it, as processors that are not run at
    // the same time wait for each other: a guest's kernel spins until its other processor has answered.
    let control_planes = nodes.iter().filter(|node| is_control_plane(&node.role)).count().max(1);
    let of_control_plane = (processors / control_planes).clamp(1, CPUS);
    let of = |node: &Node| if is_control_plane(&node.role) { of_control_plane } else { cpus };
    nodes.iter().map(|node| place(options, node, of(node))).collect()
}

fn place(options: &Options, node: &Node, cpus: usize) -> Result<Place, Error> {
    let name = &node.name;
    if name == switch::OUTSIDE {
        return Err(Error::State(format!("a node of a lab cannot be called '{name}': its gateway is")));
    }
    let mac = match &node.mac {
        Some(mac) => mac.clone(),
        None if options.cluster.nodes.len() == 1 => ONLY_MAC.to_owned(),
        None => {
            return Err(Error::State(format!(
                "node '{name}' has no mac in the cluster file: its machine could not tell which node it is; add one and build again"
            )));
        }
    };
    let image = options.output.join(format!("{}.raw", node.role));
    if !image.is_file() {
        return Err(Error::State(format!(
            "there is no {} for node '{name}': run `bootwright build` with this cluster file and -o {}",
            image.display(),
            options.output.display()
        )));
    }
    let cpus = Setting::for_node(&options.cpus, node).map_or(cpus, |cpus| cpus as usize);
    Ok(Place {
        node: node.clone(),
        mac,
        image,
        memory_mib: Setting::for_node(&options.memory, node).unwrap_or_else(|| memory_mib(&node.role)),
        cpus: u8::try_from(cpus).unwrap_or(u8::MAX),
    })
}

/// Twice and more of what docs/performance.md found a node to use, so that there is room for pods.
fn memory_mib(role: &str) -> u32 {
    match role {
        "etcd" => 768,
        "worker" => 1024,
        _ => 2048,
    }
}

/// Opens the ports of the host: the API's, which leads to any control plane, that of the virtual address if there is one,
/// and those that were wished for.
///
/// # Errors
/// A wish for a node that is not there, or a port that is taken.
pub fn forwards(options: &Options) -> Result<(Vec<Forwarded>, Vec<Forward>), Error> {
    let cluster = &options.cluster;
    let port = cluster.cluster.endpoint_port;
    let control_plane = |node: &&Node| is_control_plane(&node.role);
    let api = cluster.nodes.iter().filter(control_plane).map(|node| (node.address.addr(), port).into());
    let mut wanted: Vec<(String, Option<u16>, Vec<SocketAddr>)> = vec![(API.to_owned(), None, api.collect())];
    if let Some(address) = cluster.cluster.virtual_ip {
        wanted.push((VIRTUAL_IP.to_owned(), None, vec![(address, port).into()]));
    }
    for wish in &options.forwards {
        let node = cluster.nodes.iter().find(|node| node.name == wish.node).ok_or_else(|| {
            Error::State(format!("cannot forward to '{}': the cluster file has no such node", wish.node))
        })?;
        wanted.push((wish.node.clone(), wish.host, vec![(node.address.addr(), wish.port).into()]));
    }
    let (mut told, mut opened) = (Vec::new(), Vec::new());
    for (name, host, targets) in wanted {
        let listener = switch::listen(host)?;
        let address = listener.local_addr().map_err(Error::file("bind a port of", "127.0.0.1"))?;
        told.push(Forwarded { name, host: address.port(), targets: targets.clone() });
        opened.push(Forward { listener, targets });
    }
    Ok((told, opened))
}

/// Name of the forwarded port that leads to the API.
pub const API: &str = "API";
/// Name of the one that leads to the API as people outside reach it: at the virtual address, whoever has it.
pub const VIRTUAL_IP: &str = "virtual address";

/// The switch of a lab, with a port per place.
pub fn switch_plan(options: &Options, places: &[Place], forwards: Vec<Forward>) -> switch::Plan {
    let of_place = |place: &Place| {
        let gateway = place.node.gateway;
        let of = move |family| gateway.and_then(|gateways| gateways.of(family));
        place.node.address.iter().map(move |address| (address, of(Family::of(address.addr()))))
    };
    let nodes: Vec<_> = places.iter().flat_map(of_place).collect();
    switch::Plan {
        names: places.iter().map(|place| place.node.name.clone()).collect(),
        gateway: gateway::addresses(&nodes),
        mtu: options.cluster.network.mtu,
        forwards,
        seed: options.seed,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Options of a lab of two nodes whose images are in `output`.
    pub fn options(output: &std::path::Path) -> Options {
        let text = "
            cluster = { name = 'harbor', endpoint = '10.20.0.10', pod-cidr = '10.10.0.0/16', service-cidr = '10.96.0.0/16' }
            kubernetes = { version = '1.20.2' }
            node = [
                { name = 'cp1', role = 'control-plane', mac = '52:54:00:00:00:01', address = '10.20.0.10/24', gateway = '10.20.0.1' },
                { name = 'w1', role = 'worker', mac = '52:54:00:00:00:02', address = '10.20.0.11/24', gateway = '10.20.0.1' },
            ]";
        for role in ["control-plane", "worker"] {
            std::fs::write(output.join(format!("{role}.raw")), [0; 1024]).unwrap();
        }
        Options {
            cluster: toml::from_str(text).unwrap(),
            output: output.to_owned(),
            cache: output.to_owned(),
            firmware: Firmware::Bios,
            memory: Vec::new(),
            cpus: Vec::new(),
            forwards: Vec::new(),
            seed: 0,
            limit: Duration::from_secs(60),
        }
    }

    #[test]
    fn each_node_has_a_machine_as_its_role_wants_it() {
        let output = tempfile::tempdir().unwrap();
        let mut options = options(output.path());
        let of = |options: &Options, processors| {
            let places = places(options, processors).unwrap();
            places.iter().map(|place| (place.memory_mib, place.cpus)).collect::<Vec<_>>()
        };
        assert_eq!(of(&options, 2), [(2048, 2), (1024, 2)]);
        assert_eq!(of(&options, 1), [(2048, 1), (1024, 1)]);
        let mut several = options.clone();
        several.cluster.nodes[1].role = "control-plane".to_owned();
        assert_eq!(of(&several, 2), [(2048, 1), (2048, 1)]);
        options.memory = ["512", "worker=700", "cp1=900"].map(|text| text.parse().unwrap()).into();
        options.cpus = vec!["w1=3".parse().unwrap()];
        assert_eq!(of(&options, 2), [(900, 2), (700, 3)]);
        options.cpus = vec!["w2=3".parse().unwrap()];
        assert!(places(&options, 2).unwrap_err().to_string().contains("'w2'"));
        assert!("0".parse::<Setting>().is_err() && "w1=x".parse::<Setting>().is_err());
    }

    #[test]
    fn what_a_lab_cannot_do_is_said() {
        let output = tempfile::tempdir().unwrap();
        let good = options(output.path());
        let mut options = good.clone();
        options.cluster.nodes[1].mac = None;
        assert!(places(&options, 2).unwrap_err().to_string().contains("'w1' has no mac"));
        options.cluster.nodes.remove(1);
        options.cluster.nodes[0].mac = None;
        assert_eq!(places(&options, 2).unwrap()[0].mac, ONLY_MAC);
        options.cluster.nodes[0].name = "outside".to_owned();
        assert!(places(&options, 2).is_err());
        std::fs::remove_file(output.path().join("worker.raw")).unwrap();
        let error = places(&good, 2).unwrap_err().to_string();
        assert!(error.contains("worker.raw") && error.contains("bootwright build"), "{error}");
    }

    #[test]
    fn the_api_is_forwarded_to_control_planes_and_ports_as_wished() {
        let output = tempfile::tempdir().unwrap();
        let mut options = options(output.path());
        options.forwards = vec!["w1:30080".parse().unwrap()];
        let (told, _opened) = forwards(&options).unwrap();
        assert_eq!(told[0].targets, ["10.20.0.10:6443".parse().unwrap()]);
        assert_eq!(
            (told[1].name.as_str(), &told[1].targets[..]),
            ("w1", &["10.20.0.11:30080".parse().unwrap()][..])
        );
        assert_ne!(told[0].host, told[1].host);
        let wish = Wish { node: "w1".to_owned(), port: 30080, host: Some(8080) };
        assert_eq!("w1:30080=8080".parse(), Ok(wish));
        assert!("w1".parse::<Wish>().is_err() && "w1:x".parse::<Wish>().is_err());
        options.forwards.clear();
        options.cluster.cluster.virtual_ip = Some("10.20.0.9".parse().unwrap());
        let (told, _opened) = forwards(&options).unwrap();
        assert_eq!(
            (told[1].name.as_str(), &told[1].targets[..]),
            (VIRTUAL_IP, &["10.20.0.9:6443".parse().unwrap()][..])
        );
        options.forwards = vec!["w7:1".parse().unwrap()];
        assert!(forwards(&options).unwrap_err().to_string().contains("'w7'"));
    }
}
