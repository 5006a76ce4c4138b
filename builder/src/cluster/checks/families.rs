//! Address families: pods, Services and nodes are of the same ones, in one order where the order says something.

use bootwright_model::cluster::{ClusterFile, Node};
use bootwright_model::kubernetes::{has_families, is_node};

use super::{cluster, family_names, node};
use crate::cluster::text::finding::Finding;

pub fn check(file: &ClusterFile, findings: &mut Vec<Finding>) {
    services(file, findings);
    bits(file, findings);
    for (index, one) in file.nodes.iter().enumerate() {
        address(file, index, one, findings);
    }
}

fn services(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let (pods, services) = (&file.cluster.pod_cidr, &file.cluster.service_cidr);
    let finding = |rule, message: String| {
        Finding::new(rule, message)
            .at_value(cluster("service-cidr"), family_names(services))
            .at_value(cluster("pod-cidr"), family_names(pods))
    };
    if !pods.same_families(services) {
        let message = format!("pods are {} and Services are {}", family_names(pods), family_names(services));
        let help = match (pods.count(), services.count()) {
            (1, 1) => "use one family for both",
            _ => "write one range of each family in both, or one family only",
        };
        findings.push(finding("family", message).help(help));
    } else if let (Some(first), Some(other)) = (pods.families().next(), services.families().next())
        && first != other
    {
        let message = format!("the first pod range is {first}, and the first Service range is {other}");
        findings.push(finding("family-order", message).help(
            "write both in one order: the first is the primary family, which most Services have alone",
        ));
    }
}

fn bits(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let (pods, Some(bits)) = (file.cluster.pod_cidr, file.cluster.node_cidr_bits) else { return };
    if bits.count() == pods.count() {
        return;
    }
    let usual: Vec<&str> =
        pods.iter().map(|range| if range.addr().is_ipv4() { "24" } else { "64" }).collect();
    let usual = match usual.as_slice() {
        [one] => (*one).to_owned(),
        both => format!("[{}]", both.join(", ")),
    };
    findings.push(
        Finding::new(
            "node-cidr-bits",
            format!("node-cidr-bits has {}, and pod-cidr {}", values(bits.count()), values(pods.count())),
        )
        .at_value(cluster("node-cidr-bits"), values(bits.count()))
        .at_value(cluster("pod-cidr"), family_names(&pods))
        .help(format!(
            "write one for each range, in the order of pod-cidr: {usual}; or leave it out for just that"
        )),
    );
}

fn values(count: usize) -> String {
    if count == 1 { "1 value".to_owned() } else { format!("{count} values") }
}

fn address(file: &ClusterFile, index: usize, one: &Node, findings: &mut Vec<Finding>) {
    let pods = &file.cluster.pod_cidr;
    if has_families(&one.role, &one.address, pods) {
        return;
    }
    let help = match (pods.count(), one.address.count()) {
        (2, _) if !is_node(&one.role) => {
            "give the machine an address of pod-cidr's first family: control planes reach it at that"
        }
        (1, 1) => "use one family for nodes, pods and Services",
        (1, _) => "write the address of that family, or give pods and Services a range of each",
        _ => "give the node an address of each family: address = [\"10.20.0.10/24\", \"fd00:20::10/64\"]",
    };
    findings.push(
        Finding::new(
            "family",
            format!("the node is {} and pods are {}", family_names(&one.address), family_names(pods)),
        )
        .at_value(node(index, "address"), family_names(&one.address))
        .at_value(cluster("pod-cidr"), family_names(pods))
        .help(help),
    );
}
