//! An API server that comes and goes while probes are made and asked.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::validate::report::{Report, Verdict};
use crate::validate::testing::{Answer, Server};

/// One Ready node, whose pods are ready at once.
fn answer(method: &str, path: &str) -> Answer {
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    let inside = path.split_once("/bootwright-validate-").map(|(_, inside)| inside);
    let kind = inside.and_then(|inside| inside.split_once('/')).map(|(_, kind)| kind);
    let ready = json!({ "podIP": "10.10.1.2", "conditions": [{ "type": "Ready", "status": "True" }] });
    match (method, kind) {
        ("GET", Some("pods")) => {
            let pods =
                ["pod-0", "node-0"].map(|name| json!({ "metadata": { "name": name }, "status": ready }));
            Answer::json(200, &json!({ "items": pods }))
        }
        ("GET", Some(kind)) if kind.ends_with("/proxy/") => {
            Answer::json(200, &json!({ "host": "pod-0", "caller": "10.10.0.1:1", "links": { "eth0": 1450 } }))
        }
        ("GET", Some("services/probe")) => {
            Answer::json(200, &json!({ "spec": { "clusterIP": "10.96.0.7" } }))
        }
        ("POST", Some(kind)) if kind.contains("/proxy/") => Answer::json(200, &json!([])),
        ("GET", None) => Answer::json(200, &json!({ "items": [], "spec": { "clusterIP": "10.96.0.1" } })),
        _ => Answer::json(201, &json!({})),
    }
}

fn look_at(server: &Server, settled: Duration) -> Vec<Finding> {
    let node = NodeView {
        name: "w1".to_owned(),
        addresses: Vec::new(),
        pod_cidrs: Vec::new(),
        ready: true,
        control_plane: false,
    };
    let settings = Settings {
        nodes: &[node],
        domain: "cluster.local",
        whole_control_plane: false,
        etcd: &[],
        dns_expected: false,
        patience: Duration::from_secs(5),
        settled,
        now: OffsetDateTime::UNIX_EPOCH,
        say: &|_| (),
    };
    look(&server.client(), &settings).unwrap()
}

/// Of an API server that does not come back.
const SHORT: Duration = Duration::from_millis(300);

fn failures(findings: &[Finding]) -> Vec<(Check, &str)> {
    let failed = findings.iter().filter_map(|finding| match &finding.verdict {
        Verdict::Failed { why, .. } => Some((finding.check, why.as_str())),
        _ => None,
    });
    failed.collect()
}

#[test]
fn what_was_not_answered_is_asked_again() {
    let asked = Mutex::new(BTreeSet::new());
    let server = Server::new(move |method, path| {
        let request = format!("{method} {path}");
        // What is made is made, though nobody hears of it.
        let made = method == "POST" && (path.ends_with("/namespaces") || path.ends_with("/services"));
        match asked.lock().unwrap().insert(request) {
            true => Answer::HangUp,
            false if made => Answer::json(409, &json!({ "message": "already exists" })),
            false => answer(method, path),
        }
    });
    let findings = look_at(&server, Duration::from_secs(4));
    let failed = failures(&findings);
    // The probes were asked: their answers are empty here.
    assert!(failed.len() > 2, "{findings:?}");
    assert!(failed.iter().all(|(_, why)| *why == "the probe gave no answer to it"), "{findings:?}");
    let services = findings.iter().filter(|finding| finding.check == Check::PodToService).count();
    assert_eq!(services, 1, "{findings:?}");
}

#[test]
fn an_api_server_that_stays_away_is_a_failed_check() {
    let server = Server::new(|_, _| Answer::text(503, "etcd has no leader"));
    let findings = look_at(&server, SHORT);
    let text = Report::of("server", findings).text();
    let name = text.split_whitespace().find(|word| word.starts_with("bootwright-validate-")).unwrap();
    insta::assert_snapshot!(text.replace(name, "bootwright-validate-1"), @r"
    CHECK      RESULT    SEEN
    probe pod  2 failed

    FAILED probe pod, namespace: status 503: etcd has no leader
           the API server or its etcd went away: find out why, and validate again
    FAILED probe pod, namespace: bootwright-validate-1 is left: status 503: etcd has no leader
           `kubectl delete namespace bootwright-validate-1` removes it
    server: 0 passed, 2 failed, 0 skipped
    ");
}

#[test]
fn one_that_goes_away_while_probes_are_asked_loses_no_finding() {
    let server = Server::new(|method, path| match path.contains(CHECKS_PATH) {
        true => Answer::text(503, "etcd has no leader"),
        false => answer(method, path),
    });
    let findings = look_at(&server, SHORT);
    let passed = findings.iter().filter(|finding| matches!(finding.verdict, Verdict::Passed { .. })).count();
    assert_eq!(passed, 2, "{findings:?}");
    let failed = failures(&findings);
    assert!(!failed.is_empty(), "{findings:?}");
    let unreached = "the probe was not reached through the API server: status 503: etcd has no leader";
    assert!(failed.iter().all(|(_, why)| *why == unreached), "{findings:?}");
}

#[test]
fn a_pod_that_never_is_ready_is_told_with_its_last_event() {
    let event = |time: &str, message: &str| {
        json!({ "involvedObject": { "name": "pod-0" }, "lastTimestamp": time, "reason": "FailedCreatePodSandBox",
                "message": message })
    };
    let events =
        [event("2026-01-02T03:04:06Z", "the second\ntry"), event("2026-01-02T03:04:05Z", "the first")];
    let server = Server::new(move |method, path| {
        let waiting =
            json!({ "containerStatuses": [{ "state": { "waiting": { "reason": "ContainerCreating" } } }] });
        match path {
            _ if path.ends_with("/events") => Answer::json(200, &json!({ "items": events })),
            _ if method == "GET" && path.ends_with("/pods") => Answer::json(
                200,
                &json!({ "items": [{ "metadata": { "name": "pod-0" }, "status": waiting }] }),
            ),
            _ => answer(method, path),
        }
    });
    let findings = look_at(&server, SHORT);
    let failed = failures(&findings);
    assert!(
        failed.contains(&(
            Check::ProbePod,
            "not ready after 5 s: ContainerCreating; its last event is FailedCreatePodSandBox: the second try"
        )),
        "{failed:?}"
    );
}

/// What was refused for good is not there to be removed.
#[test]
fn nothing_is_left_where_nothing_was_made() {
    let server = Server::new(|method, _| {
        let what = if method == "POST" { "namespaces is forbidden" } else { "cannot delete" };
        Answer::json(403, &json!({ "message": what }))
    });
    assert_eq!(
        failures(&look_at(&server, SHORT)),
        [(Check::ProbePod, "status 403: namespaces is forbidden")]
    );
}
