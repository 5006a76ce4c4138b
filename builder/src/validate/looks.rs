//! Nodes and control plane, looked at again while something is wrong and there is time.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::client::{Client, Refusal};
use super::expected::Expected;
use super::nodes::{self, NodeView};
use super::report::{Check, Finding};
use super::{ValidateError, components, stop_if_asked};

/// How long, and how often.
pub struct Looks<'a> {
    /// How long what looks wrong may take to come right.
    pub settled: Duration,
    /// Before it is looked at again.
    pub again: Duration,
    /// Told what goes on.
    pub say: &'a dyn Fn(&str),
}

/// What the last look saw.
pub struct Seen {
    /// The Nodes; nothing if the API server does not list them any more.
    pub nodes: Option<Vec<NodeView>>,
    /// On them and on the control plane. Where the API server went away, those of the look before too.
    pub findings: Vec<Finding>,
    /// The cluster's clock.
    pub now: OffsetDateTime,
}

/// A look at which the API server listed the Nodes.
struct Look {
    nodes: Vec<NodeView>,
    findings: Vec<Finding>,
    now: OffsetDateTime,
    at: Instant,
}

impl Looks<'_> {
    /// Looks until all is well, or has had its time. A cluster whose nodes have just become Ready still makes its last
    /// objects, and an API server can be away for a moment.
    ///
    /// # Errors
    /// Nobody answers the first look, or it is not for us; Ctrl-C.
    pub fn until_well(&self, client: &Client, expected: Option<&Expected>) -> Result<Seen, ValidateError> {
        let deadline = Instant::now() + self.settled;
        let (mut last, mut answered, mut told) = (None, false, false);
        loop {
            let looked = look(client, expected);
            let over = Instant::now() >= deadline;
            match looked {
                Ok(look) if over || !look.findings.iter().any(Finding::is_failed) => {
                    let Look { nodes, findings, now, .. } = look;
                    return Ok(Seen { nodes: Some(nodes), findings, now });
                }
                Ok(look) => last = Some(look),
                // There is nothing to put into a table.
                Err(refusal) if !answered && (refusal.status.is_none() || !refusal.passes()) => {
                    return Err(ValidateError::Api { server: client.server().to_owned(), why: refusal.why });
                }
                Err(refusal) if over => return Ok(lost(client, expected, last, &refusal)),
                Err(_) => {}
            }
            answered = true;
            stop_if_asked()?;
            if !told {
                let seconds = self.settled.as_secs();
                (self.say)(&format!("not everything is well yet; looking again for {seconds} s at most"));
                told = true;
            }
            std::thread::sleep(self.again);
        }
    }
}

fn look(client: &Client, expected: Option<&Expected>) -> Result<Look, Refusal> {
    let list = client.get("/api/v1/nodes")?;
    let objects = list["items"].as_array();
    let objects = objects
        .ok_or_else(|| Refusal { status: Some(200), why: "its list of Nodes is no list".to_owned() })?;
    let mut findings = nodes::verdicts(objects, expected);
    let (of_components, now) = components::look(client, expected);
    findings.extend(of_components);
    Ok(Look { nodes: objects.iter().map(NodeView::of).collect(), findings, now, at: Instant::now() })
}

/// What there is to tell of an API server that lists no Nodes, at the end of the time that it had.
fn lost(client: &Client, expected: Option<&Expected>, last: Option<Look>, refusal: &Refusal) -> Seen {
    let mut why = format!("it does not list the Nodes: {}", refusal.why);
    if let Some(last) = &last {
        let age = last.at.elapsed().as_secs();
        why += &format!("; what is told of nodes and leaders was seen {age} s before");
    }
    let advice = "find out why the API server or its etcd does not answer, and validate again: `kubectl get nodes` asks the \
                  same, and their logs are in /var/log/services of a control plane";
    let unlisted = Finding::failed(Check::ApiHealth, "kube-apiserver", why, advice);
    let (mut findings, now) = match last {
        Some(Look { mut findings, now, .. }) => {
            findings.retain(|finding| finding.check != Check::ApiHealth);
            (findings, now)
        }
        // It has answered, so it may say what is wrong with itself.
        None => components::look(client, expected),
    };
    findings.push(unlisted);
    Seen { nodes: None, findings, now }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::super::SETTLED;
    use super::super::report::Report;
    use super::super::testing::{Answer, Server};
    use super::*;

    /// `answers` says, by the number of the look, whether the Node is Ready, or what is said in place of the Nodes.
    fn seen(
        settled: Duration,
        answers: impl Fn(usize) -> Result<bool, Answer> + Send + Sync + 'static,
    ) -> Result<Seen, ValidateError> {
        let looks = AtomicUsize::new(0);
        let server = Server::new(move |_, path| match path {
            "/api/v1/nodes" => {
                let ready = match answers(looks.fetch_add(1, Ordering::Relaxed)) {
                    Ok(ready) => {
                        if ready {
                            "True"
                        } else {
                            "False"
                        }
                    }
                    Err(answer) => return answer,
                };
                let node = json!({
                    "metadata": { "name": "cp1" }, "spec": { "podCIDR": "10.10.0.0/24" },
                    "status": { "conditions": [{ "type": "Ready", "status": ready, "reason": "NotYet", "message": "no" }],
                                "nodeInfo": { "kubeletVersion": "v1.20.2" } },
                });
                Answer::json(200, &json!({ "items": [node] }))
            }
            "/readyz?verbose" => Answer::text(200, "[+]ping ok\n[+]etcd ok\n"),
            _ => Answer::json(404, &json!({ "message": "not found" })),
        });
        let looks = Looks { settled, again: Duration::from_millis(10), say: &|_| () };
        looks.until_well(&server.client(), None)
    }

    /// Time enough for a look, and not for many.
    const SHORT: Duration = Duration::from_secs(2);

    /// The report, without how long ago something was.
    fn text(seen: Seen) -> String {
        let text = Report::of("server", seen.findings).text();
        match text.split_once("was seen ") {
            Some((before, after)) => {
                let (_, after) = after.split_once(' ').unwrap();
                format!("{before}was seen … {after}")
            }
            None => text,
        }
    }

    #[test]
    fn an_api_server_may_be_away_for_a_moment() {
        let seen = seen(SETTLED, |look| match look {
            0 => Ok(false),
            1 => Err(Answer::HangUp),
            2 => Err(Answer::text(503, "etcd has no leader")),
            _ => Ok(true),
        });
        let seen = seen.unwrap();
        assert_eq!(seen.nodes.as_ref().map(Vec::len), Some(1));
        assert!(!seen.findings.iter().any(Finding::is_failed), "{}", text(seen));
    }

    #[test]
    fn one_that_stays_away_costs_no_table() {
        let seen =
            seen(
                SHORT,
                |look| if look == 0 { Ok(false) } else { Err(Answer::text(503, "etcd has no leader")) },
            );
        let seen = seen.unwrap();
        assert_eq!(seen.nodes, None);
        insta::assert_snapshot!(text(seen), @r"
        CHECK       RESULT     SEEN
        node Ready  1 failed
        pod CIDR    1 passed   cp1: 10.10.0.0/24
        API health  1 failed
        leader      2 skipped  kube-controller-manager, kube-scheduler: alone, without an election

        FAILED node Ready, cp1: not Ready (NotYet): no
               its kubelet's log and `bootwright lab status` or the machine's console say what it waits for
        FAILED API health, kube-apiserver: it does not list the Nodes: status 503: etcd has no leader; what is told of nodes and leaders was seen … s before
               find out why the API server or its etcd does not answer, and validate again: `kubectl get nodes` asks the same, and their logs are in /var/log/services of a control plane
        server: 1 passed, 2 failed, 2 skipped
        ");
    }

    #[test]
    fn one_that_has_always_refused_says_what_is_wrong_with_it() {
        let seen = seen(SHORT, |_| Err(Answer::text(500, "etcd has no leader"))).unwrap();
        assert_eq!(seen.nodes, None);
        insta::assert_snapshot!(text(seen), @r"
        CHECK       RESULT              SEEN
        API health  1 failed, 1 passed  kube-apiserver: 2 of its own checks, etcd among them
        leader      2 skipped           kube-controller-manager, kube-scheduler: alone, without an election

        FAILED API health, kube-apiserver: it does not list the Nodes: status 500: etcd has no leader
               find out why the API server or its etcd does not answer, and validate again: `kubectl get nodes` asks the same, and their logs are in /var/log/services of a control plane
        server: 1 passed, 1 failed, 2 skipped
        ");
    }

    #[test]
    fn where_nobody_answers_or_we_are_nobody_there_is_no_table() {
        let unanswered = seen(SHORT, |_| Err(Answer::HangUp));
        assert!(matches!(unanswered, Err(ValidateError::Api { .. })));
        let Err(ValidateError::Api { why, .. }) =
            seen(SHORT, |_| Err(Answer::json(403, &json!({ "message": "forbidden" }))))
        else {
            panic!("there is a table");
        };
        assert_eq!(why, "status 403: forbidden");
    }
}
