//! The etcd of three control planes with the real program: how it begins, and what becomes of a member that lost its
//! disk, or was removed.

mod inventory;
mod machines;
mod namespace;

use std::time::{Duration, Instant};

use machines::Machines;

use super::programs;

/// Long enough for a wrong decision to be taken; a right one takes a second.
const WATCH: Duration = Duration::from_secs(8);

#[test]
fn a_cluster_begins_in_any_order() {
    if !programs::inside_namespace("etcd::a_cluster_begins_in_any_order") {
        return;
    }
    let mut machines = Machines::new();
    // The one that may begin comes last.
    machines.power_on("cp3");
    machines.power_on("cp2");
    machines.says("cp2", "which cp1 may begin");
    machines.says("cp2", "cp3 has no data");
    machines.stay_without_etcd(&["cp2", "cp3"], WATCH);
    assert_eq!(machines.state("cp2", true).as_deref(), Some("no-data"));
    assert_eq!(machines.state("cp2", false), None, "nobody without a certificate is told");
    machines.power_on("cp1");
    machines.have_votes(&["cp1", "cp2", "cp3"]);
    machines.says("cp1", "begins a cluster");
    let first = machines.cluster_id("cp1");

    // A restart changes nothing, each on its own and all together.
    let before = machines.members("cp1").unwrap();
    for name in ["cp1", "cp2", "cp3"] {
        machines.power_off(name);
    }
    for name in ["cp1", "cp2", "cp3"] {
        machines.power_on(name);
    }
    machines.have_votes(&["cp1", "cp2", "cp3"]);
    assert_eq!(machines.members("cp1").unwrap(), before);

    // It comes first, and all three are new again: another cluster, which would not take the old one's members.
    for name in ["cp1", "cp2", "cp3"] {
        machines.power_off(name);
        machines.wipe(name);
    }
    machines.power_on("cp1");
    machines.says("cp1", "cp2 does not answer");
    machines.power_on("cp2");
    machines.says("cp1", "cp2 has no data; cp3 does not answer");
    machines.stay_without_etcd(&["cp1", "cp2"], WATCH);
    machines.power_on("cp3");
    machines.have_votes(&["cp1", "cp2", "cp3"]);
    assert_ne!(machines.cluster_id("cp1"), first);
}

#[test]
fn members_lose_their_disks_and_are_removed() {
    if !programs::inside_namespace("etcd::members_lose_their_disks_and_are_removed") {
        return;
    }
    let mut machines = Machines::new();
    for name in ["cp1", "cp2", "cp3"] {
        machines.power_on(name);
    }
    machines.have_votes(&["cp1", "cp2", "cp3"]);
    let cluster = machines.cluster_id("cp1");
    machines.put("cp1", "ship", "dinghy");

    // One member, and then the one that began the cluster.
    for name in ["cp2", "cp1"] {
        let before = machines.member_id("cp3", name).unwrap();
        machines.power_off(name);
        machines.wipe(name);
        machines.power_on(name);
        machines.says(name, "takes its place as a learner");
        machines.says(name, "has caught up, and a vote");
        machines.have_votes(&["cp1", "cp2", "cp3"]);
        assert_ne!(machines.member_id("cp3", name).unwrap(), before);
        assert_eq!(machines.get(name, "ship").as_deref(), Some("dinghy"));
    }

    // Cut off after it was added and before etcd had its log.
    machines.power_off("cp2");
    machines.wipe("cp2");
    machines.be_cut_off_while_joining("cp2");
    machines.power_on("cp2");
    machines.have_votes(&["cp1", "cp2", "cp3"]);

    // Alone without a disk it begins nothing, nor beside one that has no majority. Written before: that a member has its
    // vote is on a disk with the next write only, which an API server makes every moment.
    machines.put("cp3", "ship", "schooner");
    for name in ["cp1", "cp2", "cp3"] {
        machines.power_off(name);
    }
    machines.wipe("cp1");
    machines.power_on("cp1");
    machines.says("cp1", "cp2 does not answer");
    machines.stay_without_etcd(&["cp1"], WATCH);
    machines.power_on("cp2");
    machines.says("cp1", "its cluster may have no majority");
    machines.stay_without_etcd(&["cp1"], WATCH);
    machines.power_on("cp3");
    machines.have_votes(&["cp1", "cp2", "cp3"]);
    assert_eq!(machines.get("cp1", "ship").as_deref(), Some("schooner"));
    assert_eq!(machines.cluster_id("cp1"), cluster);

    // Removed while it was away.
    machines.power_off("cp3");
    machines.remove("cp1", "cp3");
    machines.power_on("cp3");
    machines.says(
        "cp3",
        "it has been removed from the cluster: cp1 and cp2 say that its members are cp1 and cp2",
    );
    machines.stay_without_etcd(&["cp3"], WATCH);
    assert!(machines.has_data("cp3"), "it is left as it is");
    machines.power_off("cp3");
    machines.wipe("cp3");
    machines.power_on("cp3");
    machines.have_votes(&["cp1", "cp2", "cp3"]);
}

#[test]
fn images_of_different_cluster_files_begin_nothing() {
    if !programs::inside_namespace("etcd::images_of_different_cluster_files_begin_nothing") {
        return;
    }
    let mut machines = Machines::new();
    machines.expect_to_begin("cp2", "cp2");
    for name in ["cp1", "cp2", "cp3"] {
        machines.power_on(name);
    }
    machines.says("cp1", "this machine expects cp1 to begin a cluster, cp2 expects cp2 to begin a cluster");
    machines.says("cp2", "cp1 expects cp1 to begin a cluster and cp3 expects cp1 to begin a cluster");
    machines.stay_without_etcd(&["cp1", "cp2", "cp3"], WATCH);
    // The image is written again.
    machines.power_off("cp2");
    machines.expect_to_begin("cp2", "cp1");
    machines.power_on("cp2");
    machines.have_votes(&["cp1", "cp2", "cp3"]);
}

#[test]
fn a_restart_waits_for_nobody_and_a_new_address_is_told() {
    if !programs::inside_namespace("etcd::a_restart_waits_for_nobody_and_a_new_address_is_told") {
        return;
    }
    let mut machines = Machines::new();
    for name in ["cp1", "cp2", "cp3"] {
        machines.power_on(name);
    }
    machines.have_votes(&["cp1", "cp2", "cp3"]);

    // With the others there.
    machines.power_off("cp2");
    machines.renumber("cp2", 32);
    machines.power_on("cp2");
    machines.says(
        "cp2",
        "has told its cluster that it moved from https://10.30.0.22:2380 to https://10.30.0.32:2380",
    );
    machines.have_votes(&["cp1", "cp2", "cp3"]);
    assert_eq!(machines.peer_url("cp1", "cp2").as_deref(), Some("https://10.30.0.32:2380"));

    // One is gone for good, and the cluster has no majority without the one that moves. Written before: what was changed is
    // on a disk with the next write only, which an API server makes every moment, and a member that missed it would look
    // for cp2 where that was.
    machines.put("cp3", "ship", "schooner");
    machines.power_off("cp1");
    machines.power_off("cp3");
    machines.renumber("cp3", 33);
    machines.unplug("cp1");
    let began = Instant::now();
    machines.power_on("cp3");
    machines.says("cp3", "cp2 knows it");
    let took = began.elapsed();
    machines.says(
        "cp3",
        "has told its cluster that it moved from https://10.30.0.23:2380 to https://10.30.0.33:2380",
    );
    assert_eq!(machines.peer_url("cp2", "cp3").as_deref(), Some("https://10.30.0.33:2380"));
    assert_eq!(machines.get("cp3", "ship").as_deref(), Some("schooner"));
    assert!(took < Duration::from_secs(3), "an unplugged machine is silent for 10 s, and this took {took:?}");
}
