//! `measure-agent NODES`: memory of the image's agent in a cluster of so many nodes: with real etcd and API server, in
//! a network namespace of its own, until it has read all Nodes and laid the ways to their pods. Prints JSON, in bytes.
//! Fails with what keeps it from that.

#![allow(clippy::unwrap_used, reason = "whoever measures reads why it did not work")]

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use bootwright_model::cluster::Node;
use qemu_tests::control_plane::cluster::{Cluster, Identity};
use qemu_tests::control_plane::programs::{self, eventually};
use serde_json::{Value, json};

/// Those who make Nodes, at the same time.
const MAKERS: u32 = 4;
/// How long the agent may take.
const PATIENCE: Duration = Duration::from_secs(900);
/// What it reads and makes is done in bursts; it is left alone before it is looked at.
const REST: Duration = Duration::from_secs(10);

fn main() {
    let count: u32 = std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("measure-agent NODES");
    if !programs::enter_namespace(&[&count.to_string()]) {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.apply_bootstrap();
    std::thread::scope(|scope| {
        for maker in 0..MAKERS {
            let cluster = &cluster;
            scope.spawn(move || {
                for number in (maker..count).step_by(MAKERS as usize) {
                    cluster.create(&Identity::Certificate("admin"), "/api/v1/nodes", &node(number));
                }
            });
        }
    });
    // All are in the cluster file as well.
    let mut facts = cluster.facts().clone();
    let worker = facts.layer.file.nodes.iter().find(|node| node.name == "w1").cloned().unwrap();
    facts.layer.file.cluster.pod_cidr = "10.0.0.0/8".parse().unwrap();
    facts.layer.file.nodes.extend((0..count).map(|number| Node {
        name: name(number),
        address: format!("{}/24", address(number)).parse().unwrap(),
        pod_cidr: Some(range(number).parse().unwrap()),
        ..worker.clone()
    }));
    let root = cluster.root().to_owned();
    let started = Instant::now();
    cluster.run_agent("agent", &root, &facts, programs::PORTS_OF_THE_AGENT);
    eventually("all peers are reached", PATIENCE, || routes() >= count as usize);
    eprintln!("{count} Nodes read and programmed in {:.1} s", started.elapsed().as_secs_f64());
    std::thread::sleep(REST);
    let status = fs::read_to_string(format!("/proc/{}/status", cluster.pid("agent"))).unwrap();
    let bytes = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
    };
    println!("{}", json!([{ "most": bytes("VmHWM:"), "resident": bytes("VmRSS:") }]));
}

/// How many routes of ours there are.
fn routes() -> usize {
    let output = Command::new("ip").args(["-o", "route", "show", "proto", "98"]).output();
    output.expect("ip of iproute2 runs").stdout.iter().filter(|&&byte| byte == b'\n').count()
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
