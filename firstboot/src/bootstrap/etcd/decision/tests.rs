use super::*;

const OWN: Identity = Identity { cluster: 0xc1, member: 2 };

fn member(id: u64, name: &str) -> Member {
    Member { id, name: name.to_owned(), urls: vec![format!("https://{name}:2380")], learner: false }
}

fn learner(id: u64, name: &str) -> Member {
    Member { learner: true, ..member(id, name) }
}

fn peer(name: &str, answer: Answer) -> Peer {
    Peer { name: name.to_owned(), address: "10.20.0.9".parse().unwrap(), answer }
}

fn empty(name: &str) -> Peer {
    expecting(name, Some("cp1"))
}

fn expecting(name: &str, beginner: Option<&str>) -> Peer {
    peer(name, Answer::NoData { beginner: beginner.map(str::to_owned) })
}

fn silent(name: &str) -> Peer {
    peer(name, Answer::Silent("No route to host".to_owned()))
}

fn has(name: &str, id: u64, members: &[Member]) -> Peer {
    peer(name, Answer::Cluster { id, members: members.to_vec() })
}

/// The decision of `node` in a cluster file that names cp1 first.
fn decision(node: &str, data: &Data, peers: &[Peer]) -> Decision {
    let url = format!("https://{node}:2380");
    decide(&Situation { node, url: &url, data, beginner: Some("cp1"), peers })
}

fn waits(decision: Decision) -> String {
    match decision {
        Decision::Wait(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cluster_is_begun_by_the_first_when_all_say_that_they_have_no_data() {
    let all_empty = [empty("cp2"), empty("cp3")];
    insta::assert_debug_snapshot!(decision("cp1", &Data::None, &all_empty), @r#"
    Begin(
        "begins a cluster: it is the first member of the cluster file, and neither it nor cp2 and cp3 has data",
    )
    "#);
    insta::assert_snapshot!(waits(decision("cp2", &Data::None, &[empty("cp1"), empty("cp3")])), @"it has no data and no member answers with a cluster, which cp1 may begin as the first of the cluster file (cp1 has no data; cp3 has no data)");
    insta::assert_debug_snapshot!(decision("cp1", &Data::None, &[]), @r#"
    Begin(
        "begins a cluster: it has no data and is the only member",
    )
    "#);
}

#[test]
fn no_cluster_is_begun_beside_one_that_may_be_there() {
    for peers in [[silent("cp2"), silent("cp3")], [empty("cp2"), silent("cp3")]] {
        let reason = waits(decision("cp1", &Data::None, &peers));
        assert!(reason.contains("cp3 does not answer: No route to host"), "{reason}");
    }
    // Nor when the cluster file says that there is one.
    let peers = [expecting("cp2", None), expecting("cp3", None)];
    let url = "https://cp1:2380";
    let decided = decide(&Situation { node: "cp1", url, data: &Data::None, beginner: None, peers: &peers });
    insta::assert_snapshot!(waits(decided), @r#"it has no data, the cluster file says initial-cluster-state = "existing", and no member answers with a cluster (cp2 has no data; cp3 has no data)"#);
}

#[test]
fn images_of_different_cluster_files_begin_nothing() {
    let peers = [expecting("cp2", Some("cp2")), empty("cp3")];
    insta::assert_snapshot!(waits(decision("cp1", &Data::None, &peers)), @"it has no data, and there are images of different cluster files: this machine expects cp1 to begin a cluster, cp2 expects cp2 to begin a cluster; write images of one cluster file to all of them");
    let peers = [expecting("cp2", None), expecting("cp3", Some("cp2"))];
    insta::assert_snapshot!(waits(decision("cp1", &Data::None, &peers)), @r#"it has no data, and there are images of different cluster files: this machine expects cp1 to begin a cluster, cp2 expects that there is one (initial-cluster-state = "existing") and cp3 expects cp2 to begin a cluster; write images of one cluster file to all of them"#);
    // The one that has another file says it too, and one that may not begin by its own.
    let url = "https://cp2:2380";
    let peers = [empty("cp1"), empty("cp3")];
    for beginner in [Some("cp2"), None] {
        let decided = decide(&Situation { node: "cp2", url, data: &Data::None, beginner, peers: &peers });
        let reason = waits(decided);
        assert!(reason.contains("cp1 expects cp1 to begin a cluster and cp3 expects cp1"), "{reason}");
    }
    // One that has a cluster is joined all the same.
    let peers = [has("cp2", 0xc1, &[member(2, "cp2")]), expecting("cp3", Some("cp3"))];
    assert!(matches!(decision("cp1", &Data::None, &peers), Decision::Join { .. }));
}

#[test]
fn what_is_certain_waits_for_nobody() {
    let certain = |data: &Data, peers: &[Peer]| {
        let url = "https://cp2:2380";
        is_certain(&Situation { node: "cp2", url, data, beginner: Some("cp1"), peers })
    };
    let members = [member(1, "cp1"), member(2, "cp2"), member(3, "cp3")];
    let without = [member(1, "cp1"), member(3, "cp3")];
    let own = Data::Member(OWN);
    assert!(certain(&own, &[silent("cp1"), has("cp3", 0xc1, &members)]));
    assert!(!certain(&own, &[silent("cp1"), silent("cp3")]));
    // One that does not know it may have been away, and the other may be in its cluster.
    assert!(!certain(&own, &[silent("cp1"), has("cp3", 0xc1, &without)]));
    assert!(!certain(&own, &[silent("cp1"), has("cp3", 0xc2, &members)]));
    for data in [Data::Unknown, Data::Damaged] {
        assert!(certain(&data, &[silent("cp1"), silent("cp3")]));
    }
    let new = Data::None;
    assert!(certain(&new, &[has("cp1", 0xc1, &members), has("cp3", 0xc1, &members)]));
    // The silent one may be in another cluster.
    assert!(!certain(&new, &[has("cp1", 0xc1, &members[..1]), silent("cp3")]));
    assert!(!certain(&new, &[has("cp1", 0xc1, &members), silent("cp3")]));
    assert!(!certain(&new, &[has("cp1", 0xc1, &without), has("cp3", 0xc2, &without)]));
    assert!(!certain(&new, &[empty("cp1"), silent("cp3")]));
}

#[test]
fn machines_of_etcd_begin_no_cluster_beside_that_of_the_control_planes() {
    assert_eq!(elsewhere(&[silent("cp1"), empty("cp2")]), None);
    let found = elsewhere(&[silent("cp1"), has("cp2", 0xc1, &[member(2, "cp2")])]).unwrap();
    assert!(found.contains("cp2 says that it is in one"), "{found}");
}

#[test]
fn without_data_it_joins_whichever_cluster_answers() {
    let of_one = [member(1, "cp1")];
    insta::assert_debug_snapshot!(decision("cp2", &Data::None, &[has("cp1", 0xc1, &of_one), silent("cp3")]), @r#"
    Join {
        reason: "it has no data; joins the cluster of cp1 as a learner",
        stale: [],
    }
    "#);
    // The first of the cluster file too, and what it was before is removed, by its URL: it may have been cut off before it
    // could tell its name.
    let unstarted = Member { name: String::new(), ..learner(7, "cp1") };
    let members = [member(1, "cp1"), member(2, "cp2"), unstarted];
    insta::assert_debug_snapshot!(decision("cp1", &Data::None, &[has("cp2", 0xc1, &members), empty("cp3")]), @r#"
    Join {
        reason: "it has no data, and cp2 knows a member cp1 that had; takes its place as a learner",
        stale: [
            1,
            7,
        ],
    }
    "#);
    // A machine with a wrong name takes nobody away.
    let elsewhere =
        [Member { urls: vec!["https://192.0.2.7:2380".to_owned()], ..member(1, "cp1") }, member(2, "cp2")];
    insta::assert_snapshot!(waits(decision("cp1", &Data::None, &[has("cp2", 0xc1, &elsewhere)])), @"it has no data, and cp2 has a member cp1 at https://192.0.2.7:2380, which is not this machine's https://cp1:2380: give one of the two another name, or remove that member if this machine has a new address");
    let two = [has("cp2", 0xc1, &[]), has("cp3", 0xc2, &[])];
    insta::assert_snapshot!(waits(decision("cp1", &Data::None, &two)), @"it has no data, and there are two clusters: cp2 is in c1 and cp3 is in c2; write the image to the disks of those that are wrong");
}

#[test]
fn with_data_it_starts_unless_its_cluster_says_that_it_was_removed() {
    let data = Data::Member(OWN);
    let members = [member(1, "cp1"), member(2, "cp2"), member(3, "cp3")];
    let without = [member(1, "cp1"), member(3, "cp3")];
    let restarts = |peers: &[Peer]| match decision("cp2", &data, peers) {
        Decision::Restart(reason) => reason,
        other => panic!("{other:?}"),
    };
    insta::assert_snapshot!(restarts(&[silent("cp1"), silent("cp3")]), @"starts with the data that it has; no other member answers");
    insta::assert_snapshot!(restarts(&[empty("cp1"), has("cp3", 0xc1, &members)]), @"starts with the data that it has; cp3 knows it");
    insta::assert_snapshot!(restarts(&[has("cp1", 0xc1, &without), silent("cp3")]), @"starts with the data that it has; cp1 does not know it, but is not the majority");
    let both = [has("cp1", 0xc1, &without), has("cp3", 0xc1, &without)];
    insta::assert_snapshot!(waits(decision("cp2", &data, &both)), @"it has been removed from the cluster: cp1 and cp3 say that its members are cp1 and cp3. Its data stays as it is; write the image to the disk again to have it join as a new member, or take it out of the cluster file");
    // A new member of its name is another.
    let again = [member(1, "cp1"), learner(9, "cp2"), member(3, "cp3")];
    waits(decision("cp2", &data, &[has("cp1", 0xc1, &again), has("cp3", 0xc1, &again)]));
    insta::assert_snapshot!(waits(decision("cp2", &data, &[has("cp1", 0xc2, &without), silent("cp3")])), @"its data is of the cluster c1, and cp1 is in the cluster c2; two clusters cannot be made one: write the image to the disk again to have it join that one");
}

#[test]
fn data_that_cannot_be_read_is_left_to_etcd_and_damaged_data_alone() {
    assert!(matches!(decision("cp1", &Data::Unknown, &[empty("cp2")]), Decision::Restart(_)));
    let reason = waits(decision("cp1", &Data::Damaged, &[]));
    assert!(reason.contains("no log"), "{reason}");
}

/// Whatever the peers say, a cluster is begun only by the first, without data, when each has said that it has none.
#[test]
fn the_whole_table() {
    let members = [member(1, "cp1"), member(2, "cp2"), member(3, "cp3")];
    let answers = |name: &str| [empty(name), silent(name), has(name, 0xc1, &members), has(name, 0xc2, &[])];
    let all_data = [Data::None, Data::Member(OWN), Data::Unknown, Data::Damaged];
    for node in ["cp1", "cp2", "cp3"] {
        let others: Vec<&str> = ["cp1", "cp2", "cp3"].into_iter().filter(|name| *name != node).collect();
        for (first, second) in answers(others[0])
            .into_iter()
            .flat_map(|first| answers(others[1]).map(|second| (first.clone(), second)))
        {
            for data in &all_data {
                let peers = [first.clone(), second.clone()];
                let decided = decision(node, data, &peers);
                let all_empty = peers.iter().all(|peer| matches!(peer.answer, Answer::NoData { .. }));
                let begins = matches!(decided, Decision::Begin(_));
                assert_eq!(
                    begins,
                    node == "cp1" && *data == Data::None && all_empty,
                    "{node} {data:?} {peers:?}"
                );
                if matches!(decided, Decision::Join { .. }) {
                    assert_eq!(*data, Data::None);
                }
            }
        }
    }
}
