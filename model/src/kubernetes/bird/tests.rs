use super::super::tests::worker;
use super::*;
use crate::cluster::NetworkMode;
use crate::families::PerFamily;

/// A worker beside a control plane, with these routers.
fn facts(routers: &[(&str, u32)]) -> NodeFacts {
    let mut facts = worker("1.20.2");
    let file = &mut facts.layer.file;
    file.nodes[0].pod_cidr = Some("10.10.3.0/24".parse().unwrap());
    file.nodes[1].pod_cidr = Some("10.10.4.0/24".parse().unwrap());
    file.network.mode = NetworkMode::Bgp;
    let routers =
        routers.iter().map(|(address, asn)| BgpRouter { address: address.parse().unwrap(), asn: *asn });
    file.network.bgp = Some(Bgp { asn: 64600, routers: routers.collect() });
    facts.gateway = Some("10.20.0.1".parse().unwrap());
    facts
}

#[test]
fn nodes_among_themselves() {
    insta::assert_snapshot!(configuration(&facts(&[])));
}

#[test]
fn nodes_with_a_router_of_their_network() {
    insta::assert_snapshot!(configuration(&facts(&[("10.20.0.1", 64601), ("10.99.0.1", 64600)])));
}

#[test]
fn nodes_with_a_router_behind_others_and_ipv6() {
    let mut facts = facts(&[("fd00:99::1", 64600)]);
    facts.address = "fd00:20::11/64".parse().unwrap();
    facts.gateway = Some("fe80::1".parse().unwrap());
    facts.pod_cidr = "fd00:10:0:4::/64".parse().ok();
    facts.layer.file.cluster.pod_cidr = "fd00:10::/56".parse().unwrap();
    facts.layer.file.nodes.clear();
    insta::assert_snapshot!(configuration(&facts));
}

#[test]
fn both_families_with_a_router_of_one() {
    let mut facts = facts(&[("10.20.0.1", 64601)]);
    facts.address =
        PerFamily::new(["10.20.0.11/24", "fd00:20::11/64"].map(|text| text.parse().unwrap())).unwrap();
    facts.pod_cidr =
        PerFamily::new(["10.10.4.0/24", "fd00:10:0:4::/64"].map(|text| text.parse().unwrap())).ok();
    let cluster = ["10.10.0.0/16", "fd00:10::/56"].map(|text| text.parse().unwrap());
    facts.layer.file.cluster.pod_cidr = PerFamily::new(cluster).unwrap();
    let other = ["10.20.0.10/24", "fd00:20::10/64"].map(|text| text.parse().unwrap());
    facts.layer.file.nodes[0].address = PerFamily::new(other).unwrap();
    let text = configuration(&facts);
    let sessions: Vec<&str> =
        text.lines().map(str::trim).filter(|line| line.starts_with("neighbor ")).collect();
    // A family without routers is a mesh.
    assert_eq!(
        sessions,
        [
            "neighbor 10.20.0.1 as 64601;",
            "neighbor fd00:20::10 as 64600;",
            "neighbor range fd00:20::/64 as 64600;"
        ]
    );
    assert!(
        text.contains("router id 10.20.0.11;") && text.contains("route fd00:10:0:4::/64 unreachable;"),
        "{text}"
    );
}

#[test]
fn a_range_of_the_cluster_file_is_its_nodes_alone() {
    let mut facts = facts(&[]);
    let mut down = facts.layer.file.nodes[0].clone();
    down.name = "w2".into();
    down.address = "10.20.0.12/24".parse().unwrap();
    down.pod_cidr = "10.10.128.0/20".parse().ok();
    facts.layer.file.nodes.push(down);
    let text = configuration(&facts);
    let defined = "define nodes4 = [ 10.10.3.0/24{0,32}, 10.10.4.0/24{0,32}, 10.10.128.0/20{0,32} ];";
    assert!(text.contains(defined), "{text}");
    let refused: Vec<&str> =
        text.lines().map(str::trim).filter(|line| line.starts_with("if net ~ nodes4")).collect();
    assert_eq!(
        refused,
        [
            "if net ~ nodes4 && net !~ [ 10.10.3.0/24+ ] then reject;",
            "if net ~ nodes4 && net !~ [ 10.10.128.0/20+ ] then reject;",
            "if net ~ nodes4 then reject;",
        ]
    );
    // One that joined later keeps its own too.
    facts.layer.file.nodes.remove(1);
    assert!(configuration(&facts).contains("10.10.128.0/20{0,32}, 10.10.4.0/24{0,32} ];"));
}

#[test]
fn ranges_of_other_lengths_in_the_cluster_file_are_known() {
    let mut facts = facts(&[]);
    facts.layer.file.nodes[0].pod_cidr = Some("10.10.128.0/20".parse().unwrap());
    let text = configuration(&facts);
    assert!(text.contains("define taken4 = [ 10.10.0.0/16{20,20}, 10.10.0.0/16{24,24} ];"), "{text}");
}
