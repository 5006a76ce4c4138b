use super::super::component;
use super::super::tests::facts;
use super::*;
use crate::cluster::Node;
use crate::kubernetes::{ETCD, control_planes, is_node, issues_certificates, runs_etcd};
use crate::node::NodeFacts;

/// The machine `name` of a cluster with a control plane and as many machines of etcd.
fn machine(name: &str, machines: u8) -> NodeFacts {
    let mut facts = facts("1.20.2", "1.6.20", "3.4.23");
    let plane = Node { role: "control-plane".to_owned(), ..facts.layer.file.nodes[0].clone() };
    let etcd = |number: u8| Node {
        name: format!("e{number}"),
        role: ETCD.to_owned(),
        address: format!("10.20.0.{}/24", 20 + number).parse().unwrap(),
        ..plane.clone()
    };
    facts.layer.file.nodes = (1..=machines).map(etcd).chain([plane.clone()]).collect();
    let own = facts.layer.file.nodes.iter().find(|node| node.name == name).unwrap();
    (facts.name, facts.address, facts.layer.role) = (own.name.clone(), own.address, own.role.clone());
    facts
}

fn flag(facts: &NodeFacts, of: &str, name: &str) -> String {
    let start = format!("--{name}=");
    let arguments = component(of, facts).unwrap().arguments;
    arguments.iter().find_map(|argument| argument.strip_prefix(&start)).unwrap().to_owned()
}

#[test]
fn members_are_on_machines_of_their_own_if_there_are_any() {
    let file = machine("e1", 3).layer.file;
    assert_eq!(etcd_members(&file).map(|node| &*node.name).collect::<Vec<_>>(), ["e1", "e2", "e3"]);
    assert_eq!(control_planes(&file).count(), 1);
    assert!(!runs_etcd("control-plane", &file) && !runs_etcd("all-in-one", &file));
    assert!(issues_certificates(ETCD) && !is_node(ETCD));
    let file = machine("cp1", 0).layer.file;
    assert_eq!(etcd_members(&file).map(|node| &*node.name).collect::<Vec<_>>(), ["cp1"]);
    assert!(runs_etcd("all-in-one", &file) && !runs_etcd("worker", &file));
}

#[test]
fn api_servers_use_all_machines_of_etcd() {
    assert_eq!(
        flag(&machine("cp1", 3), "kube-apiserver", "etcd-servers"),
        "https://10.20.0.21:2379,https://10.20.0.22:2379,https://10.20.0.23:2379"
    );
    assert_eq!(flag(&machine("cp1", 0), "kube-apiserver", "etcd-servers"), LOCAL_CLIENT_URL);
}

#[test]
fn a_machine_of_etcd_is_reached_by_clients_on_others() {
    let arguments = component("etcd", &machine("e1", 1)).unwrap().arguments;
    insta::assert_snapshot!(arguments.join("\n"));
    let url = "https://127.0.0.1:2379,https://10.20.0.22:2379";
    assert_eq!(flag(&machine("e2", 3), "etcd", "listen-client-urls"), url);
    assert_eq!(flag(&machine("e2", 3), "etcd", "initial-cluster-state"), "existing");
    assert_eq!(flag(&machine("cp1", 0), "etcd", "listen-client-urls"), LOCAL_CLIENT_URL);
    assert_eq!(flag(&machine("cp1", 0), "etcd", "listen-metrics-urls"), METRICS_URL);
}

#[test]
fn etcd_flags_change_their_names_with_3_6() {
    let has = |etcd: &str, flag: &str| {
        let rendered = component("etcd", &facts("1.34.0", "2.2.0", etcd)).unwrap();
        rendered.arguments.iter().any(|argument| argument.starts_with(flag))
    };
    assert!(has("3.5.9", "--experimental-initial-corrupt-check=true"));
    assert!(has("3.5.9", "--experimental-watch-progress-notify-interval="));
    assert!(!has("3.4.23", "--experimental-watch-progress-notify-interval="));
    assert!(!has("3.6.0", "--experimental-"));
    assert!(has("3.6.0", "--feature-gates=InitialCorruptCheck=true"));
    for version in ["3.4.23", "3.5.9", "3.6.0"] {
        assert!(!has(version, "--enable-v2"));
    }
}

#[test]
fn of_several_control_planes_none_begins_a_cluster_by_its_flags() {
    let mut facts = facts("1.20.2", "1.6.20", "3.4.23");
    let flags = |facts: &NodeFacts| {
        let arguments = component("etcd", facts).unwrap().arguments;
        let about = |flag: &&String| flag.contains("-cluster") || flag.contains("client-urls");
        arguments.iter().filter(about).cloned().collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(flags(&facts), @r"
    --listen-client-urls=https://127.0.0.1:2379
    --advertise-client-urls=https://127.0.0.1:2379
    --initial-cluster=cp1=https://10.20.0.10:2380
    --initial-cluster-state=new
    --initial-cluster-token=harbor-etcd
    ");
    let mut second = facts.layer.file.nodes[0].clone();
    second.name = "cp2".to_owned();
    second.address = "10.20.0.11/24".parse().unwrap();
    facts.layer.file.nodes.push(second);
    insta::assert_snapshot!(flags(&facts), @r"
    --listen-client-urls=https://127.0.0.1:2379,https://10.20.0.10:2379
    --advertise-client-urls=https://10.20.0.10:2379
    --initial-cluster=cp1=https://10.20.0.10:2380
    --initial-cluster-state=existing
    --initial-cluster-token=harbor-etcd
    ");
    // Its own member only, whatever others there are.
    let api_server = component("kube-apiserver", &facts).unwrap().arguments;
    assert!(api_server.contains(&"--etcd-servers=https://127.0.0.1:2379".to_owned()));
}

#[test]
fn the_members_of_a_cluster_in_etcds_flags() {
    let member = |name: &str, address: &str| (name.to_owned(), peer_url(address.parse().unwrap()));
    let members = vec![member("cp1", "10.20.0.10"), member("cp2", "fd00::2")];
    let initial = InitialCluster { state: "existing", members, token: "harbor".to_owned() };
    insta::assert_snapshot!(initial.arguments().join("\n"), @r"
    --initial-cluster=cp1=https://10.20.0.10:2380,cp2=https://[fd00::2]:2380
    --initial-cluster-state=existing
    --initial-cluster-token=harbor
    ");
}
