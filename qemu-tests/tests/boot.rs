//! A whole life under either firmware: boot, work, clean stop, boot again, and ten power cuts in a row.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::time::Duration;

use bootwright::lab::api::Api;
use bootwright::lab::{Firmware, demo, summary};
use bootwright_model::report::BootReport;
use qemu_tests::{Boot, FIRST_SERVICES, Image, NODE_PORT, READY, STOP, reports};
use serde_json::json;

/// Services that have to be ready in an all-in-one node.
const SERVICES: [&str; 7] = [
    "containerd",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
];

/// It ends with "failed to wait for apiserver being healthy" and this code if that takes more than ten seconds from when its
/// Lease can be written (`WaitForAPIServer`), as on a busy machine: the API server is still making its roles then.
const IMPATIENT: (&str, &str) = ("kube-controller-manager", "exit code 255");

/// How long each boot runs after its first services were started, milliseconds, until it is cut: while etcd
/// and containerd read and write their files. The first cut is that of a node that is Ready.
const CUTS_MS: [u64; 10] = [0, 400, 6_000, 1_000, 100, 3_000, 12_000, 700, 2_000, 50];

/// One machine through all of it: under emulation each way to Ready takes minutes.
#[test]
fn a_node_runs_a_pod_under_either_firmware_and_outlives_ten_power_cuts() {
    let image = Image::under_test();
    let mut boot = image.boot(image.spec("life", Firmware::Bios));
    let api = boot.api();
    boot.wait_ready(&api);
    let first = all_is_well(&mut boot);

    let version = api.get("/version").unwrap();
    assert_eq!(version["gitVersion"], "v1.20.2");
    json_bodies_are_decoded(&api);

    let (kubectl, manifest, port) = (boot.kubectl(), boot.manifest(), boot.host_port(NODE_PORT));
    let outcome = demo::run_workload(&manifest, &kubectl, port);
    boot.expect("the workload", outcome);
    let memory = summary::memory_in_use(boot.session.machine().qmp().unwrap()).unwrap();
    println!("memory in use: {memory:?} bytes");

    let outcome = boot.session.power_off(STOP);
    boot.expect("the power button", outcome);
    boot.session.machine().set_firmware(Firmware::Uefi).unwrap();
    boot.session.start_again().unwrap();
    boot.wait_ready(&api);
    let second = all_is_well(&mut boot);
    assert_ne!(first.boot_id, second.boot_id);
    state_was_kept(&api, "bodies");
    // The pod is started again by the kubelet, and its Service leads to it.
    demo::get_until(port, "/", std::time::Instant::now() + READY).unwrap();

    let recent = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "recent"}, "data": {"a": "1"},
    });
    api.post("/api/v1/namespaces/default/configmaps", &recent.to_string()).unwrap();
    for (index, cut) in CUTS_MS.into_iter().enumerate() {
        cut_and_boot(&mut boot, index);
        std::thread::sleep(Duration::from_millis(cut));
    }
    boot.session.reset().unwrap();
    boot.wait_ready(&api);
    state_was_kept(&api, "bodies");
    state_was_kept(&api, "recent");
}

/// Cuts the power, or presses the reset button, and waits for the first services of the next boot.
fn cut_and_boot(boot: &mut Boot, index: usize) {
    // By the plug, QEMU dies in the middle of its requests; by the reset button it finishes them. Neither loses
    // what the host's page cache has: a missing flush does not show here.
    if index.is_multiple_of(2) {
        boot.session.machine().kill().unwrap();
        boot.session.start_again().unwrap();
    } else {
        boot.session.reset().unwrap();
    }
    let outcome = boot.session.wait_report("the first services", FIRST_SERVICES, |report| {
        report.stages.iter().any(|stage| stage.name == "services")
    });
    let report = boot.expect(&format!("the boot after cut {}", index + 1), outcome);
    println!("boot {} after a cut: {}", index + 1, report.boot_id);
}

fn state_was_kept(api: &Api, name: &str) {
    let kept = api.get(&format!("/api/v1/namespaces/default/configmaps/{name}")).unwrap();
    assert_eq!(kept["data"]["a"], "1", "{name}");
}

/// Every stage passed, in the order that they are documented in, and every service is ready.
fn all_is_well(boot: &mut Boot) -> BootReport {
    let outcome = boot.session.wait_report("every service to be ready", READY, |report| {
        report.ready_ms.is_some() && SERVICES.iter().all(|name| reports::is_ready(report, name))
    });
    let report = boot.expect("the boot report", outcome);
    reports::assert_stages_passed(&report, "pod-network");
    for service in &report.services {
        let error = service.last_error.as_deref().unwrap_or_default();
        let was_impatient = service.name == IMPATIENT.0 && error == IMPATIENT.1;
        let most = u32::from(was_impatient);
        assert!(service.restarts <= most, "{} was started again: {error}", service.name);
    }
    report
}

/// Bodies with maps of several kinds: built with the reflect2 that Kubernetes 1.20 vendors and a newer Go,
/// the API server panics when it decodes some of them.
fn json_bodies_are_decoded(api: &Api) {
    let bodies = [
        (
            "/api/v1/namespaces/default/configmaps",
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "bodies", "labels": {"z": "26", "a": "1"}, "annotations": {"note": "text"}},
                "data": {"z": "26", "a": "1", "m": "13"}, "binaryData": {"b": "AAEC"},
            }),
        ),
        (
            "/api/v1/namespaces/default/resourcequotas",
            json!({
                "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "bodies"},
                "spec": {"hard": {"pods": "100", "requests.cpu": "4", "requests.memory": "1Gi"}},
            }),
        ),
        (
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": "berths.harbor.example"},
                "spec": {
                    "group": "harbor.example", "scope": "Namespaced",
                    "names": {"plural": "berths", "singular": "berth", "kind": "Berth"},
                    "versions": [{
                        "name": "v1", "served": true, "storage": true,
                        "schema": {"openAPIV3Schema": {
                            "type": "object",
                            "properties": {"spec": {
                                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                                "properties": {"depth": {"type": "integer", "minimum": 1, "default": 4}},
                            }},
                        }},
                    }],
                },
            }),
        ),
    ];
    for (path, body) in bodies {
        let made = api.post(path, &body.to_string()).expect(path);
        assert_eq!(made["metadata"]["name"], body["metadata"]["name"], "{path}");
    }
    let berth = json!({
        "apiVersion": "harbor.example/v1", "kind": "Berth", "metadata": {"name": "north"},
        "spec": {"lines": {"bow": 2, "stern": [1.5, null, {"deep": true}]}},
    });
    let path = "/apis/harbor.example/v1/namespaces/default/berths";
    // The definition is served a moment after it is made.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let made = loop {
        match api.post(path, &berth.to_string()) {
            Ok(made) => break made,
            Err(error) if std::time::Instant::now() > deadline => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    };
    assert_eq!(made["spec"]["depth"], 4);
    assert_eq!(made["spec"]["lines"]["stern"][2]["deep"], true);
}
