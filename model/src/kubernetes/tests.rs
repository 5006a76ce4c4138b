//! Golden files of every component, and checks over the whole table.

mod dual_stack;

use super::version::Version;
use super::*;

/// The all-in-one node of the examples, with the given program versions.
pub(super) fn facts(kubernetes: &str, containerd: &str, etcd: &str) -> NodeFacts {
    let file = format!(
        r#"
        [cluster]
        name = "harbor"
        endpoint = "10.20.0.10"
        pod-cidr = "10.10.0.0/16"
        service-cidr = "10.96.0.0/16"
        [kubernetes]
        version = "{kubernetes}"
        [[node]]
        name = "cp1"
        role = "all-in-one"
        address = "10.20.0.10/24"
        labels = {{ zone = "north" }}
        "#
    );
    NodeFacts {
        name: "cp1".to_owned(),
        address: "10.20.0.10/24".parse().unwrap(),
        gateway: None,
        link: "eth0".to_owned(),
        pod_cidr: "10.10.3.0/24".parse().ok(),
        admitted: false,
        provider_id: None,
        time_servers: Vec::new(),
        layer: crate::baked::ClusterLayer {
            file: toml::from_str(&file).unwrap(),
            role: "all-in-one".to_owned(),
            epoch: 1_700_000_000,
            root_hash: "ab".repeat(32),
            second_slot: Default::default(),
        },
        os: crate::baked::OsRelease {
            kernel_release: "6.1.0-1-cloud-amd64".to_owned(),
            kubernetes: kubernetes.to_owned(),
            containerd: containerd.to_owned(),
            etcd: etcd.to_owned(),
            pause_image: "bootwright.local/pause:1".to_owned(),
            images: Vec::new(),
        },
    }
}

/// A worker of the same cluster.
pub(super) fn worker(kubernetes: &str) -> NodeFacts {
    let mut facts = facts(kubernetes, "1.6.20", "");
    let mut node = facts.layer.file.nodes[0].clone();
    node.name = "w1".to_owned();
    node.role = "worker".to_owned();
    node.address = "10.20.0.11/24".parse().unwrap();
    let labels = [("disk", "fast"), ("topology.kubernetes.io/zone", "north")];
    node.labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    facts.name = node.name.clone();
    facts.address = node.address;
    facts.pod_cidr = "10.10.4.0/24".parse().ok();
    facts.layer.role = node.role.clone();
    facts.layer.file.nodes.push(node);
    facts
}

/// containerd and etcd that fit a Kubernetes release.
fn fitting(minor: u16) -> NodeFacts {
    let (containerd, etcd) = match minor {
        ..=21 => ("1.6.20", "3.4.23"),
        22..=33 => ("1.7.24", "3.5.16"),
        _ => ("2.2.0", "3.6.1"),
    };
    facts(&format!("1.{minor}.2"), containerd, etcd)
}

fn text(component: &Component) -> String {
    let mut text = component.arguments.join("\n");
    for file in &component.files {
        text.push_str(&format!("\n\n# {} {:o}\n{}", file.path, file.mode, file.contents));
    }
    text
}

fn golden(minor: u16) {
    for name in COMPONENTS {
        let rendered = component(name, &fitting(minor)).unwrap();
        insta::assert_snapshot!(format!("1.{minor}-{name}"), text(&rendered));
    }
}

/// What a worker runs, where it differs from a control plane.
#[test]
fn golden_worker() {
    for version in ["1.20.2", "1.25.0"] {
        for name in ["kubelet", "kube-proxy"] {
            let rendered = component(name, &worker(version)).unwrap();
            insta::assert_snapshot!(format!("worker-{version}-{name}"), text(&rendered));
        }
    }
}

#[test]
fn control_planes_give_the_time_if_they_are_asked_to() {
    let mut facts = facts("1.20.2", "1.6.20", "3.4.23");
    facts.time_servers = vec!["ntp.harbor.example".to_owned()];
    let contents = |facts: &NodeFacts| component("chrony", facts).unwrap().files.remove(0).contents;
    assert!(contents(&facts).starts_with("server ntp.harbor.example iburst\nport 0\ncmdport 0\n"));
    facts.layer.file.clock.serve = true;
    let alone = contents(&facts);
    assert!(
        alone.starts_with(
            "server ntp.harbor.example iburst\nallow 10.20.0.0/24\nlocal stratum 10\ncmdport 0\n"
        )
    );
    let mut other = facts.layer.file.nodes[0].clone();
    (other.name, other.address) = ("cp2".to_owned(), "10.20.0.11/24".parse().unwrap());
    facts.layer.file.nodes.push(other);
    let one_of_two = contents(&facts);
    assert!(one_of_two.starts_with("server ntp.harbor.example iburst\nserver 10.20.0.11 iburst\nallow"));
    assert!(one_of_two.contains("\nlocal stratum 10 orphan\n") && !one_of_two.contains("\nport 0"));
    let mut worker = worker("1.20.2");
    worker.layer.file.clock.serve = true;
    worker.time_servers = vec!["10.20.0.10".to_owned()];
    assert!(contents(&worker).starts_with("server 10.20.0.10 iburst\nport 0\n"));
}

#[test]
fn programs_of_a_worker_reach_the_api_at_the_endpoint() {
    assert_eq!(api_server(&worker("1.20.2")).to_string(), "127.0.0.1:7443");
    assert_eq!(api_server(&facts("1.20.2", "1.6.20", "3.4.23")).to_string(), "127.0.0.1:6443");
}

#[test]
fn a_dedicated_control_plane_registers_with_its_taint() {
    for minor in 20..=36 {
        let mut facts = fitting(minor);
        facts.layer.role = "control-plane".to_owned();
        let rendered = component("kubelet", &facts).unwrap();
        let flag = rendered.arguments.iter().find(|flag| flag.starts_with("--register-with-taints="));
        let field = rendered.files[0].contents.contains("registerWithTaints");
        assert_eq!((flag.is_some(), field), (minor < 23, minor >= 23), "1.{minor}");
        if minor < 23 {
            assert!(flag.unwrap().ends_with("=node-role.kubernetes.io/master=:NoSchedule"));
        }
    }
}

#[test]
fn golden_1_20() {
    golden(20);
}

#[test]
fn golden_1_24() {
    golden(24);
}

#[test]
fn golden_1_29() {
    golden(29);
}

#[test]
fn golden_1_34() {
    golden(34);
}

/// Flags that a release removed, from the change logs: passing one ends the program.
const REMOVED: &[(&str, &str, u16)] = &[
    ("kube-apiserver", "--kubelet-https", 22),
    ("kube-apiserver", "--insecure-port", 24),
    ("kube-apiserver", "--service-account-api-audiences", 25),
    ("kube-apiserver", "--cloud-provider", 33),
    ("kube-apiserver", "--cloud-config", 33),
    ("kube-controller-manager", "--port", 24),
    ("kube-controller-manager", "--deleting-pods-qps", 25),
    ("kube-controller-manager", "--deleting-pods-burst", 25),
    ("kube-controller-manager", "--pod-eviction-timeout", 27),
    ("kube-controller-manager", "--enable-taint-manager", 27),
    ("kube-scheduler", "--port", 24),
    ("kubelet", "--network-plugin", 24),
    ("kubelet", "--cni-bin-dir", 24),
    ("kubelet", "--cni-conf-dir", 24),
    ("kubelet", "--container-runtime", 27),
    ("kubelet", "--keep-terminated-pod-volumes", 31),
    ("kubelet", "--cloud-config", 34),
    ("kubelet", "--pod-infra-container-image", 35),
    ("*", "--log-dir", 26),
    ("*", "--logtostderr", 26),
    ("*", "--alsologtostderr", 26),
];

/// Fields of configuration files, from the release that knows them.
const ADDED: &[(&str, &str, u16)] = &[
    ("kubelet", "seccompDefault", 22),
    ("kubelet", "memorySwap", 22),
    ("kubelet", "registerNode", 23),
    ("kubelet", "registerWithTaints", 23),
    ("kubelet", "containerRuntimeEndpoint", 27),
    ("kubelet", "imageMaximumGCAge", 29),
    ("kubelet", "podLogsDir", 30),
    ("kubelet", "failCgroupV1", 31),
    ("kubelet", "mergeDefaultEvictionSettings", 33),
    ("kubelet", "imagePullCredentialsVerificationPolicy", 33),
    ("kube-proxy", "detectLocal", 24),
    ("kube-proxy", "nftables", 29),
];

#[test]
fn no_release_gets_what_it_does_not_know() {
    for minor in 20..=36 {
        let facts = fitting(minor);
        for name in COMPONENTS {
            let rendered = component(name, &facts).unwrap();
            let has_flag = |flag: &str| rendered.arguments.iter().any(|a| a.split('=').next() == Some(flag));
            for (of, flag, gone) in REMOVED {
                let concerned = *of == name || (*of == "*" && name.starts_with("kube"));
                assert!(!(concerned && minor >= *gone && has_flag(flag)), "{name} {flag} in 1.{minor}");
            }
            let fields: serde_json::Value = rendered
                .files
                .first()
                .and_then(|file| serde_json::from_str(&file.contents).ok())
                .unwrap_or_default();
            for (of, field, from) in ADDED {
                assert!(
                    *of != name || minor >= *from || fields.get(field).is_none(),
                    "{name} {field} in 1.{minor}"
                );
            }
            for gate in
                gates::ALL.iter().filter(|gate| gate.component == name && gate.option.starts_with("--"))
            {
                let version = match name {
                    "etcd" => Version::etcd(&facts.os.etcd).unwrap(),
                    _ => facts.os.kubernetes.parse().unwrap(),
                };
                // Of a role and a cloud that this node has not.
                let others = [gates::REGISTER_WITH_TAINTS_FLAG, gates::CONTROLLER_MANAGER_CLOUD_PROVIDER];
                let expected = gate.open(version) && !others.contains(gate);
                assert_eq!(has_flag(gate.option), expected, "{gate:?} in 1.{minor}");
            }
        }
    }
}

/// What `cloud.provider = "external"` changes, release by release.
#[test]
fn golden_external_cloud() {
    let mut table = String::new();
    for minor in 20..=36 {
        let mut facts = fitting(minor);
        let without: Vec<Component> =
            COMPONENTS.iter().map(|name| component(name, &facts).unwrap()).collect();
        facts.layer.file.cloud.provider = crate::cloud::CloudProvider::External;
        facts.provider_id = Some("hcloud://42".to_owned());
        for (name, before) in COMPONENTS.iter().zip(without) {
            let (before, after) = (text(&before), text(&component(name, &facts).unwrap()));
            let new = after.lines().filter(|line| !before.lines().any(|other| other == *line));
            let new: Vec<&str> = new.map(str::trim).collect();
            assert!(
                before.lines().all(|line| after.lines().any(|other| other == line)),
                "{name} lost a line"
            );
            if !new.is_empty() {
                table += &format!("1.{minor} {name}: {}\n", new.join(" "));
            }
        }
    }
    insta::assert_snapshot!(table);
}

/// An address at which nobody listens costs every look-up its time-out.
#[test]
fn pods_are_told_of_cluster_dns_where_there_is_one() {
    let mut facts = facts("1.20.2", "1.6.20", "3.4.23");
    let told = |facts: &NodeFacts| {
        let rendered = component("kubelet", facts).unwrap();
        let fields: serde_json::Value = serde_json::from_str(&rendered.files[0].contents).unwrap();
        fields["clusterDNS"].clone()
    };
    assert_eq!(told(&facts), serde_json::json!([]));
    facts.layer.file.dns = Some(crate::cluster::Dns { image: "x/coredns:1".to_owned(), replicas: None });
    assert_eq!(told(&facts), serde_json::json!(["10.96.0.10"]));
}

#[test]
fn insecure_ports_are_closed_where_they_exist() {
    for minor in 20..=36 {
        for name in ["kube-controller-manager", "kube-scheduler"] {
            let arguments = component(name, &fitting(minor)).unwrap().arguments;
            assert_eq!(arguments.contains(&"--port=0".to_owned()), minor < 24, "{name} 1.{minor}");
            assert!(arguments.contains(&"--bind-address=127.0.0.1".to_owned()));
        }
    }
}

#[test]
fn every_path_moves_with_the_root() {
    let facts = facts("1.20.2", "1.6.20", "3.4.23");
    for name in COMPONENTS {
        let rendered = component_below("/tmp/root", name, &facts).unwrap();
        assert!(rendered.files.iter().all(|file| file.path.starts_with("/tmp/root/")));
        for argument in &rendered.arguments {
            let value = argument.split_once('=').map_or(argument.as_str(), |(_, value)| value);
            assert!(!value.starts_with('/') || value.starts_with("/tmp/root/"), "{name} {argument}");
        }
    }
}

#[test]
fn addresses_of_both_families() {
    let mut facts = facts("1.20.2", "1.6.20", "3.4.23");
    facts.address = "fd00:20::10/64".parse().unwrap();
    facts.layer.file.cluster.service_cidr = "fd00:96::/112".parse().unwrap();
    let has = |name: &str, argument: &str| {
        component(name, &facts).unwrap().arguments.contains(&argument.to_owned())
    };
    assert!(has("etcd", "--listen-peer-urls=https://[fd00:20::10]:2380"));
    assert!(has("kube-apiserver", "--bind-address=::"));
    assert!(has("kube-apiserver", "--advertise-address=fd00:20::10"));
    assert!(has("kubelet", "--node-ip=fd00:20::10"));
}

#[test]
fn the_scheduler_elects_a_leader_only_among_several() {
    let mut facts = facts("1.20.2", "1.6.20", "3.4.23");
    let elects = |facts: &NodeFacts| {
        let arguments = component("kube-scheduler", facts).unwrap().arguments;
        arguments.contains(&"--leader-elect=true".to_owned())
    };
    assert!(!elects(&facts));
    // An election is how the controller manager waits for the API.
    let controllers = component("kube-controller-manager", &facts).unwrap().arguments;
    assert!(controllers.contains(&"--leader-elect=true".to_owned()));
    let mut second = facts.layer.file.nodes[0].clone();
    second.role = "control-plane".to_owned();
    facts.layer.file.nodes.push(second);
    assert!(elects(&facts));
}

#[test]
fn flags_of_the_cluster_file_replace_the_image_s_own() {
    let mut facts = facts("1.20.2", "1.6.20", "3.4.23");
    let before = component("kube-apiserver", &facts).unwrap().arguments;
    let flags = [("profiling", "true"), ("runtime-config", "extensions/v1beta1=false,{x}")];
    let flags = flags.map(|(name, value)| (name.to_owned(), value.to_owned()));
    facts.layer.file.kubernetes.flags.insert("kube-apiserver".to_owned(), flags.into());
    let after = component("kube-apiserver", &facts).unwrap().arguments;
    assert!(before.contains(&"--profiling=false".to_owned()));
    assert!(!after.contains(&"--profiling=false".to_owned()));
    assert!(after.contains(&"--profiling=true".to_owned()));
    assert_eq!(after.last().unwrap(), "--runtime-config=extensions/v1beta1=false,{x}");
    assert_eq!(after.len(), before.len() + 1);
    let scheduler = component("kube-scheduler", &facts).unwrap().arguments;
    assert!(scheduler.contains(&"--profiling=false".to_owned()));
}

#[test]
fn unknown_names_are_told_the_known_ones() {
    let error = component("cubelet", &facts("1.20.2", "1.6.20", "3.4.23")).unwrap_err();
    insta::assert_snapshot!(error, @r#""cubelet" is no component; there are containerd, etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, chrony, bird"#);
}

#[test]
fn clock_servers() {
    let mut facts = facts("1.20.2", "1.6.20", "3.4.23");
    facts.time_servers = vec!["10.0.0.1".to_owned(), "time.example".to_owned()];
    let file = component("chrony", &facts).unwrap().files.remove(0);
    assert!(file.contents.starts_with("server 10.0.0.1 iburst\nserver time.example iburst\n"));
}
