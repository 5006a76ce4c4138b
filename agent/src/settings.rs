//! What the agent is told: arguments, and what first boot knows of this machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bootwright_model::agent::{BALANCER_PORT, HEALTH_PORT};
use bootwright_model::kubernetes::{is_control_plane, pki};
use bootwright_model::layout;
use bootwright_model::node::NodeFacts;
use clap::Parser;

use crate::vip::VirtualIp;

/// Runs beside the services of a node: balances connections to the control planes, keeps the pod network in step with
/// the Nodes and, on a control plane, approves the certificates that kubelets ask for and holds the virtual address in
/// turn with the others.
#[derive(Debug, Clone, Parser)]
#[command(name = "agent", version)]
pub struct Arguments {
    /// Who to be to the API server: a kubeconfig with names of files, which are read again when they change. It and
    /// they are waited for; the balancer does without.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Port of the balancer on 127.0.0.1 and ::1.
    #[arg(long, value_name = "PORT", default_value_t = BALANCER_PORT)]
    pub balancer_port: u16,
    /// Port on 127.0.0.1 of /healthz.
    #[arg(long, value_name = "PORT", default_value_t = HEALTH_PORT)]
    pub health_port: u16,
    /// Put before the paths of what first boot writes.
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    pub root: PathBuf,
}

/// Why the agent cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// What first boot writes before any service starts.
    #[error("cannot read {}, which first boot writes: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The inventory.
    #[error("the cluster file has no control plane; build the image again from one that has")]
    NoControlPlane,
}

/// What is read at the start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This machine and its cluster.
    pub facts: NodeFacts,
    /// The cluster's authority, PEM.
    pub authority: Vec<u8>,
    /// API servers of the baked control planes, in the inventory's order.
    pub control_planes: Vec<SocketAddr>,
}

impl Settings {
    /// Reads the machine's facts, and the authority of the cluster layer.
    pub fn read(root: &Path) -> Result<Settings, SettingsError> {
        let below = |path: &str| root.join(path.trim_start_matches('/'));
        let path = below(layout::NODE_FACTS);
        let failed = |path: PathBuf, reason: String| SettingsError::Read { path, reason };
        let text = std::fs::read(&path).map_err(|error| failed(path.clone(), error.to_string()))?;
        let facts: NodeFacts =
            serde_json::from_slice(&text).map_err(|error| failed(path, error.to_string()))?;
        let path = below(layout::RUN_CLUSTER).join(layout::CLUSTER_PKI).join(pki::certificate(pki::CA));
        let authority = std::fs::read(&path).map_err(|error| failed(path, error.to_string()))?;
        let control_planes = control_planes(&facts);
        if control_planes.is_empty() {
            return Err(SettingsError::NoControlPlane);
        }
        Ok(Settings { facts, authority, control_planes })
    }

    /// This node runs an API server.
    pub fn is_control_plane(&self) -> bool {
        is_control_plane(&self.facts.layer.role)
    }

    /// The virtual address, if this node is one of those that hold it in turn.
    pub fn virtual_ip(&self) -> Option<VirtualIp> {
        let cluster = &self.facts.layer.file.cluster;
        let address = cluster.virtual_ip.filter(|_| self.is_control_plane())?;
        let (node, link) = (self.facts.name.clone(), self.facts.link.clone());
        let server = SocketAddr::new(self.facts.address.addr(), cluster.endpoint_port);
        Some(VirtualIp { address, node, link, server })
    }

    /// Where a node's first connection goes: its place in the inventory spreads them.
    pub fn first(&self) -> usize {
        let nodes = &self.facts.layer.file.nodes;
        nodes.iter().position(|node| node.name == self.facts.name).unwrap_or(0)
    }
}

fn control_planes(facts: &NodeFacts) -> Vec<SocketAddr> {
    let file = &facts.layer.file;
    let at = |node: &bootwright_model::cluster::Node| {
        SocketAddr::new(node.address.addr(), file.cluster.endpoint_port)
    };
    file.nodes.iter().filter(|node| is_control_plane(&node.role)).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_from_what_first_boot_writes() {
        let root = tempfile::tempdir().unwrap();
        let say = || Settings::read(root.path()).unwrap_err().to_string();
        assert!(say().contains("run/bootwright/node.json, which first boot writes"), "{}", say());
        let pki = root.path().join("run/bootwright/cluster/pki");
        std::fs::create_dir_all(&pki).unwrap();
        let write = |roles: [&str; 3]| {
            let nodes: Vec<_> = roles
                .iter()
                .enumerate()
                .map(|(at, role)| {
                    let address = format!("10.0.0.{}/24", at + 1);
                    serde_json::json!({ "name": format!("n{at}"), "role": role, "address": address })
                })
                .collect();
            let facts = serde_json::json!({
                "name": "n2", "address": "10.0.0.3/24", "gateway": null, "link": "eth0", "pod-cidr": "10.10.0.0/24",
                "layer": {
                    "file": {
                        "cluster": { "name": "harbor", "endpoint": "10.0.0.1", "pod-cidr": "10.10.0.0/16",
                                     "service-cidr": "10.96.0.0/16", "endpoint-port": 8443 },
                        "kubernetes": { "version": "1.20.2" }, "node": nodes,
                    },
                    "role": roles[2], "epoch": 0, "root-hash": "",
                },
                "os": { "kernel-release": "", "kubernetes": "1.20.2", "containerd": "1.6.20", "etcd": "3.4.23",
                        "pause-image": "", "images": [] },
            });
            std::fs::write(root.path().join("run/bootwright/node.json"), facts.to_string()).unwrap();
        };
        write(["control-plane", "all-in-one", "worker"]);
        assert!(say().contains("pki/ca.crt"), "{}", say());
        std::fs::write(pki.join("ca.crt"), "PEM").unwrap();
        let settings = Settings::read(root.path()).unwrap();
        let expected: Vec<SocketAddr> =
            ["10.0.0.1:8443", "10.0.0.2:8443"].map(|address| address.parse().unwrap()).to_vec();
        assert_eq!(settings.control_planes, expected);
        assert!(!settings.is_control_plane());
        assert_eq!(settings.first(), 2);
        write(["worker", "worker", "worker"]);
        assert!(matches!(Settings::read(root.path()), Err(SettingsError::NoControlPlane)));
    }
}
