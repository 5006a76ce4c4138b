//! A control plane and a worker, which joins it by its own agent, with pods of both address families, and what
//! `bootwright validate` says of them.

use std::time::Duration;

use bootwright::lab::cluster::{Status, Supervisor, commands};
use bootwright::validate::{Check, Expected, Verdict};
use qemu_tests::{Image, READY};

/// Checks that want two nodes.
const BETWEEN_NODES: [Check; 4] = [Check::PodToPod, Check::SourceAddress, Check::Mtu, Check::PodToService];

#[test]
fn a_worker_joins_and_the_cluster_is_what_it_should_be() {
    let image = Image::of_dual();
    let options = image.lab_options();
    let expected = Expected::of(&options.cluster);
    // What an earlier run left that was killed.
    commands::down(image.root(), true).unwrap();
    let mut lab = Supervisor::start(options, &mut |line| println!("{line}")).unwrap();
    super::wait(&mut lab, "Ready", 2 * READY, Status::is_ready);
    let report = super::validated(&lab, expected, READY);
    for check in BETWEEN_NODES {
        let of_check = report.findings.iter().filter(|finding| finding.check == check);
        let passed = of_check.filter(|finding| matches!(finding.verdict, Verdict::Passed { .. }));
        // From each node, in each family.
        assert_eq!(passed.count(), 4, "{check:?}");
    }
    assert!(namespaces(&lab).iter().all(|name| !name.starts_with("bootwright-validate")));
    assert!(lab.end(false, |_| {}).unwrap().is_empty());
}

/// Those that are not on their way out, after the controller manager has had time to take note.
fn namespaces(lab: &Supervisor) -> Vec<String> {
    std::thread::sleep(Duration::from_secs(1));
    let list = lab.api().unwrap().get("/api/v1/namespaces").unwrap();
    let items = list["items"].as_array().into_iter().flatten();
    let staying = items.filter(|one| one["metadata"]["deletionTimestamp"].is_null());
    staying.filter_map(|one| one["metadata"]["name"].as_str().map(str::to_owned)).collect()
}
