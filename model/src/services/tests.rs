use proptest::prelude::*;

use super::*;

/// Services from the TOML that a person writes.
fn services(text: &str) -> Vec<Service> {
    #[derive(serde::Deserialize)]
    struct File {
        service: Vec<Service>,
    }
    toml::from_str::<File>(text).unwrap().service
}

fn faults(text: &str) -> String {
    check(&services(text)).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_usual_profile_has_no_fault_and_an_order() {
    let services = services(
        r#"
        [[service]]
        name = "kube-apiserver"
        command = ["/usr/bin/kube-apiserver", "--advertise-address={address}"]
        component = "kube-apiserver"
        after = ["etcd"]
        ready = { https = "127.0.0.1:6443/readyz" }

        [[service]]
        name = "images"
        command = ["/usr/bin/ctr", "images", "import", "{images-archive}"]
        oneshot = true
        once = { key = "{root-hash}", clears = ["/var/lib/containerd"] }
        after = ["containerd"]

        [[service]]
        name = "etcd"
        command = ["/usr/bin/etcd"]
        ready = { http = "127.0.0.1:2381/health" }
        stop-signal = "SIGTERM"

        [[service]]
        name = "containerd"
        command = ["/usr/bin/containerd"]
        workloads = "kubepods"
        ready = { unix = "/run/containerd/containerd.sock" }
        "#,
    );
    assert_eq!(check(&services), []);
    assert_eq!(order(&services).unwrap(), [2, 0, 3, 1]);
}

#[test]
fn faults_of_the_graph_are_named() {
    insta::assert_snapshot!(faults(
        r#"
        [[service]]
        name = "a"
        command = ["/a"]
        after = ["b", "nobody"]
        [[service]]
        name = "a"
        command = ["/a"]
        "#
    ), @r#"
    service "a" is defined twice; rename one
    service "a" needs "b", which is not a service of this profile
    service "a" needs "nobody", which is not a service of this profile
    "#);
    insta::assert_snapshot!(faults(
        r#"
        [[service]]
        name = "free"
        command = ["/free"]
        [[service]]
        name = "outside"
        command = ["/o"]
        after = ["c"]
        [[service]]
        name = "a"
        command = ["/a"]
        after = ["free", "b"]
        [[service]]
        name = "b"
        command = ["/b"]
        uses = ["c"]
        [[service]]
        name = "c"
        command = ["/c"]
        after = ["a"]
        "#
    ), @"services wait for each other: c needs a needs b needs c; take one `after` or `uses` away");
    insta::assert_snapshot!(faults("[[service]]\nname = \"self\"\ncommand = [\"/s\"]\nafter = [\"self\"]"), @"services wait for each other: self needs self; take one `after` or `uses` away");
}

#[test]
fn faults_of_fields_are_named_all_at_once() {
    insta::assert_snapshot!(faults(
        r#"
        [[service]]
        name = "../etcd"
        command = ["etcd", "--name={nod}"]
        environment = { A = "{" }
        ready = { https = "localhost:6443/readyz" }
        cgroup = "/system/../init"
        oom-score = -2000
        starting-cpu-weight = 10001
        go-memory = { percent = 101, least-mib = 0 }
        stop-seconds = 0
        restart-milliseconds = [10, 5]
        once = { key = "{x}", clears = ["/", "/var/lib/", "/var/lib/../../etc"] }

        [[service]]
        name = "b"
        command = []
        oneshot = true
        workloads = ""
        ready = { tcp = "6443" }

        [[service]]
        name = "c"
        command = ["/c"]
        ready = { unix = "run/c.sock" }

        [[service]]
        name = "d"
        command = ["/d"]
        only-with = "/etc/d.conf"
        starting-cpu-weight = 200
        "#
    ), @r#"
    service name "../etcd" must be 1 to 40 of a-z, 0-9 and '-', starting with a letter
    service "../etcd": the command must begin with the absolute path of a program, not "etcd"
    service "../etcd", command: unknown placeholder {nod} in "--name={nod}"; known are address, agent-health-port, cluster, cluster-pod-cidr, domain, endpoint, endpoint-port, etc-kubernetes, images-archive, kubernetes, link, node, node-pki, pause-image, pki, pod-cidr, root-hash, service-cidr
    service "../etcd", environment: unpaired '{' at character 1 of "{"; write it twice for the brace itself
    service "../etcd", once.key: unknown placeholder {x} in "{x}"; known are address, agent-health-port, cluster, cluster-pod-cidr, domain, endpoint, endpoint-port, etc-kubernetes, images-archive, kubernetes, link, node, node-pki, pause-image, pki, pod-cidr, root-hash, service-cidr
    service "../etcd": probe "localhost:6443/readyz" must be address:port/path, with a numeric address
    service "../etcd", cgroup: "/system/../init" must be a cgroup below the root, as in "system/etcd"
    service "../etcd", once.clears: "/" must be a folder below /var/lib
    service "../etcd", once.clears: "/var/lib/" must be a folder below /var/lib
    service "../etcd", once.clears: "/var/lib/../../etc" must be a folder below /var/lib
    service "../etcd": `once` is for a one-shot: add `oneshot = true`
    service "../etcd", restart-milliseconds: [10, 5] must be [first, largest] with 50 <= first <= largest
    service "../etcd", stop-seconds: 0 must be 1 to 30
    service "../etcd", oom-score: -2000 must be -1000 to 1000
    service "../etcd", starting-cpu-weight: 10001 must be 1 to 10000
    service "../etcd", go-memory.percent: 101 must be 1 to 100
    service "../etcd", go-memory.least-mib: 0 must be what the program needs at least
    service "b": the command must begin with the absolute path of a program, not ""
    service "b": probe "6443" must be address:port, with a numeric address
    service "b", workloads: "" must be a cgroup below the root, as in "system/etcd"
    service "b": a one-shot is ready when it has ended well: take `ready` away
    service "b": `workloads` is for a service that keeps running
    service "c": probe "run/c.sock" must be an absolute path of up to 107 bytes
    service "d", only-with: "/etc/d.conf" must be a file below /run
    service "d": `starting-cpu-weight` lasts until it is ready: add `ready`
    "#);
}

#[test]
fn an_unknown_stop_signal_is_refused_where_it_stands() {
    let error =
        toml::from_str::<Service>("name = \"a\"\ncommand = [\"/a\"]\nstop-signal = \"SIGFOO\"").unwrap_err();
    assert!(error.to_string().contains("line 3"), "{error}");
}

fn graph() -> impl Strategy<Value = Vec<Service>> {
    (1usize..9)
        .prop_flat_map(|n| proptest::collection::vec(proptest::collection::vec(0..n + 1, 0..4), n))
        .prop_map(|edges| {
            let service = |(i, after): (usize, Vec<usize>)| {
                let after: Vec<String> = after.into_iter().map(|a| format!("\"s{a}\"")).collect();
                toml::from_str(&format!(
                    "name = \"s{i}\"\ncommand = [\"/s\"]\nafter = [{}]",
                    after.join(", ")
                ))
                .unwrap()
            };
            edges.into_iter().enumerate().map(service).collect()
        })
}

proptest! {
    /// Any graph, sound or not, has either an order that respects every `after`, or a fault that is true.
    #[test]
    fn an_order_or_a_true_fault(services in graph()) {
        match order(&services) {
            Ok(ordered) => {
                prop_assert_eq!(ordered.len(), services.len());
                for (at, &i) in ordered.iter().enumerate() {
                    for after in &services[i].after {
                        prop_assert!(ordered[..at].iter().any(|&d| services[d].name == *after));
                    }
                }
                prop_assert!(check(&services).is_empty());
            }
            Err(ServiceError::Cycle { path }) => {
                prop_assert!(path.len() >= 2 && path.first() == path.last());
                for pair in path.windows(2) {
                    let service = services.iter().find(|s| s.name == pair[0]).unwrap();
                    prop_assert!(service.after.contains(&pair[1]));
                }
            }
            Err(ServiceError::UnknownDependency { after, .. }) => {
                prop_assert!(!services.iter().any(|s| s.name == after));
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
