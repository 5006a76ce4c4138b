//! Machines that are in no cluster file, where they may join.

use super::*;

fn open() -> Inventory {
    let file = serde_json::from_str(
        r#"{
            "cluster": { "name": "harbor", "endpoint": "10.20.0.10", "pod-cidr": "10.10.0.0/16",
                         "service-cidr": "10.96.0.0/16", "endpoint-names": ["api", "10.20.0.100"],
                         "domain": "harbor", "admit-unknown-workers": true },
            "kubernetes": { "version": "1.20.2" },
            "node": [
                { "name": "cp1", "role": "control-plane", "address": "10.20.0.10/24" },
                { "name": "e1", "role": "etcd", "address": "10.20.0.15/24" },
                { "name": "w1", "role": "worker", "address": "10.20.0.21/24" }
            ]
        }"#,
    );
    Inventory::from(&file.unwrap())
}

fn joins(name: &str, node: Option<&Node>) -> Verdict {
    let asked = Asked { common_name: format!("system:node:{name}"), ..joining() };
    judge(&asked.read().unwrap(), &open(), node)
}

#[test]
fn a_holder_of_the_token_becomes_a_worker_that_is_none_yet() {
    approved(&joins("worker-5254002000a1", None));
    approved(&joins("pool-7", Some(&node(false, &[]))));
    left(&joins("pool-7", Some(&node(true, &[]))), "that node is alive");
    let mut node = node(false, &[]);
    node.metadata.labels = Some([("node-role.kubernetes.io/control-plane".to_owned(), String::new())].into());
    denied(&joins("cp2", Some(&node)), "a control plane of another cluster file");
    // Those of the cluster file as before.
    approved(&joins("w1", None));
    denied(&joins("cp1", None), "nobody may join as it");
    denied(&joins("e1", None), "nobody may join as it");
}

#[test]
fn a_holder_of_the_token_gets_no_name_that_means_something_else() {
    for (name, why) in [
        ("api", "the API's"),
        ("localhost", "no node's"),
        ("kubernetes", "a Service's"),
        ("harbor", "a Service's"),
        ("kubernetes.default.svc", "no label"),
        ("w9.harbor", "no label"),
        ("-w9", "no label"),
        (&"a".repeat(64), "no label"),
    ] {
        denied(&joins(name, None), why);
    }
    let mut asked = Asked { common_name: "system:node:w9".to_owned(), ..joining() };
    asked.spec.usages.push("server auth".to_owned());
    denied(&judge(&asked.read().unwrap(), &open(), None), "with usages");
}

#[test]
fn its_serving_certificate_is_for_what_its_node_has_and_nobody_else() {
    let asks = |user: &str, names: &[SanType], status: &[(&str, &str)]| {
        let mut asked = serving();
        asked.common_name = "system:node:w9".to_owned();
        asked.spec.username = user.to_owned();
        asked.names = names.to_vec();
        judge(&asked.read().unwrap(), &open(), Some(&node(true, status)))
    };
    let own = [dns("w9"), ip("10.20.0.99")];
    let status = [("InternalIP", "10.20.0.99"), ("Hostname", "w9")];
    approved(&asks("system:node:w9", &own, &status));
    left(&asks("system:node:w9", &own, &[("Hostname", "w9")]), "10.20.0.99 is neither in its Node's status");
    denied(&asks("system:node:w8", &own, &status), "a node asks for its own only");
    denied(&asks("system:bootstrap:abc123", &own, &status), "a node asks for its own only");
    let claims = [("InternalIP", "10.20.0.21"), ("InternalIP", "10.10.3.7")];
    denied(&asks("system:node:w9", &[ip("10.20.0.21")], &claims), "node w1's");
    denied(&asks("system:node:w9", &[ip("10.10.3.7")], &claims), "a pod's");
}
