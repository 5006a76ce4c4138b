//! Single settings: the API's port, time servers, the package archive, the kernel's command line.

use std::net::IpAddr;

use bootwright_model::cluster::{ClusterFile, Secrets};
use bootwright_model::layout::CMDLINE_ROOT_HASH;
use bootwright_model::profile::KernelFlavour;
use bootwright_model::{agent, probe};

use super::cluster;
use super::images::is_package_name;
use super::names::dns_name;
use crate::cluster::text::finding::{Finding, KeyPath};
use crate::image::disk::SectorSize;

/// Ports that other components listen at on a control-plane node.
const TAKEN_PORTS: [(u16, &str); 13] = [
    (2379, "etcd"),
    (2380, "etcd"),
    (2381, "etcd"),
    (agent::BALANCER_PORT, "the agent"),
    (agent::HEALTH_PORT, "the agent"),
    (10248, "the kubelet"),
    (10249, "kube-proxy"),
    (10250, "the kubelet"),
    (10256, "kube-proxy"),
    (10257, "kube-controller-manager"),
    (10259, "kube-scheduler"),
    (probe::NODE_PORT, "the probes of `bootwright validate`"),
    (probe::HOST_PORT, "the probes of `bootwright validate`"),
];
/// Default range of NodePorts (API server option `--service-node-port-range`).
pub const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

pub fn check(file: &ClusterFile, findings: &mut Vec<Finding>) {
    endpoint_port(file.cluster.endpoint_port, findings);
    secrets(file.cluster.secrets, findings);
    for (index, server) in file.clock.servers.iter().enumerate() {
        if server.parse::<IpAddr>().is_err()
            && let Err(why) = dns_name(server)
        {
            findings.push(
                Finding::new("time-server", format!("time server \"{server}\" {why}"))
                    .at_value(
                        KeyPath::of("clock").key("servers").index(index),
                        "neither a name nor an address",
                    )
                    .help("write a host name or an address, without scheme or port"),
            );
        }
    }
    required_clock(file, findings);
    base(file, findings);
    sector_size(file.disk.sector_size, findings);
}

/// Seeds may name servers, so that it is no error.
fn required_clock(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let clock = &file.clock;
    if !clock.required || !clock.servers.is_empty() {
        return;
    }
    let who = if clock.serve { "control plane" } else { "node" };
    findings.push(
        Finding::new(
            "required-clock",
            format!("no {who} starts without a time server, and none is named here"),
        )
        .warning()
        .at_value(KeyPath::of("clock").key("required"), "none to demand")
        .help("name `servers`, or see that the seed of each does"),
    );
}

fn sector_size(bytes: u32, findings: &mut Vec<Finding>) {
    if SectorSize::of(bytes).is_none() {
        findings.push(
            Finding::new("sector-size", format!("no disk has sectors of {bytes} bytes"))
                .at_value(KeyPath::of("disk").key("sector-size"), "neither 512 nor 4096")
                .help("write what `lsblk -o NAME,LOG-SEC` says on the machine; 512 is usual"),
        );
    }
}

/// Refuses "seed": images hold the keys whatever the file says, and somebody would share one.
fn secrets(secrets: Secrets, findings: &mut Vec<Finding>) {
    if secrets == Secrets::Seed {
        findings.push(
            Finding::new("secrets", "secrets = \"seed\" is not possible yet: images hold the cluster's keys")
                .at_value(cluster("secrets"), "not possible")
                .help("take the line away, and treat the image as you treat the keys"),
        );
    }
}

fn endpoint_port(port: u16, findings: &mut Vec<Finding>) {
    let taken = TAKEN_PORTS.iter().find(|(taken, _)| *taken == port).map(|(_, by)| *by);
    let why = match taken {
        Some(by) => format!("is {by}'s"),
        None if NODE_PORTS.contains(&port) => "is in the range of NodePorts, 30000 to 32767".to_owned(),
        None if port == 0 => "is none".to_owned(),
        None => return,
    };
    findings.push(
        Finding::new("endpoint-port", format!("the API server cannot listen at port {port}: it {why}"))
            .at_value(cluster("endpoint-port"), "not usable")
            .help("use 6443, or another that nothing on the node listens at"),
    );
}

fn base(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let base = |key: &str| KeyPath::of("base").key(key);
    let suite = &file.base.suite;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-/".contains(c);
    if suite.is_empty() || !suite.chars().all(good) || suite.starts_with(['/', '-']) {
        findings.push(
            Finding::new("suite", format!("\"{suite}\" is not the name of a suite"))
                .at_value(base("suite"), "not a suite")
                .help("write the code name of a Debian release: \"bookworm\""),
        );
    }
    let mirrors = [("mirror", &file.base.mirror), ("security-mirror", &file.base.security_mirror)];
    for (key, url) in mirrors.into_iter().filter_map(|(key, url)| Some((key, url.as_ref()?))) {
        url_finding(base(key), url, findings);
    }
    if file.base.security_mirror.is_some() && file.base.mirror.is_none() {
        findings.push(
            Finding::new("security-mirror", "`security-mirror` needs `mirror`")
                .at_key(base("security-mirror"), "without a mirror")
                .help("add `mirror`, or leave both out: then the machine's apt sources are used"),
        );
    }
    packages(file, findings);
    for (index, parameter) in file.base.command_line.iter().enumerate() {
        command_line(base("command-line").index(index), parameter, findings);
    }
}

/// Components of the archive, and packages of device firmware.
fn packages(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let base = |key: &str| KeyPath::of("base").key(key);
    let good = |name: &str| {
        let sign = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-/".contains(c);
        name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(sign)
    };
    let components = &file.base.components;
    for (index, name) in components.iter().enumerate().filter(|(_, name)| !good(name)) {
        findings.push(
            Finding::new("component", format!("\"{name}\" is not the name of a component"))
                .at_value(base("components").index(index), "not a component")
                .help("Debian's are \"main\", \"contrib\", \"non-free\" and \"non-free-firmware\""),
        );
    }
    if !components.is_empty() && !components.iter().any(|name| name == "main") {
        findings.push(
            Finding::new("component", "`components` lacks \"main\", where nearly all packages are")
                .at_value(base("components"), "without \"main\"")
                .help("write all that are used: [\"main\", \"non-free-firmware\"]"),
        );
    }
    let firmware = file.base.firmware.as_deref().unwrap_or_default();
    for (index, name) in firmware.iter().enumerate().filter(|(_, name)| !is_package_name(name)) {
        findings.push(
            Finding::new("firmware", format!("\"{name}\" is not the name of a package"))
                .at_value(base("firmware").index(index), "not a package")
                .help("write names of Debian packages: [\"firmware-bnx2x\"]; [] is for none"),
        );
    }
    if !firmware.is_empty() && file.base.kernel == Some(KernelFlavour::Cloud) {
        findings.push(
            Finding::new("firmware", "the cloud kernel has no driver that loads a file into its device")
                .at_value(base("firmware"), "for the full kernel")
                .because_of(base("kernel"))
                .help("take one of the two lines away"),
        );
    }
}

/// A parameter that is split, or that takes the root's place, makes an image that does not boot.
fn command_line(path: KeyPath, parameter: &str, findings: &mut Vec<Finding>) {
    let name = parameter.split('=').next().unwrap_or_default();
    let why = if parameter.is_empty() {
        "is empty"
    } else if parameter.chars().any(|c| c.is_whitespace() || c.is_control()) {
        "is more than one parameter"
    } else if !parameter.is_ascii() {
        "has characters beyond ASCII"
    } else if [CMDLINE_ROOT_HASH, "root", "init", "rdinit", "initrd"].contains(&name) {
        "is set by the build"
    } else {
        return;
    };
    findings.push(
        Finding::new("command-line", format!("kernel parameter \"{parameter}\" {why}"))
            .at_value(path, why)
            .help("write one parameter per element: [\"console=ttyS1,115200\", \"nosmt\"]"),
    );
}

/// A URL that sources can be fetched from.
pub fn url_finding(path: KeyPath, url: &str, findings: &mut Vec<Finding>) {
    let rest = ["http://", "https://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let host = rest.map(|rest| rest.split('/').next().unwrap_or_default());
    if host.is_some_and(|host| host.contains('@')) {
        // Neither the value nor its line is shown: it may hold a password.
        findings.push(
            Finding::new("url", format!("`{path}` has a user name in it, which would end up in the lock"))
                .at_value(KeyPath::root(), "in this file")
                .because_of(path)
                .help("use a server that asks for no password"),
        );
        return;
    }
    let why = match host {
        None => "does not begin with http:// or https://",
        Some("") => "names no host",
        Some(_) if url.chars().any(|c| c.is_whitespace() || c.is_control()) => "has a space in it",
        Some(_) if url.contains(['?', '#']) => "has a query or a fragment",
        Some(_) => return,
    };
    findings.push(
        Finding::new("url", format!("\"{url}\" {why}"))
            .at_value(path, "not a base URL")
            .help("write the URL of a folder on an HTTP server"),
    );
}
