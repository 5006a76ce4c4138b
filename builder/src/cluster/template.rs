//! A new cluster file with comments, for `bootwright init`.

use std::net::IpAddr;
use std::path::Path;

use bootwright_model::addresses::{address_at, overlaps};
use bootwright_model::cluster::ClusterFile;
use ipnet::IpNet;

use super::checks::{self, Context};
use super::profiles::ProfileStore;
use super::text::render::Findings;
use super::text::{self, Reading};

/// Pairs of pod and Service ranges to choose from: the first that the node's network does not overlap.
const RANGES: [(&str, &str); 3] =
    [("10.10.0.0/16", "10.96.0.0/16"), ("172.20.0.0/16", "172.21.0.0/16"), ("fd00:10::/48", "fd00:96::/112")];

/// What a new cluster file is made of.
#[derive(Debug, Clone)]
pub struct Template {
    /// Name of the cluster.
    pub name: String,
    /// Name of the node.
    pub node: String,
    /// Address of the node with prefix length.
    pub address: IpNet,
    /// Default gateway; the first address of the network if absent.
    pub gateway: Option<IpAddr>,
    /// MAC address of the node's link.
    pub mac: Option<String>,
    /// Version of Kubernetes.
    pub kubernetes: String,
    /// Folder of its binaries, relative to the file.
    pub directory: String,
}

impl Template {
    /// The text of the file.
    pub fn render(&self) -> String {
        let (pods, services) = self.ranges();
        let endpoint = self.address.addr();
        let gateway = match self.gateway() {
            Some(gateway) => format!("gateway = {}", quoted(gateway)),
            None => "# gateway = \"…\"".to_owned(),
        };
        let mac = match &self.mac {
            Some(mac) => format!("mac = {}", quoted(mac)),
            None => "# mac = \"52:54:00:00:00:01\"".to_owned(),
        };
        let bits = if self.address.addr().is_ipv4() { 24 } else { 64 };
        format!(
            r#"# A cluster, for bootwright. `bootwright check -f FILE` says what is wrong with it,
# `bootwright reference` explains every key, `bootwright plan -f FILE` shows what would be built.

[cluster]
# Goes into kubeconfigs and certificates.
name = {name}
# Fixed address of the API: an address of a control plane.
endpoint = {endpoint}
# Further names and addresses that clients reach the API by.
# endpoint-names = ["api.example.org"]
# Pods get their addresses from here, each node a part of its own. For both address families write a list with a range of
# each here, for Services and for the address of every node.
pod-cidr = {pods}
# node-cidr-bits = {bits}
# Services get theirs from here: the API the first, DNS the tenth.
service-cidr = {services}
# "baked": the cluster's keys are in the image, which must be kept like a key.
# "seed": they are in no image, and each machine gets them on its seed partition.
# secrets = "baked"
# "existing": control planes with empty disks only ever join the cluster that there is, and never begin one.
# initial-cluster-state = "new"

[kubernetes]
version = {version}
# Folder with kube-apiserver, kubelet and the others, relative to this file. Or `mirror = "https://…"`.
directory = {directory}

# The package archive. Without `mirror` and `keyring` this machine's apt sources and keyrings are used.
[base]
suite = "bookworm"
# mirror = "https://…"
# keyring = "archive-keyring.gpg"

# Sectors of the nodes' disks, bytes: 512, or 4096 for 4Kn disks, which boot under UEFI only.
# [disk]
# sector-size = 4096

[network]
# How pods on different nodes reach each other: "vxlan", "routes" or "none".
mode = "vxlan"
# With "routes": reach nodes behind a gateway through VXLAN. Without it all nodes must be on one link.
# fallback = "vxlan"
# VXLAN's network identifier and UDP port; 8472 where the network below keeps 4789 to itself (VMware NSX).
# vni = 4096
# port = 4789
# mtu = 1500
# resolvers = ["10.0.0.2"]

# Without time servers the clock runs free. With "required" a machine does not start before one of them has answered, with
# "serve" control planes give the time to the other nodes.
# [clock]
# servers = ["ntp.example.org"]
# required = true
# serve = true

[[node]]
name = {node}
# A profile: "all-in-one" is a whole cluster on one machine, "control-plane" keeps pods to the other nodes, and
# "worker" runs pods. One, three or five nodes of the first two make the control plane; with three one may fail.
role = "all-in-one"
# MAC address of the link that gets the address; recognises the machine.
{mac}
address = {address}
{gateway}

# Another node. It joins by itself when it boots the image of its role.
# [[node]]
# name = "w1"
# role = "worker"
# mac = "52:54:00:00:00:02"
# address = "…"

# A workload image that needs no registry, composed from packages and files beside this one.
# [[image]]
# name = "bootwright.local/web:1"
# packages = ["busybox-static"]
# keep = ["/bin/busybox"]
# entrypoint = ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/srv/www"]
# files = {{ "/srv/www/index.html" = "index.html" }}
"#,
            name = quoted(&self.name),
            endpoint = quoted(endpoint),
            pods = quoted(pods),
            services = quoted(services),
            version = quoted(&self.kubernetes),
            directory = quoted(&self.directory),
            node = quoted(&self.node),
            address = quoted(self.address),
        )
    }

    /// What is wrong with the file that would be written: an option that does not fit.
    pub fn check(&self, path: &Path) -> Findings {
        let mut reading: Reading<ClusterFile> = text::read(self.render());
        if let Some(file) = reading.value.take() {
            let store = ProfileStore::new(path.parent().unwrap_or(Path::new(".")), None);
            let roles = store.roles();
            // A broken profile is not the business of a new file.
            let profiles =
                roles.iter().filter_map(|role| Some((role.clone(), store.load(role, &file).ok()?)));
            let profiles = profiles.collect();
            reading.add(checks::all(&Context { file: &file, roles: &roles, profiles: &profiles }));
        }
        reading.finish(path)
    }

    /// A router usually has the first address of its network.
    fn gateway(&self) -> Option<IpAddr> {
        let first = address_at(self.address.trunc(), 1).ok();
        self.gateway.or(first.filter(|first| *first != self.address.addr()))
    }

    fn ranges(&self) -> (&'static str, &'static str) {
        let fits = |range: &str| {
            let range: IpNet = range.parse().expect("the constant is well formed");
            range.addr().is_ipv4() == self.address.addr().is_ipv4()
                && !overlaps(&range, &self.address.trunc())
        };
        let found = RANGES.iter().find(|(pods, services)| fits(pods) && fits(services));
        // Nothing fits beside a network of half the Internet: the check says so.
        *found.unwrap_or(&RANGES[if self.address.addr().is_ipv4() { 0 } else { 2 }])
    }
}

/// As a TOML string, whatever is in it.
fn quoted(value: impl std::fmt::Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(address: &str) -> Template {
        Template {
            name: "demo".to_owned(),
            node: "cp1".to_owned(),
            address: address.parse().unwrap(),
            gateway: None,
            mac: None,
            kubernetes: "1.20.2".to_owned(),
            directory: "kubernetes".to_owned(),
        }
    }

    #[test]
    fn a_new_file_is_sound_wherever_the_node_is() {
        for address in [
            "10.0.2.15/24",
            "10.10.3.4/24",
            "192.168.1.1/24",
            "10.0.0.1/8",
            "fd00:20::10/64",
            "203.0.113.2/31",
        ] {
            let findings = template(address).check(Path::new("cluster.toml"));
            assert!(!findings.has_errors(), "{}", findings.plain());
        }
    }

    #[test]
    fn a_new_file_reads_as_it_should() {
        let template = Template { mac: Some("52:54:00:00:00:01".to_owned()), ..template("10.0.2.15/24") };
        insta::assert_snapshot!(template.render());
    }

    #[test]
    fn an_option_cannot_break_out_of_its_string() {
        let template = Template { name: "a\"\nx = \"1".to_owned(), ..template("10.0.2.15/24") };
        let findings = template.check(Path::new("cluster.toml"));
        assert_eq!(findings.errors(), 1, "{}", findings.plain());
    }
}
