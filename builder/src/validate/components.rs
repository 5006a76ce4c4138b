//! Verdicts on the control plane's parts and on kubelets, from what the API server answers.

use std::time::Instant;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::client::{Answer, Client, Refusal};
use super::expected::Expected;
use super::nodes::NodeView;
use super::report::{Check, Finding};
use super::{AGAIN, SETTLED, ValidateError, stop_if_asked};

/// Components that elect a leader, and the Leases of both.
const CONTROLLER_MANAGER: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";
/// Lease durations that may pass without a renewal: a holder renews each few seconds, and gives up before two are over.
const DURATIONS: i64 = 2;

/// Asks for the health of the API server and of the leaders. Returns the cluster's time as well: the clock of this machine
/// may be another, and is taken only if the API server does not tell its own.
pub fn look(client: &Client, expected: Option<&Expected>) -> (Vec<Finding>, OffsetDateTime) {
    let health = client.text("/readyz?verbose");
    let now = health.as_ref().ok().and_then(|answer| answer.date).unwrap_or_else(OffsetDateTime::now_utc);
    let mut findings = api_health(&health);
    // Of ours the controller manager waits for the API by its election, and the scheduler has one among several.
    let several = expected.is_some_and(|expected| expected.control_planes > 1);
    for (name, by_default) in [(CONTROLLER_MANAGER, expected.is_some()), (SCHEDULER, several)] {
        let elects = by_default && expected.is_some_and(|expected| !expected.other_elections.contains(name));
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{name}");
        findings.push(leader(name, client.get(&path), elects, now));
    }
    (findings, now)
}

/// Asks for the health of the kubelets. Of one whose node is not Ready it is told already.
///
/// # Errors
/// Ctrl-C.
pub fn kubelets(client: &Client, nodes: &[NodeView]) -> Result<Vec<Finding>, ValidateError> {
    let deadline = Instant::now() + SETTLED;
    let mut findings = Vec::new();
    let mut waiting: Vec<&str> =
        nodes.iter().filter(|node| node.ready).map(|node| node.name.as_str()).collect();
    loop {
        let mut failed = Vec::new();
        for name in waiting {
            stop_if_asked()?;
            let found = kubelet(name, &client.text(&format!("/api/v1/nodes/{name}/proxy/healthz")));
            if found.is_failed() && Instant::now() < deadline {
                failed.push(name);
            } else {
                findings.push(found);
            }
        }
        if failed.is_empty() {
            return Ok(findings);
        }
        waiting = failed;
        std::thread::sleep(AGAIN);
    }
}

/// `/readyz?verbose`: a line for each of the server's own checks, etcd's among them, `[+]etcd ok` or `[-]etcd failed: …`.
fn api_health(answer: &Result<Answer, Refusal>) -> Vec<Finding> {
    let advice = "the API server's log says more: `bootwright lab logs`, or /var/log/services on the node";
    let failed = |why: String| Finding::failed(Check::ApiHealth, "kube-apiserver", why, advice);
    let answer = match answer {
        Ok(answer) => answer,
        Err(refusal) => return vec![failed(refusal.why.clone())],
    };
    let lines = || answer.body.lines();
    let mut findings: Vec<Finding> =
        lines().filter_map(|line| line.strip_prefix("[-]")).map(|line| failed(line.to_owned())).collect();
    let passed: Vec<&str> =
        lines().filter_map(|line| line.strip_prefix("[+]")?.strip_suffix(" ok")).collect();
    if findings.is_empty() && answer.status != 200 {
        findings.push(failed(format!("status {}: {}", answer.status, answer.body.trim())));
    } else if findings.is_empty() {
        let etcd = if passed.contains(&"etcd") { ", etcd among them" } else { "" };
        let seen = format!("{} of its own checks{etcd}", passed.len());
        findings.push(Finding::passed(Check::ApiHealth, "kube-apiserver", seen));
    }
    findings
}

/// `elects` says that it must have held an election.
fn leader(name: &str, lease: Result<Value, Refusal>, elects: bool, now: OffsetDateTime) -> Finding {
    let advice = "its log on the control plane says why; until it works, nothing is scheduled or controlled";
    let lease = match lease {
        Ok(lease) => lease,
        Err(Refusal { status: Some(404), .. }) if elects => {
            return Finding::failed(Check::Leader, name, "it has no Lease", advice);
        }
        Err(Refusal { status: Some(404), .. }) => {
            return Finding::skipped(Check::Leader, name, "alone, without an election");
        }
        Err(refusal) => return Finding::failed(Check::Leader, name, refusal.why, advice),
    };
    let spec = &lease["spec"];
    let holder = spec["holderIdentity"].as_str().unwrap_or_default();
    let renewed = spec["renewTime"].as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let (Some(renewed), Some(duration)) = (renewed, spec["leaseDurationSeconds"].as_i64()) else {
        return Finding::failed(
            Check::Leader,
            name,
            "its Lease has no time of renewal or no duration",
            advice,
        );
    };
    // `node_8f1c…`: the part after the node's name tells apart two that follow each other.
    let node = holder.split('_').next().unwrap_or_default();
    let age = (now - renewed).whole_seconds();
    if node.is_empty() {
        return Finding::failed(Check::Leader, name, "nobody holds its Lease", advice);
    }
    if age > duration.saturating_mul(DURATIONS) {
        let why = format!("{node} holds its Lease of {duration} s and has not renewed it for {age} s");
        return Finding::failed(Check::Leader, name, why, advice);
    }
    Finding::passed(Check::Leader, name, format!("on {node}"))
}

fn kubelet(node: &str, answer: &Result<Answer, Refusal>) -> Finding {
    let advice = "the API server reaches the kubelet at the node's address, port 10250, and checks its certificate: \
                  logs and `kubectl exec` fail as this does";
    match answer {
        Ok(answer) if answer.status == 200 => {
            Finding::passed(Check::Kubelet, node, "healthy, by way of the API server")
        }
        Ok(answer) => {
            let why = format!("status {}: {}", answer.status, answer.body.trim());
            Finding::failed(Check::Kubelet, node, why, advice)
        }
        Err(refusal) => Finding::failed(Check::Kubelet, node, refusal.why.clone(), advice),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::report::Verdict;
    use super::*;

    fn answer(status: u16, body: &str) -> Result<Answer, Refusal> {
        Ok(Answer { status, body: body.to_owned(), date: None })
    }

    fn why(finding: &Finding) -> &str {
        match &finding.verdict {
            Verdict::Passed { seen: text }
            | Verdict::Failed { why: text, .. }
            | Verdict::Skipped { why: text } => text,
        }
    }

    #[test]
    fn what_the_api_server_says_of_itself() {
        let body = "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]poststarthook/start-kube-aggregator-informers ok\nreadyz check passed\n";
        let found = api_health(&answer(200, body));
        assert_eq!(why(&found[0]), "4 of its own checks, etcd among them");
        let body = "[+]ping ok\n[-]etcd failed: reason withheld\n[-]shutdown failed: reason withheld\nreadyz check failed\n";
        let found = api_health(&answer(500, body));
        assert_eq!(found.len(), 2);
        assert_eq!(why(&found[0]), "etcd failed: reason withheld");
        assert_eq!(why(&api_health(&answer(403, "no"))[0]), "status 403: no");
    }

    #[test]
    fn a_leader_has_to_renew_its_lease() {
        let now = OffsetDateTime::parse("2026-11-25T12:00:00Z", &Rfc3339).unwrap();
        let lease = |holder: &str, renewed: &str| {
            let spec = json!({ "holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15 });
            leader(SCHEDULER, Ok(json!({ "spec": spec })), true, now)
        };
        let fresh = lease("cp1_8f1c", "2026-11-25T11:59:58.123456Z");
        assert!(matches!(fresh.verdict, Verdict::Passed { .. }));
        assert_eq!(why(&fresh), "on cp1");
        let stale = lease("cp1_8f1c", "2026-11-25T11:59:00.000000Z");
        assert!(matches!(stale.verdict, Verdict::Failed { .. }));
        assert_eq!(why(&stale), "cp1 holds its Lease of 15 s and has not renewed it for 60 s");
        assert_eq!(why(&lease("", "2026-11-25T11:59:58.123456Z")), "nobody holds its Lease");
        let absent =
            |elects| leader(SCHEDULER, Err(Refusal { status: Some(404), why: String::new() }), elects, now);
        assert!(matches!(absent(false).verdict, Verdict::Skipped { .. }));
        assert_eq!(why(&absent(true)), "it has no Lease");
    }

    #[test]
    fn a_kubelet_that_the_api_server_does_not_reach() {
        assert!(matches!(kubelet("w1", &answer(200, "ok")).verdict, Verdict::Passed { .. }));
        let refused = kubelet("w1", &answer(503, "dial tcp 10.20.0.11:10250: connect: connection refused"));
        assert_eq!(why(&refused), "status 503: dial tcp 10.20.0.11:10250: connect: connection refused");
    }
}
