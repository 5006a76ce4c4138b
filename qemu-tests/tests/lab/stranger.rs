//! A control plane, and a machine that nobody described: it names itself, joins, is given the range of its pods, and runs
//! them.

use std::fs::{self, File};
use std::time::Instant;

use bootwright::lab::api::Api;
use bootwright::lab::cluster::{Status, Supervisor, commands};
use bootwright_model::layout;
use qemu_tests::{CLUSTER, Image, READY, partition, repository, write_seed};
use serde_json::json;

use super::{pods, wait};

const MAC: &str = "52:54:00:20:00:a1";
/// After it.
const NAME: &str = "worker-5254002000a1";
const ADDRESS: &str = "10.20.0.77/24";

#[test]
#[ignore = "two emulated machines, and their images are built first: ./run lab-test"]
fn a_worker_that_nobody_described_runs_pods() {
    let folder = Image::of_four().folder("stranger");
    // What an earlier run left, that was killed maybe.
    let _ = commands::down(&folder, true);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let image = Image::build(&folder, &cluster_file());
    // A lab's switch lends no addresses.
    let worker = folder.join("worker.raw");
    let (offset, length) = partition(&worker, layout::SEED_LABEL);
    let disk = File::options().read(true).write(true).open(&worker).unwrap();
    write_seed(&disk, offset, length, &format!("address = \"{ADDRESS}\"\n"));

    let mut options = image.lab_options();
    // For the lab alone, which then has a second machine: no image knows of it.
    let machine = json!({ "name": NAME, "role": "worker", "mac": MAC, "address": ADDRESS });
    options.cluster.nodes.push(serde_json::from_value(machine).unwrap());
    let mut lab = Supervisor::start(options, &mut |line| println!("{line}")).unwrap();
    wait(&mut lab, "Ready", 2 * READY, Status::is_ready);
    let api = lab.api().unwrap();
    let deadline = Instant::now() + READY;
    its_node(&api, deadline);
    // The API server, on a node that runs none, reaches them as well.
    pods::reach_each_other(&api, &[NAME], deadline);
    let log = commands::logs(&folder, NAME, Some("pod-cidr")).unwrap();
    assert!(log.contains("pods in 10.10.255.0/24"), "{log}");
    assert!(lab.end(false, |_| {}).unwrap().is_empty());
}

/// The example's node as a control plane on a lab's switch, that takes in any worker.
fn cluster_file() -> String {
    let example = fs::read_to_string(repository().join(CLUSTER)).unwrap();
    let web = repository().join("examples/web");
    let changes = [
        ("[cluster]\n", "[cluster]\nadmit-unknown-workers = true\n"),
        ("role = \"all-in-one\"\n", "role = \"control-plane\"\n"),
        ("endpoint = \"10.0.2.15\"\n", "endpoint = \"10.20.0.10\"\n"),
        ("address = \"10.0.2.15/24\"\n", "address = \"10.20.0.10/24\"\n"),
        ("gateway = \"10.0.2.2\"\n", ""),
        ("\"web/", &format!("\"{}/", web.display())),
    ];
    changes.into_iter().fold(example, |text, (old, new)| {
        assert!(text.contains(old), "{old} is not in the example");
        text.replace(old, new)
    })
}

/// The highest range of its own, and the label of its role.
fn its_node(api: &Api, deadline: Instant) {
    loop {
        let node = api.get(&format!("/api/v1/nodes/{NAME}")).unwrap();
        assert_eq!(node["spec"]["podCIDRs"], json!(["10.10.255.0/24"]));
        if node["metadata"]["labels"]["node-role.kubernetes.io/worker"] == "" {
            return;
        }
        assert!(Instant::now() < deadline, "it has no label: {node}");
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}
