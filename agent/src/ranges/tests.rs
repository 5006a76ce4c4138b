//! Who is given what, by example; for whole orders of events in [`orders`].

mod orders;
mod server;

use proptest::prelude::*;

use bootwright_model::cluster::ClusterFile;
use serde_json::json;

use super::plan::{Claim, Gift, Plan, Pools};
use crate::api::objects::Node;

fn pools(pod_cidr: &str) -> Pools {
    let pod_cidr: Vec<&str> = pod_cidr.split(',').collect();
    let file: ClusterFile = serde_json::from_value(json!({
        "cluster": { "name": "harbor", "endpoint": "10.20.0.10", "pod-cidr": pod_cidr,
                     "service-cidr": "10.96.0.0/16", "admit-unknown-workers": true },
        "kubernetes": { "version": "1.20.2" },
        "node": [
            { "name": "cp1", "role": "all-in-one", "address": "10.20.0.10/24", "pod-cidr": "10.10.0.0/24" },
            { "name": "w1", "role": "worker", "address": "10.20.0.11/24", "pod-cidr": "10.10.2.0/24" },
        ],
    }))
    .unwrap();
    Pools::from(&file)
}

fn claim(name: &str, wish: Option<&str>, ranges: &[&str]) -> Claim {
    Claim {
        name: name.to_owned(),
        version: format!("v-{name}"),
        wish: wish.map(str::to_owned),
        served: !ranges.is_empty(),
        ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
    }
}

fn given(plan: &Plan) -> Vec<String> {
    plan.gifts.iter().map(|(gift, _)| gift.to_string()).collect()
}

fn make(pools: &Pools, claims: &[Claim], giving: &str) -> Plan {
    Plan::make(pools, claims, giving.parse().ok().as_ref())
}

#[test]
fn strangers_get_ranges_that_nobody_has_and_nobody_is_to_have() {
    let claims = [
        claim("cp1", None, &["10.10.0.0/24"]),
        claim("worker-b", Some("true"), &[]),
        claim("worker-a", Some("true"), &[]),
        claim("by-hand", None, &["10.10.3.0/25"]),
        claim("silent", None, &[]),
        claim("served", Some("true"), &["10.10.1.0/24"]),
    ];
    let all = make(&pools("10.10.0.0/16"), &claims, "");
    assert_eq!(given(&all), ["worker-a 10.10.255.0/24", "worker-b 10.10.254.0/24"]);
    assert_eq!(all.gifts[0].1, "v-worker-a");
    assert!(all.lines.is_empty(), "{:?}", all.lines);
    // Of four, one is the absent w1's, and one is by hand in part.
    let few = make(&pools("10.10.0.0/22"), &claims, "");
    assert!(few.gifts.is_empty());
    assert!(few.lines[0].contains("node worker-a gets no pod CIDR: none is left in 10.10.0.0/22"), "{few:?}");
    let both = make(&pools("10.10.0.0/16,fd00:10:10::/56"), &claims, "");
    assert_eq!(given(&both)[0], "worker-a 10.10.255.0/24,fd00:10:10:ff::/64");
}

#[test]
fn who_had_a_range_gets_it_again_if_it_is_free() {
    let wishes = |wish: &str| {
        let claims =
            [claim("a", Some("true"), &[]), claim("b", Some(wish), &[]), claim("c", None, &["10.10.7.0/24"])];
        given(&make(&pools("10.10.0.0/16"), &claims, "")).remove(1)
    };
    assert_eq!(wishes("10.10.9.0/24"), "b 10.10.9.0/24");
    for refused in [
        // Given to another meanwhile; of the cluster file; taken in part; of no cluster; larger; of another family; none.
        "10.10.7.0/24",
        "10.10.2.0/24",
        "10.10.255.0/24",
        "10.99.9.0/24",
        "10.10.64.0/23",
        "fd00::/64",
        "x",
    ] {
        assert_eq!(wishes(refused), "b 10.10.254.0/24", "{refused}");
    }
}

#[test]
fn a_node_of_the_cluster_file_is_given_none() {
    let plan = make(&pools("10.10.0.0/16"), &[claim("w1", Some("true"), &[])], "");
    assert!(plan.gifts.is_empty() && plan.lines[0].contains("node w1 asks"), "{plan:?}");
}

#[test]
fn what_another_was_giving_is_for_that_node_and_for_no_other() {
    let pools = pools("10.10.0.0/16");
    let two = [claim("a", Some("true"), &[]), claim("b", Some("true"), &[])];
    let plan = make(&pools, &two, "b 10.10.255.0/24");
    assert_eq!(given(&plan), ["b 10.10.255.0/24", "a 10.10.254.0/24"]);
    // It came through, or the Node is gone.
    let done = [claim("a", Some("true"), &[]), claim("b", Some("true"), &["10.10.255.0/24"])];
    assert_eq!(given(&make(&pools, &done, "b 10.10.255.0/24")), ["a 10.10.254.0/24"]);
    assert_eq!(given(&make(&pools, &two[..1], "b 10.10.255.0/24")), ["a 10.10.255.0/24"]);
    assert_eq!(given(&make(&pools, &two[..1], "nonsense")), ["a 10.10.255.0/24"]);
}

#[test]
fn ranges_that_two_have_are_told_and_left() {
    let claims = [
        claim("x", None, &["10.10.9.0/24"]),
        claim("y", Some("true"), &["10.10.9.0/24"]),
        claim("z", None, &["10.10.2.128/25"]),
        claim("w1", None, &["10.10.2.0/24"]),
    ];
    let plan = make(&pools("10.10.0.0/16"), &claims, "");
    assert!(plan.gifts.is_empty());
    assert_eq!(plan.lines.len(), 2, "{plan:?}");
    assert!(
        plan.lines[0].contains("10.10.2.0/24 of node w1 and 10.10.2.128/25 of node z overlap"),
        "{plan:?}"
    );
    assert!(plan.lines[1].contains("10.10.9.0/24 of node x and 10.10.9.0/24 of node y overlap"), "{plan:?}");
}

#[test]
fn a_claim_is_what_its_node_says() {
    let node: Node = serde_json::from_value(json!({
        "metadata": { "name": "a", "resourceVersion": "7",
                      "annotations": { "bootwright/wants-pod-cidr": "true", "other": "x" },
                      "labels": { "node-role.kubernetes.io/master": "", "other": "x" } },
    }))
    .unwrap();
    let read = Claim::of(&node);
    assert_eq!(read, Claim { version: "7".to_owned(), ..claim("a", Some("true"), &[]) });
    assert!(read.waits() && node.is_control_plane());
    assert!(!claim("a", Some("true"), &["10.10.9.0/24"]).waits() && !claim("a", None, &[]).waits());
}

proptest! {
    /// What Nodes and the Lease say is written by others.
    #[test]
    fn no_text_of_others_ends_the_agent(wish: String, giving: String, range: String) {
        let claims = [claim("a", Some(&wish), &[]), claim("b", Some("true"), &[])];
        let plan = make(&pools("10.10.0.0/16"), &claims, &giving);
        prop_assert_eq!(plan.gifts.len(), 2);
        let node = json!({ "metadata": { "name": range }, "spec": { "podCIDRs": [range] } });
        prop_assert!(Claim::of(&serde_json::from_value(node).unwrap()).served);
    }

    #[test]
    fn a_gift_is_read_as_it_was_written(node in "[a-z0-9-]{1,63}", third: u8) {
        let gift = Gift { node, ranges: format!("10.10.{third}.0/24,fd00:{third:x}::/64").parse().unwrap() };
        prop_assert_eq!(gift.to_string().parse(), Ok(gift));
    }
}
