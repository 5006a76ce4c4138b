//! A cluster of two roles: one image each, and what a worker's must not hold.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::world::World;

/// What both roles have.
const SMALL: &str = r#"
binaries = ["kubelet"]
[kernel]
flavour = "cloud"
modules = []
initramfs-modules = []
[packages]
install = ["containerd", "payload"]
[[service]]
name = "kubelet"
command = ["/usr/bin/kubelet"]
"#;

/// In a Secret of an addon.
const PASSWORD: &str = "correct-horse-battery";

/// What only the control plane has.
const OF_CONTROL_PLANE: [&str; 2] = ["usr/bin/etcd", "usr/bin/kube-apiserver"];

fn two_roles() -> World {
    let world = World::new();
    let head = |role: &str| {
        format!("role = \"{role}\"\ndescription = \"x\"\nkubernetes = [\"1.20\"]\nparts = [\"small\"]\n")
    };
    world.write("profiles/parts/small.toml", SMALL.as_bytes());
    world.write("profiles/worker.toml", head("worker").as_bytes());
    let control_plane = head("control-plane")
        + "binaries = [\"kube-apiserver\"]\n[packages]\ninstall = [\"etcd-server\"]\n\
           [[service]]\nname = \"kube-apiserver\"\ncommand = [\"/usr/bin/kube-apiserver\"]\ncomponent = \"kube-apiserver\"\n";
    world.write("profiles/control-plane.toml", control_plane.as_bytes());
    let kubelet = fs::read(world.path("kubernetes/kubelet")).unwrap();
    world.write("kubernetes/kube-apiserver", &kubelet);
    let nodes = world.cluster_file(&world.server.url()).replace("all-in-one", "control-plane")
        + "[[node]]\nname = \"w1\"\nrole = \"worker\"\naddress = \"10.20.0.11/24\"\n\
           [[addon]]\nname = \"registry\"\nmanifests = [\"secret.yaml\"]\n";
    let secret =
        format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: x\nstringData:\n  password: {PASSWORD}\n");
    world.write("secret.yaml", secret.as_bytes());
    world.write("cluster.toml", nodes.as_bytes());
    world
}

/// Paths in the root of a role's image.
fn tree(world: &World, role: &str) -> BTreeSet<String> {
    let json = |path: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(world.path(path)).unwrap()).unwrap()
    };
    let root_hash = json(&format!("out/{role}.json"))["root-hash"].clone();
    let layers = world.names("cache/layers").into_iter().map(|name| format!("cache/layers/{name}"));
    let of_role = |layer: &String| json(&format!("{layer}/layer.json"))["root-hash"] == root_hash;
    let layer = layers.into_iter().find(of_role).unwrap();
    let output =
        Command::new("sqfs2tar").arg(world.path(&format!("{layer}/root.squashfs"))).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut archive = tar::Archive::new(&output.stdout[..]);
    let entries = archive.entries().unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| entry.path().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Names in the cluster layer of an image: a plain cpio archive that lies in one piece on the ESP.
fn cluster_layer(image: &[u8]) -> BTreeSet<String> {
    let folder = b"bootwright/cluster/";
    let starts = (0..image.len() - folder.len()).filter(|at| image[*at..].starts_with(folder));
    let name = |at: usize| image[at..].split(|byte| *byte == 0).next().unwrap();
    starts.map(|at| String::from_utf8_lossy(&name(at)[folder.len()..]).into_owned()).collect()
}

/// The first line of a private key, as it stands in whatever file holds it.
fn body_of_key(world: &World, name: &str) -> String {
    let text = fs::read_to_string(world.path(&format!("secrets/harbor/{name}"))).unwrap();
    text.lines().nth(1).unwrap().to_owned()
}

fn holds(image: &[u8], text: &str) -> bool {
    image.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_worker_holds_neither_a_program_of_the_control_plane_nor_a_key() {
    let world = two_roles();
    world.build().assert_built();
    let image = |role: &str| fs::read(world.path(&format!("out/{role}.raw"))).unwrap();
    let (control_plane, worker) = (image("control-plane"), image("worker"));

    let (of_control_plane, of_worker) = (tree(&world, "control-plane"), tree(&world, "worker"));
    assert!(of_worker.contains("usr/bin/kubelet") && of_control_plane.contains("usr/bin/kubelet"));
    for path in OF_CONTROL_PLANE {
        assert!(of_control_plane.contains(path) && !of_worker.contains(path), "{path}");
    }

    let names = cluster_layer(&worker);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(names, ["cluster.json", "pki", "pki/bootstrap-token", "pki/ca.crt"]);
    assert!(cluster_layer(&control_plane).contains("pki/ca.key"));

    assert!(holds(&control_plane, PASSWORD) && !holds(&worker, PASSWORD));
    let keys = world.names("secrets/harbor").into_iter().filter(|name| name.ends_with(".key"));
    let keys: Vec<String> = keys.collect();
    assert_eq!(keys.len(), 5, "{keys:?}");
    for name in keys {
        let body = body_of_key(&world, &name);
        // The administrator's is for the kubeconfig on this machine.
        assert_eq!(holds(&control_plane, &body), name != "admin.key", "{name}");
        assert!(!holds(&worker, &body), "{name}");
    }
}

#[test]
fn a_machine_of_etcd_holds_the_key_of_etcds_authority_alone() {
    let world = two_roles();
    let etcd = "role = \"etcd\"\ndescription = \"x\"\nkubernetes = [\"1.20\"]\n\
                [kernel]\nflavour = \"cloud\"\nmodules = []\ninitramfs-modules = []\n\
                [packages]\ninstall = [\"etcd-server\"]\n\
                [[service]]\nname = \"etcd\"\ncommand = [\"/usr/bin/etcd\"]\ncomponent = \"etcd\"\n";
    world.write("profiles/etcd.toml", etcd.as_bytes());
    let nodes = fs::read_to_string(world.path("cluster.toml")).unwrap()
        + "[[node]]\nname = \"e1\"\nrole = \"etcd\"\naddress = \"10.20.0.21/24\"\n";
    world.write("cluster.toml", nodes.as_bytes());
    world.build().assert_built();
    let image = fs::read(world.path("out/etcd.raw")).unwrap();

    let root = tree(&world, "etcd");
    assert!(root.contains("usr/bin/etcd"));
    for path in ["usr/bin/kubelet", "usr/bin/kube-apiserver", "usr/lib/bootwright/images.tar"] {
        assert!(!root.contains(path), "{path}");
    }
    let names = cluster_layer(&image);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(names, ["cluster.json", "pki", "pki/etcd-ca.crt", "pki/etcd-ca.key"]);
    let keys = world.names("secrets/harbor").into_iter().filter(|name| name.ends_with(".key"));
    for name in keys {
        assert_eq!(holds(&image, &body_of_key(&world, &name)), name == "etcd-ca.key", "{name}");
    }
    assert!(!holds(&image, PASSWORD));
    // What it signs its API server's certificate for etcd with.
    let control_plane = fs::read(world.path("out/control-plane.raw")).unwrap();
    assert!(cluster_layer(&control_plane).contains("pki/etcd-ca.key"));
}

#[test]
fn a_second_build_makes_no_layer_anew_and_a_profile_changes_its_own_only() {
    let world = two_roles();
    world.build().assert_built();
    let first = world.names("cache/layers");
    assert_eq!(first.len(), 2);
    world.build().assert_built();
    assert_eq!(world.names("cache/layers"), first);
    let worker = fs::read_to_string(world.path("profiles/worker.toml")).unwrap();
    world.write("profiles/worker.toml", worker.replace("\"x\"", "\"y\"").as_bytes());
    world.build().assert_built();
    assert_eq!(world.names("cache/layers").len(), 3);
}
