use bootwright_model::parts::merge;
use bootwright_model::profile::GoMemory;

use super::*;

/// The profile that ships, as a node gets it.
fn all_in_one() -> Profile {
    profile(&[
        include_str!("../../../../profiles/parts/machine.toml"),
        include_str!("../../../../profiles/parts/node.toml"),
        include_str!("../../../../profiles/parts/control-plane.toml"),
        include_str!("../../../../profiles/parts/etcd.toml"),
        include_str!("../../../../profiles/parts/stacked-etcd.toml"),
        include_str!("../../../../profiles/all-in-one.toml"),
    ])
}

fn profile(layers: &[&str]) -> Profile {
    merge(layers.iter().map(|text| text.parse().unwrap())).try_into().unwrap()
}

const MEMORY: u64 = 2 << 30;

fn facts() -> NodeFacts {
    serde_json::from_value(serde_json::json!({
        "name": "cp1", "address": "10.20.0.10/24", "gateway": null, "link": "eth0", "pod-cidr": "10.10.0.0/24",
        "layer": {
            "file": {
                "cluster": { "name": "harbor", "endpoint": "10.20.0.10", "endpoint-port": 7443,
                             "pod-cidr": "10.10.0.0/16", "service-cidr": "10.96.0.0/16" },
                "kubernetes": { "version": "1.20.2" },
                "node": [{ "name": "cp1", "role": "all-in-one", "address": "10.20.0.10/24" }]
            },
            "role": "all-in-one", "epoch": 0, "root-hash": "abcd"
        },
        "os": { "kernel-release": "6.1.0", "kubernetes": "1.20.2", "containerd": "1.6.20",
                "etcd": "3.4.23", "pause-image": "bootwright.local/pause:1", "images": [] }
    }))
    .unwrap()
}

fn definition(resolved: &Resolved, name: &str) -> Definition {
    resolved.definitions.iter().find(|d| d.service.name == name).unwrap().clone()
}

#[test]
fn the_profile_that_ships_resolves_on_a_node() {
    let resolved = resolve(&all_in_one(), &facts(), MEMORY).unwrap();
    let apiserver = definition(&resolved, "kube-apiserver");
    assert_eq!(apiserver.service.ready, Some(Readiness::Https("127.0.0.1:7443/readyz".into())));
    assert_eq!(apiserver.service.command[0], "/usr/bin/kube-apiserver");
    assert!(apiserver.service.command.iter().any(|a| a == "--service-cluster-ip-range=10.96.0.0/16"));
    assert_eq!(apiserver.cgroup(), "system/kube-apiserver");
    let etcd = resolved.definitions.iter().position(|d| d.service.name == "etcd").unwrap();
    assert_eq!(apiserver.uses, [etcd]);
    assert_eq!(definition(&resolved, "images").service.once.unwrap().key, "abcd");
    let commands = resolved.definitions.iter().flat_map(|d| &d.service.command);
    for word in commands {
        assert!(!word.contains('{'), "{word}: nothing is left to fill in");
    }
    assert!(!resolved.files.is_empty());
}

#[test]
fn environment_of_the_profile_goes_before_the_usual() {
    let mut profile = all_in_one();
    profile.services[0].environment = [("PATH", "/opt"), ("NODE", "{node}")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let resolved = resolve(&profile, &facts(), MEMORY).unwrap();
    let environment = &resolved.definitions[0].environment;
    let get = |name: &str| {
        environment.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>()
    };
    assert_eq!((get("PATH"), get("NODE"), get("HOME")), (vec!["/opt"], vec!["cp1"], vec!["/"]));
}

#[test]
fn faults_say_what_to_change() {
    let mut profile = all_in_one();
    profile.services[0].after = vec!["nobody".into()];
    profile.services[1].command.push("{nod}".into());
    let message = resolve(&profile, &facts(), MEMORY).unwrap_err().to_string();
    assert!(message.contains("nobody") && message.contains("{nod}"), "{message}");
    assert!(message.ends_with("correct the profile and build the image again"), "{message}");

    let mut profile = all_in_one();
    profile.services[0].component = Some("dockerd".into());
    let error = resolve(&profile, &facts(), MEMORY).unwrap_err();
    assert!(
        matches!(&error, DefinitionError::Component { component, .. } if component == "dockerd"),
        "{error}"
    );

    // With the placeholder filled in it is no address any more.
    let mut profile = all_in_one();
    profile.services[0].ready = Some(Readiness::Tcp("{node}:1".into()));
    let message = resolve(&profile, &facts(), MEMORY).unwrap_err().to_string();
    assert!(message.contains("\"cp1:1\" must be address:port"), "{message}");
}

#[test]
fn files_are_written_whole_with_their_mode_and_only_when_they_differ() {
    let root = tempfile::tempdir().unwrap();
    let host = Host { root: root.path().to_owned(), ..Host::node() };
    let file = |contents: &str, mode| kubernetes::ConfigFile {
        path: "/etc/a/b.conf".into(),
        contents: contents.into(),
        mode,
    };
    let path = root.path().join("etc/a/b.conf");
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    write_files(&host, &[file("one", 0o600)]).unwrap();
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode()), ("one", 0o600));
    let first = inode();
    write_files(&host, &[file("one", 0o600)]).unwrap();
    assert_eq!(inode(), first, "not touched");
    // A cut-off run left a temporary file that everybody could read.
    fs::write(root.path().join("etc/a/b.conf.new"), "half").unwrap();
    write_files(&host, &[file("two", 0o640)]).unwrap();
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode()), ("two", 0o640));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);

    let blocked =
        kubernetes::ConfigFile { path: "/etc/a/b.conf/c".into(), contents: String::new(), mode: 0o600 };
    let message = write_files(&host, &[blocked]).unwrap_err().to_string();
    assert!(message.contains("etc/a/b.conf/c"), "{message}");
}

#[test]
fn go_s_memory_limit_is_a_share_of_the_machine_s_but_not_too_small() {
    let limit = |memory: u64| {
        let mut profile = all_in_one();
        profile.services[0].go_memory = Some(GoMemory { percent: 10, least_mib: 150 });
        let resolved = resolve(&profile, &facts(), memory).unwrap();
        let environment = resolved.definitions[0].environment.clone();
        environment.into_iter().find(|(name, _)| name == "GOMEMLIMIT").unwrap().1
    };
    assert_eq!(limit(16 << 30), ((16 << 30) / 100_u64 * 10).to_string());
    assert_eq!(limit(1 << 30), (150 << 20).to_string());
}

#[test]
fn a_service_whose_file_is_not_there_is_no_part_of_the_machine() {
    let root = tempfile::tempdir().unwrap();
    let host = Host { root: root.path().to_owned(), ..Host::node() };
    let mut profile = all_in_one();
    profile.services.retain(|service| service.only_with.is_none());
    let mut change = |name: &str, change: fn(&mut Service)| {
        change(profile.services.iter_mut().find(|service| service.name == name).unwrap());
    };
    change("chrony", |chrony| chrony.only_with = Some("/run/bootwright/some.json".to_owned()));
    change("kubelet", |kubelet| kubelet.after.push("chrony".to_owned()));
    assert_eq!(services::check(&profile.services), []);

    let without = of_this_machine(&host, &profile);
    assert!(without.services.iter().all(|service| service.name != "chrony"));
    assert_eq!(without.services.len(), profile.services.len() - 1);
    assert_eq!(services::check(&without.services), []);
    fs::create_dir_all(root.path().join("run/bootwright")).unwrap();
    fs::write(root.path().join("run/bootwright/some.json"), "{}").unwrap();
    assert_eq!(of_this_machine(&host, &profile), profile);
}
