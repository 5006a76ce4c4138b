//! A plan for people.

mod inputs;

use std::fmt;

use bootwright_model::cluster::InitialClusterState;

use super::{ClusterPlan, FilePlan, Plan, RolePlan, Secrecy};

/// Columns that lists are wrapped to.
const WIDTH: usize = 100;
/// Columns that what a line is about takes.
const LABEL: usize = 14;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = &self.cluster;
        writeln!(f, "cluster {}", cluster.name)?;
        line(f, "endpoint", cluster.endpoint)?;
        write_etcd(f, cluster)?;
        line(f, "pods", format_args!("{:#}", cluster.pod_cidr))?;
        let dns = cluster.dns_service.map_or("none".to_owned(), |addresses| format!("{addresses:#}"));
        line(
            f,
            "Services",
            format_args!("{:#} (API {}, DNS {dns})", cluster.service_cidr, cluster.api_service),
        )?;
        line(f, "domain", &cluster.domain)?;
        line(f, "network", serde_name(&cluster.network))?;
        line(f, "images are", secrecy(cluster.image_secrecy))?;
        let state = if cluster.secrets_exist { "there" } else { "made by the first build" };
        line(f, "secrets", format_args!("{} ({state})", cluster.secrets_folder))?;

        writeln!(f, "\nKubernetes {} from {}", self.kubernetes.version, self.kubernetes.origin)?;
        files(f, &self.kubernetes.binaries)?;

        for node in &self.nodes {
            writeln!(f, "\nnode {} ({})", node.name, node.role)?;
            line(f, "address", format_args!("{:#}", node.address))?;
            optional(f, "gateway", node.gateway.map(|gateways| format!("{gateways:#}")).as_ref())?;
            optional(f, "MAC", node.mac.as_ref())?;
            if let (Some(pods), Some(gateway)) = (node.pod_cidr, node.pod_gateway) {
                line(f, "pods", format_args!("{pods:#} (gateway {gateway:#})"))?;
            }
        }
        for role in &self.roles {
            writeln!(f)?;
            write_role(f, role)?;
        }
        for image in &self.images {
            writeln!(f, "\nworkload image {}", image.name)?;
            list(f, "packages", &image.packages)?;
            files(f, &image.files)?;
        }
        writeln!(f)?;
        inputs::write(f, &self.inputs)
    }
}

/// Which members etcd has, and how its cluster comes to be.
fn write_etcd(f: &mut fmt::Formatter<'_>, cluster: &ClusterPlan) -> fmt::Result {
    let members = cluster.etcd_members.join(", ");
    match (cluster.initial_cluster_state, cluster.etcd_members.as_slice()) {
        (InitialClusterState::Existing, _) => line(f, "etcd", format_args!("{members}: join a cluster")),
        (InitialClusterState::New, [first, _, ..]) => {
            line(f, "etcd", format_args!("{members}: begun by {first} when all say that they have no data"))
        }
        (InitialClusterState::New, _) => line(f, "etcd", members),
    }
}

fn write_role(f: &mut fmt::Formatter<'_>, role: &RolePlan) -> fmt::Result {
    writeln!(f, "image {} ({})", role.image, role.description)?;
    list(f, "nodes", &role.nodes)?;
    line(f, "sectors", format_args!("{} bytes", role.sector_size))?;
    line(f, "kernel", &role.kernel)?;
    list(f, "command line", &role.command_line)?;
    list(f, "packages", &role.packages)?;
    list(f, "excluded", &role.excluded)?;
    list(f, "overlays", &role.overlays)?;
    let services: Vec<String> = role
        .services
        .iter()
        .map(|service| match service.essential {
            true => service.name.clone(),
            false => format!("{} (optional)", service.name),
        })
        .collect();
    list(f, "services", &services)
}

fn secrecy(secrecy: Secrecy) -> &'static str {
    match secrecy {
        Secrecy::Private => "private: they hold the cluster's keys",
        Secrecy::Shareable => "shareable: they hold no key; each machine's seed does",
    }
}

fn line(f: &mut fmt::Formatter<'_>, label: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "  {label:LABEL$}{value}")
}

fn optional(f: &mut fmt::Formatter<'_>, label: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| line(f, label, value))
}

/// Words, wrapped below each other.
fn list(f: &mut fmt::Formatter<'_>, label: &str, words: &[String]) -> fmt::Result {
    let mut label = label;
    let mut row = String::new();
    for word in words {
        if !row.is_empty() && LABEL + 2 + row.len() + 1 + word.len() > WIDTH {
            line(f, label, &row)?;
            label = "";
            row.clear();
        }
        if !row.is_empty() {
            row.push(' ');
        }
        row.push_str(word);
    }
    if row.is_empty() { Ok(()) } else { line(f, label, row) }
}

fn files(f: &mut fmt::Formatter<'_>, files: &[FilePlan]) -> fmt::Result {
    for file in files {
        let size = match file.size {
            Some(size) => format!("{:.1} MB", size as f64 / 1e6),
            None => "not there yet".to_owned(),
        };
        let digest = file.sha256.as_deref().map(|digest| format!("  sha256:{digest}")).unwrap_or_default();
        writeln!(f, "  {:26}{size:>14}{digest}", file.name)?;
    }
    Ok(())
}

/// The name that a choice has in the cluster file.
fn serde_name(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
