//! A node of a cloud, whose controller manager is this test: what waits for it, and what stays of what it says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::time::{Duration, Instant};

use bootwright::lab::Firmware;
use bootwright::lab::api::Api;
use bootwright::validate::{self, Expected};
use bootwright_model::probe::PROBE_IMAGE;
use qemu_tests::{Image, READY};
use serde_json::{Value, json};

/// As the firmware of the cloud's machine tells it.
const SERIAL: &str = "hv-4711";
const NODE: &str = "/api/v1/nodes/cp1";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// What keeps pods away until the cloud knows the machine.
const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
/// The machine's address outside of the cloud (RFC 5737).
const OUTSIDE: &str = "192.0.2.15";

#[test]
fn a_node_waits_for_its_cloud_and_keeps_what_that_says() {
    let image = Image::of_cloud();
    let mut spec = image.spec("cloud", Firmware::Bios);
    spec.arguments = ["-smbios".to_owned(), format!("type=1,serial={SERIAL}")].into();
    let folder = spec.folder.clone();
    let mut boot = image.boot(spec);
    let api = boot.api();
    boot.wait_ready(&api);

    // The control plane gives it, and a kubelet may be Ready before.
    eventually("there is a range for pods", || api.get(NODE).unwrap()["spec"]["podCIDR"] == "10.10.0.0/24");
    let node = api.get(NODE).unwrap();
    assert_eq!(node["spec"]["providerID"], format!("harbor://{SERIAL}"));
    assert_eq!(addresses(&node, "InternalIP"), ["10.0.2.15"]);
    // Which of its addresses the cloud must not change.
    assert_eq!(node["metadata"]["annotations"]["alpha.kubernetes.io/provided-node-ip"], "10.0.2.15");
    assert!(waits(&node), "{node}");

    // No pod is admitted before the controller manager has made it.
    eventually("there is a service account", || {
        api.get("/api/v1/namespaces/default/serviceaccounts/default").is_ok()
    });
    api.post(PODS, &pod().to_string()).unwrap();
    eventually("the pod waits for the cloud", || {
        let pod = api.get(&format!("{PODS}/early")).unwrap();
        let told = pod["status"]["conditions"][0]["message"].as_str().unwrap_or_default().to_owned();
        told.contains(UNINITIALIZED)
    });

    knows_the_machine(&api, &node);
    eventually("the pod runs", || {
        let pod = api.get(&format!("{PODS}/early")).unwrap();
        pod["status"]["phase"] == "Running"
            && pod["status"]["podIP"].as_str().is_some_and(|address| address.starts_with("10.10.0."))
    });
    let report = validate::validate(&validate::Options {
        kubeconfig: &folder.join("kubeconfig"),
        expected: Some(Expected::of(&image.lab_options().cluster)),
        patience: READY,
        say: &|words| println!("{words}"),
    });
    let report = report.unwrap();
    println!("{}", report.text());
    assert!(report.ok, "see above");

    // The next boot brings the Node up to date, and takes nothing from the cloud.
    let outcome = boot.session.reset();
    boot.expect("the reset", outcome);
    boot.wait_ready(&api);
    let node = api.get(NODE).unwrap();
    assert!(!waits(&node), "{node}");
    assert_eq!(addresses(&node, "ExternalIP"), [OUTSIDE]);
    assert_eq!(node["metadata"]["labels"]["node.kubernetes.io/instance-type"], "small");
    assert_eq!(node["spec"]["providerID"], format!("harbor://{SERIAL}"));
}

/// What a cloud's controller manager does with a Node that it finds uninitialized.
///
/// <https://kubernetes.io/docs/concepts/architecture/cloud-controller/#node-controller>
fn knows_the_machine(api: &Api, node: &Value) {
    let mut addresses = node["status"]["addresses"].as_array().unwrap().clone();
    addresses.push(json!({ "type": "ExternalIP", "address": OUTSIDE }));
    let status = json!({ "status": { "addresses": addresses } });
    api.patch(&format!("{NODE}/status"), &status.to_string()).unwrap();
    let taints = node["spec"]["taints"].as_array().unwrap().iter();
    let taints: Vec<&Value> = taints.filter(|taint| taint["key"] != UNINITIALIZED).collect();
    let labels = json!({ "node.kubernetes.io/instance-type": "small" });
    let known = json!({ "metadata": { "labels": labels }, "spec": { "taints": taints } });
    api.patch(NODE, &known.to_string()).unwrap();
}

/// One that tolerates nothing, of an image that every node has.
fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "early" },
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "probe", "image": PROBE_IMAGE, "imagePullPolicy": "Never", "args": ["[::]:8080"],
            }],
        },
    })
}

fn waits(node: &Value) -> bool {
    let mut taints = node["spec"]["taints"].as_array().into_iter().flatten();
    taints.any(|taint| taint["key"] == UNINITIALIZED)
}

fn addresses<'a>(node: &'a Value, kind: &str) -> Vec<&'a str> {
    let all = node["status"]["addresses"].as_array().into_iter().flatten();
    all.filter(|one| one["type"] == kind).filter_map(|one| one["address"].as_str()).collect()
}

fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + READY;
    while !check() {
        assert!(Instant::now() < deadline, "not within {READY:?}: {what}");
        std::thread::sleep(Duration::from_millis(500));
    }
}
