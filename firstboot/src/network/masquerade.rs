//! Source NAT for what pods send out of the cluster, and only for that.
//!
//! Given to `iptables-restore`, which the image has for kube-proxy, in one transaction. Not nftables
//! directly: kube-proxy's rules and these stay visible in one place, with one program.

use std::io::{self, Write};
use std::net::IpAddr;
use std::process::{Command, Stdio};

use bootwright_model::kubernetes::is_node;
use bootwright_model::node::NodeFacts;
use ipnet::IpNet;

use crate::services::children;
use crate::stages::Advice;

/// Our chain in the table `nat`.
const CHAIN: &str = "BOOTWRIGHT-MASQ";

/// Why the rules are not in place.
#[derive(Debug, thiserror::Error)]
pub enum MasqueradeError {
    /// The program is not there.
    #[error("{program} cannot be run")]
    Run {
        /// The program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It refused the rules.
    #[error("{program} refused the rules for what leaves the cluster: {output}")]
    Refused {
        /// The program.
        program: &'static str,
        /// What it said.
        output: String,
    },
}

impl Advice for MasqueradeError {
    fn advice(&self) -> String {
        match self {
            MasqueradeError::Run { .. } => "name the package iptables in the profile and build again",
            MasqueradeError::Refused { .. } => {
                "name the modules xt_MASQUERADE, xt_comment and nft_chain_nat in the profile's kernel.modules and build again"
            }
        }
        .to_owned()
    }
}

/// The rules for pods of one family in `pod_cidr`, as the family's `iptables-restore --noflush` takes them.
///
/// From this node's pods; not to pods, Services, nodes or multicast groups. A node's address is
/// exempt, not its whole network: other machines on the link know no route to the pods.
fn rules(facts: &NodeFacts, pod_cidr: IpNet) -> String {
    let file = &facts.layer.file;
    let v4 = pod_cidr.addr().is_ipv4();
    let multicast: IpNet = if v4 { net("224.0.0.0/4") } else { net("ff00::/8") };
    // A machine of etcd knows no way to pods: it answers the node.
    let nodes = file.nodes.iter().filter(|node| is_node(&node.role)).map(|node| node.address.addrs());
    let addresses =
        std::iter::once(facts.address.addrs()).chain(nodes).flat_map(|addresses| addresses.iter());
    let mut spared: Vec<IpNet> =
        file.cluster.pod_cidr.iter().chain(file.cluster.service_cidr.iter()).collect();
    spared.push(multicast);
    for address in addresses.map(IpNet::from) {
        if !spared.contains(&address) {
            spared.push(address);
        }
    }
    spared.retain(|network| network.addr().is_ipv4() == v4);

    // Declaring the chain empties it. The jump is added once per boot, to a kernel that has no rules
    // yet; a second one would only walk the chain twice.
    let jump = format!("POSTROUTING -s {pod_cidr} -j {CHAIN}");
    let mut lines = vec!["*nat".to_owned(), format!(":{CHAIN} - [0:0]")];
    lines.push(format!("-A {jump}"));
    lines.extend(spared.iter().map(|network| format!("-A {CHAIN} -d {network} -j RETURN")));
    // Without --random-fully two pods that choose one port at once lose a packet to a race.
    lines.push(format!("-A {CHAIN} -j MASQUERADE --random-fully"));
    lines.push("COMMIT".to_owned());
    lines.join("\n") + "\n"
}

/// Puts the rules of each family in place; returns what went wrong.
pub fn apply(facts: &NodeFacts) -> Vec<MasqueradeError> {
    facts.pod_cidrs().filter_map(|pod_cidr| apply_to(facts, pod_cidr).err()).collect()
}

fn apply_to(facts: &NodeFacts, pod_cidr: IpNet) -> Result<(), MasqueradeError> {
    let program = match pod_cidr.addr() {
        IpAddr::V4(_) => "/usr/sbin/iptables-restore",
        IpAddr::V6(_) => "/usr/sbin/ip6tables-restore",
    };
    let run = |source| MasqueradeError::Run { program, source };
    let mut command = Command::new(program);
    command.args(["--noflush", "--wait", "5"]).env_clear().env("PATH", "/usr/sbin:/usr/bin");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    // The services start meanwhile, and PID 1 reaps.
    let _loan = children::borrow();
    let mut child = command.spawn().map_err(run)?;
    if let Some(mut input) = child.stdin.take() {
        // A program that ends early says why on its standard error; a broken pipe adds nothing.
        let _ = input.write_all(rules(facts, pod_cidr).as_bytes());
    }
    let output = child.wait_with_output().map_err(run)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(MasqueradeError::Refused { program, output: format!("{}; {}", output.status, lines.join("; ")) })
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a constant, parsed by a test")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::tests::facts;

    fn rules_of(pod_cidr: &str) -> String {
        rules(&facts(pod_cidr, "vxlan"), pod_cidr.parse().unwrap())
    }

    #[test]
    fn only_what_leaves_the_cluster_is_rewritten() {
        insta::assert_snapshot!(rules_of("10.10.3.0/24"), @r#"
        *nat
        :BOOTWRIGHT-MASQ - [0:0]
        -A POSTROUTING -s 10.10.3.0/24 -j BOOTWRIGHT-MASQ
        -A BOOTWRIGHT-MASQ -d 10.10.0.0/16 -j RETURN
        -A BOOTWRIGHT-MASQ -d 10.96.0.0/16 -j RETURN
        -A BOOTWRIGHT-MASQ -d 224.0.0.0/4 -j RETURN
        -A BOOTWRIGHT-MASQ -d 10.20.0.10/32 -j RETURN
        -A BOOTWRIGHT-MASQ -d 10.20.0.11/32 -j RETURN
        -A BOOTWRIGHT-MASQ -j MASQUERADE --random-fully
        COMMIT
        "#);
    }

    #[test]
    fn a_machine_of_etcd_is_answered_to_by_the_node() {
        let mut facts = facts("10.10.3.0/24", "vxlan");
        let mut one = facts.layer.file.nodes[0].clone();
        (one.role, one.address) = ("etcd".to_owned(), "10.20.0.77/24".parse().unwrap());
        facts.layer.file.nodes.push(one.clone());
        let pods = "10.10.3.0/24".parse().unwrap();
        assert!(!rules(&facts, pods).contains("10.20.0.77"));
        one.role = "worker".to_owned();
        facts.layer.file.nodes.push(one);
        assert!(rules(&facts, pods).contains("-d 10.20.0.77/32 -j RETURN"));
    }

    #[test]
    fn the_rules_of_a_family_name_no_address_of_the_other() {
        let text = rules_of("fd00:10::/64");
        assert!(text.contains("-d ff00::/8") && !text.contains("10."), "{text}");
    }

    #[test]
    fn iptables_takes_the_rules() {
        // --test parses and asks the kernel without committing; in a namespace of its own.
        let thread = std::thread::spawn(|| {
            // SAFETY: a new network namespace takes nothing away from the other threads.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "no network namespace: {}", io::Error::last_os_error());
            let mut facts = facts("10.10.3.0/24", "vxlan");
            facts.pod_cidr = "10.10.3.0/24,fd00:10:10:3::/64".parse().ok();
            facts.address = "10.20.0.10/24,fd00:20::10/64".parse().unwrap();
            let refused = apply(&facts);
            assert!(refused.is_empty(), "{refused:?}");
            let families = [("iptables-save", "10.10.3.0/24"), ("ip6tables-save", "fd00:10:10:3::/64")];
            for (program, pod_cidr) in families {
                let saved =
                    Command::new(format!("/usr/sbin/{program}")).args(["-t", "nat"]).output().unwrap();
                let text = String::from_utf8_lossy(&saved.stdout).into_owned();
                assert!(text.contains(&format!("-A POSTROUTING -s {pod_cidr} -j BOOTWRIGHT-MASQ")), "{text}");
                assert!(text.contains("-A BOOTWRIGHT-MASQ -j MASQUERADE --random-fully"), "{text}");
            }
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}
