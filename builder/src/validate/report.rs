//! What was looked at, what came of it, and how people and programs read it.

use std::fmt::Write;

use serde::Serialize;

/// What is looked at, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The Node's condition `Ready`.
    NodeReady,
    /// The Node's pod CIDR, against the cluster file where there is one.
    PodCidr,
    /// The Node's address, against the cluster file.
    NodeAddress,
    /// `/readyz` of the API server.
    ApiHealth,
    /// Who leads the controllers, and whether it still does.
    Leader,
    /// The kubelet, by way of the API server.
    Kubelet,
    /// An etcd member.
    EtcdMember,
    /// Dates of a certificate.
    Certificate,
    /// A probe came up.
    ProbePod,
    /// HTTP from a pod to a pod of another node.
    PodToPod,
    /// The other pod sees the first one's own address.
    SourceAddress,
    /// A packet as large as a pod's link, not to be fragmented, there and back.
    Mtu,
    /// HTTP from a pod to a Service.
    PodToService,
    /// From a pod to the API server's Service.
    PodToApi,
    /// HTTP from a node to a pod.
    NodeToPod,
    /// HTTP to a port of a node that is a pod's.
    HostPort,
    /// A name of the cluster, asked for in a pod.
    Dns,
}

impl Check {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Check::NodeReady => "node Ready",
            Check::PodCidr => "pod CIDR",
            Check::NodeAddress => "node address",
            Check::ApiHealth => "API health",
            Check::Leader => "leader",
            Check::Kubelet => "kubelet",
            Check::EtcdMember => "etcd member",
            Check::Certificate => "certificate",
            Check::ProbePod => "probe pod",
            Check::PodToPod => "pod to pod",
            Check::SourceAddress => "source address",
            Check::Mtu => "MTU",
            Check::PodToService => "pod to Service",
            Check::PodToApi => "pod to API",
            Check::NodeToPod => "node to pod",
            Check::HostPort => "host port",
            Check::Dns => "DNS",
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// As it should be.
    Passed {
        /// What was seen, in a few words.
        seen: String,
    },
    /// Not as it should be.
    Failed {
        /// What was seen instead, or why nothing was.
        why: String,
        /// What to do about it.
        advice: String,
    },
    /// There was nothing to look at.
    Skipped {
        /// Why not.
        why: String,
    },
}

/// One check of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// Of which node, pod or component: `w1`, `w1 to w2`.
    pub subject: String,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Finding {
    /// All is well.
    pub fn passed(check: Check, subject: impl Into<String>, seen: impl Into<String>) -> Finding {
        Finding { check, subject: subject.into(), verdict: Verdict::Passed { seen: seen.into() } }
    }

    /// Something is wrong.
    pub fn failed(
        check: Check,
        subject: impl Into<String>,
        why: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        let verdict = Verdict::Failed { why: why.into(), advice: advice.into() };
        Finding { check, subject: subject.into(), verdict }
    }

    /// Nothing to look at.
    pub fn skipped(check: Check, subject: impl Into<String>, why: impl Into<String>) -> Finding {
        Finding { check, subject: subject.into(), verdict: Verdict::Skipped { why: why.into() } }
    }

    /// Whether something is wrong.
    pub fn is_failed(&self) -> bool {
        matches!(self.verdict, Verdict::Failed { .. })
    }
}

/// All findings of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Where its API is.
    pub server: String,
    /// Whether nothing failed.
    pub ok: bool,
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Sorts the findings by check; of one check they stay in their order.
    pub fn of(server: &str, mut findings: Vec<Finding>) -> Report {
        findings.sort_by_key(|finding| finding.check);
        let ok = !findings.iter().any(Finding::is_failed);
        Report { server: server.to_owned(), ok, findings }
    }

    /// A table with a line for each check, every failure below it, and a sentence.
    pub fn text(&self) -> String {
        let mut rows = vec![["CHECK", "RESULT", "SEEN"].map(str::to_owned)];
        rows.extend(self.findings.chunk_by(|a, b| a.check == b.check).map(row));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1)];
        let mut out = String::new();
        let mut line = |text: &str| writeln!(out, "{}", text.trim_end()).expect("a String takes everything");
        for [check, result, seen] in &rows {
            line(&format!("{check:0$}  {result:1$}  {seen}", widths[0], widths[1]));
        }
        line("");
        for finding in &self.findings {
            if let Verdict::Failed { why, advice } = &finding.verdict {
                line(&format!("FAILED {}, {}: {why}", finding.check.name(), finding.subject));
                line(&format!("       {advice}"));
            }
        }
        let failed = self.findings.iter().filter(|finding| finding.is_failed()).count();
        let skipped = self.findings.iter().filter(|finding| is_skipped(finding)).count();
        let passed = self.findings.len() - failed - skipped;
        line(&format!("{}: {passed} passed, {failed} failed, {skipped} skipped", self.server));
        out
    }
}

fn is_skipped(finding: &Finding) -> bool {
    matches!(finding.verdict, Verdict::Skipped { .. })
}

/// `pod to pod  12 passed  w1 to w2, …`: how many came to what, and what was seen, said once if it is the same.
fn row(findings: &[Finding]) -> [String; 3] {
    let count = |what: &str, of: &dyn Fn(&Finding) -> bool| {
        let count = findings.iter().filter(|finding| of(finding)).count();
        (count > 0).then(|| format!("{count} {what}"))
    };
    let failed = count("failed", &Finding::is_failed);
    let skipped = count("skipped", &is_skipped);
    let passed = count("passed", &|finding| matches!(finding.verdict, Verdict::Passed { .. }));
    let result: Vec<String> = [failed, passed, skipped].into_iter().flatten().collect();
    // Failures are told below, one by one.
    let mut seen: Vec<(&str, Vec<&str>)> = Vec::new();
    for finding in findings {
        let (Verdict::Passed { seen: text } | Verdict::Skipped { why: text }) = &finding.verdict else {
            continue;
        };
        match seen.iter_mut().find(|(told, _)| told == text) {
            Some((_, subjects)) => subjects.push(&finding.subject),
            None => seen.push((text, vec![&finding.subject])),
        }
    }
    let seen: Vec<String> = seen.iter().map(|(text, subjects)| told(text, subjects)).collect();
    let check = findings.first().map_or("", |finding| finding.check.name());
    [check.to_owned(), result.join(", "), seen.join("; ")]
}

/// `w1, w2: text`, and of many subjects only the first.
fn told(text: &str, subjects: &[&str]) -> String {
    /// A row is not to grow with the square of the nodes.
    const SHOWN: usize = 4;
    let more = if subjects.len() > SHOWN { ", …" } else { "" };
    let shown = subjects[..subjects.len().min(SHOWN)].join(", ") + more;
    if text.is_empty() { shown } else { format!("{shown}: {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::passed(Check::PodToPod, "w1 to w2", ""),
            Finding::failed(Check::PodToPod, "w2 to w1", "no answer within 5 s", "look at the routes of w2"),
            Finding::passed(Check::NodeReady, "w1", "v1.20.2"),
            Finding::passed(Check::NodeReady, "w2", "v1.20.2"),
            Finding::skipped(Check::Dns, "all nodes", "there is no cluster DNS"),
        ]
    }

    #[test]
    fn a_line_for_each_check_and_each_failure_by_itself() {
        insta::assert_snapshot!(Report::of("https://10.0.2.15:6443", findings()).text(), @r"
        CHECK       RESULT              SEEN
        node Ready  2 passed            w1, w2: v1.20.2
        pod to pod  1 failed, 1 passed  w1 to w2
        DNS         1 skipped           all nodes: there is no cluster DNS

        FAILED pod to pod, w2 to w1: no answer within 5 s
               look at the routes of w2
        https://10.0.2.15:6443: 3 passed, 1 failed, 1 skipped
        ");
    }

    #[test]
    fn programs_read_the_same() {
        let report = Report::of("https://10.0.2.15:6443", findings());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["ok"], false);
        let failed = serde_json::json!({ "check": "pod-to-pod", "subject": "w2 to w1", "verdict": "failed",
            "why": "no answer within 5 s", "advice": "look at the routes of w2" });
        assert_eq!(json["findings"][3], failed);
        assert!(Report::of("https://10.0.2.15:6443", findings()[2..].to_vec()).ok);
    }
}
