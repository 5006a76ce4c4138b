//! etcd on a machine of its own: with what its image holds it begins a cluster, and an API server with the rendered
//! flags works through it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use bootwright::pki::Secrets;
use bootwright_model::cluster::Node;
use bootwright_model::kubernetes::component_below;
use bootwright_model::node::NodeFacts;
use firstboot::bootstrap::etcd::{Place, Step};
use firstboot::certificates::{self, Roots};
use qemu_tests::control_plane::node;

use super::cluster::{Cluster, Identity};
use super::programs;

/// Where its files lie, in the control plane's folder.
const FOLDER: &str = "e1";

#[test]
fn an_api_server_works_through_a_machine_of_etcd() {
    if !programs::inside_namespace("etcd_machine::an_api_server_works_through_a_machine_of_etcd") {
        return;
    }
    programs::ip("address add 10.20.0.21/24 dev lo");
    let mut facts = node::facts();
    let machine = Node {
        name: "e1".to_owned(),
        role: "etcd".to_owned(),
        address: "10.20.0.21/24".parse().unwrap(),
        ..facts.layer.file.nodes[0].clone()
    };
    facts.layer.file.nodes.push(machine.clone());
    let mut own = facts.clone();
    (own.name, own.address, own.layer.role) = (machine.name, machine.address, machine.role);
    let cluster = Cluster::start_with(facts, |root, secrets| member(&root.join(FOLDER), secrets, &own));

    assert_eq!(cluster.apply_bootstrap(), cluster.apply_bootstrap());
    let nodes = cluster.get(&Identity::Certificate("admin"), "/api/v1/nodes");
    let names: Vec<_> =
        nodes["items"].as_array().unwrap().iter().map(|node| &node["metadata"]["name"]).collect();
    assert_eq!(names, ["cp1"], "the machine of etcd is no Node");
    // The member is not on the control plane, and the control plane has no certificate of one.
    assert!(cluster.root().join(FOLDER).join("var/lib/etcd/member/wal").exists());
    assert!(!cluster.root().join("var/lib/etcd").exists());
    assert!(!cluster.roots().node_pki.join("etcd-peer.crt").exists());
}

/// Writes what the image of such a machine holds; the arguments that its etcd starts with.
fn member(root: &Path, secrets: &Secrets, facts: &NodeFacts) -> Vec<String> {
    let roots = Roots::below(root);
    fs::create_dir_all(&roots.cluster_pki).unwrap();
    fs::create_dir_all(root.join("var/lib")).unwrap();
    for file in secrets.files_for_etcd() {
        let path = roots.cluster_pki.join(file.name);
        fs::write(&path, &file.contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode)).unwrap();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    certificates::ensure(&roots, facts, now).unwrap();
    let mut place = Place::new(roots, facts, root.join("var/lib/etcd")).unwrap();
    let Step::Start(start) = place.look().unwrap() else { panic!("the only member waits") };
    assert_eq!(start.reason, "begins a cluster: it has no data and is the only member");
    let mut arguments = component_below(root.to_str().unwrap(), "etcd", facts).unwrap().arguments;
    arguments.extend(start.flags);
    arguments
}
