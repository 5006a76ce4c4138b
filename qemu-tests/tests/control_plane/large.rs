//! The agent in a cluster of five thousand nodes. Some minutes, so only on request:
//! `cargo test --release -p qemu-tests --test control_plane -- --ignored --nocapture large`.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bootwright_model::cluster::Node;
use serde_json::{Value, json};

use super::cluster::{Cluster, Identity};
use super::peers::shown;
use super::programs::{self, eventually};

const COUNT: u32 = 5000;
/// Those who make Nodes, at the same time.
const MAKERS: u32 = 4;
/// The agent may take no more.
const MOST_MEMORY_KIB: u64 = 40 << 10;

#[test]
#[ignore = "minutes"]
fn memory_at_five_thousand_peers() {
    if !programs::inside_namespace("large::memory_at_five_thousand_peers") {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.apply_bootstrap();
    std::thread::scope(|scope| {
        for maker in 0..MAKERS {
            let cluster = &cluster;
            scope.spawn(move || {
                for number in (maker..COUNT).step_by(MAKERS as usize) {
                    cluster.create(&Identity::Certificate("admin"), "/api/v1/nodes", &node(number));
                }
            });
        }
    });
    // All are in the cluster file as well.
    let mut facts = cluster.facts().clone();
    let worker = facts.layer.file.nodes.iter().find(|node| node.name == "w1").cloned().unwrap();
    facts.layer.file.cluster.pod_cidr = "10.0.0.0/8".parse().unwrap();
    facts.layer.file.nodes.extend((0..COUNT).map(|number| Node {
        name: name(number),
        address: format!("{}/24", address(number)).parse().unwrap(),
        pod_cidr: Some(range(number).parse().unwrap()),
        ..worker.clone()
    }));
    let root = cluster.root().to_owned();
    let started = Instant::now();
    cluster.run_agent("agent", &root, &facts, programs::PORTS_OF_THE_AGENT);
    eventually("all peers are reached", Duration::from_secs(900), || {
        shown("ip", &["-j", "route", "show", "proto", "98"]).len() > COUNT as usize
    });
    println!("{COUNT} Nodes read and programmed in {:?}", started.elapsed());
    let most = memory(&cluster);
    assert!(most <= MOST_MEMORY_KIB, "{most} KiB");
}

/// Prints what the agent has in memory, and answers the most that it ever had, KiB.
fn memory(cluster: &Cluster) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", cluster.pid("agent"))).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_end_matches("kB").trim().parse().unwrap()
    };
    let (now, most) = (field("VmRSS:"), field("VmHWM:"));
    println!("{now} KiB resident, {most} KiB at most");
    most
}

fn name(number: u32) -> String {
    format!("node-{number:05}")
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 1)) + number)
}

fn range(number: u32) -> String {
    format!("{}/24", Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 0)) + (number << 8)))
}

/// As large as a Node becomes: its kubelet tells of fifty images, of which each has two names.
fn node(number: u32) -> Value {
    let images: Vec<Value> = (0..50)
        .map(|image| {
            let digest = format!("{image:064x}");
            json!({ "names": [
                format!("registry.example.com/team-{image}/program@sha256:{digest}"),
                format!("registry.example.com/team-{image}/program:v1.{image}.0"),
            ], "sizeBytes": 123_456_789 })
        })
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": name(number) },
        "spec": { "podCIDR": range(number), "podCIDRs": [range(number)] },
        "status": {
            "addresses": [
                { "type": "InternalIP", "address": address(number) }, { "type": "Hostname", "address": name(number) },
            ],
            "images": images,
        },
    })
}
