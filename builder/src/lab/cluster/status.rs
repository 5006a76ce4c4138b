//! What a lab tells of itself, and how people read it.

use bootwright_model::report::BootReport;
use serde::{Deserialize, Serialize};

use super::layout::Forwarded;
use crate::lab::report;

/// A lab at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// Process number of the supervisor.
    pub process_id: u32,
    /// Seconds since it began.
    pub seconds: f64,
    /// The nodes, in the order of the cluster file.
    pub nodes: Vec<NodeStatus>,
    /// Ports of 127.0.0.1 that lead to nodes.
    pub forwards: Vec<Forwarded>,
    /// Faults of the switch, in words.
    pub faults: Vec<String>,
    /// Frames that machines did not read in time.
    pub frames_lost: u64,
    /// Why the API does not answer, if it was asked and does not.
    pub api_error: Option<String>,
}

impl Status {
    /// Whether all nodes are Ready.
    pub fn is_ready(&self) -> bool {
        self.nodes.iter().all(|node| node.ready == Ready::Yes)
    }

    /// The first machine that failed to boot or ended by itself, and why.
    pub fn failure(&self) -> Option<(&str, &str)> {
        let failed = |node: &&NodeStatus| node.power == Power::Failed || node.boot_failed;
        self.nodes.iter().find(failed).map(|node| (node.name.as_str(), node.stage.as_str()))
    }
}

/// A node at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeStatus {
    /// Name.
    pub name: String,
    /// Role.
    pub role: String,
    /// Address on the switch.
    pub address: String,
    /// Its machine.
    pub power: Power,
    /// How far its boot is, or why it is off.
    pub stage: String,
    /// A stage of its boot failed.
    pub boot_failed: bool,
    /// Whether Kubernetes counts on it.
    pub ready: Ready,
    /// Seconds from power-on to Ready, once it was.
    pub ready_after: Option<f64>,
    /// Process number of QEMU.
    pub process_id: Option<u32>,
}

/// State of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// It runs.
    On,
    /// Its power button was pressed.
    Stopping,
    /// It was stopped or killed.
    Off,
    /// It ended by itself, or with an error.
    Failed,
}

/// Readiness of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ready {
    /// As its Node says of this boot; where there is no kubelet, all services are ready.
    Yes,
    /// Not yet, or not any more.
    No,
    /// The API does not answer.
    Unknown,
}

impl std::fmt::Display for Power {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Power::On => "on",
            Power::Stopping => "stopping",
            Power::Off => "off",
            Power::Failed => "failed",
        })
    }
}

/// How far a boot is, in a few words, and whether it failed.
pub fn stage(report: Option<&BootReport>) -> (String, bool) {
    let Some(report) = report else { return ("firmware and kernel".to_owned(), false) };
    if let Some((stage, reason)) = report::failure(report) {
        return (format!("failed in {stage}: {reason}"), true);
    }
    let services = report.services.len();
    let ready = report.services.iter().filter(|service| service.ready_ms.is_some()).count();
    let text = if report.ready_ms.is_some() {
        "all services ready".to_owned()
    } else if services > 0 && ready > 0 {
        let waiting = report.services.iter().find(|service| service.ready_ms.is_none());
        format!("{ready} of {services} services, next {}", waiting.map_or("none", |service| &service.name))
    } else if let Some(stage) = report.stages.last() {
        format!("stage {}", stage.name)
    } else {
        "first boot".to_owned()
    };
    (text, false)
}

/// The table of nodes, a line each, with a heading.
pub fn table(status: &Status) -> Vec<String> {
    let heading = ["NODE", "ROLE", "ADDRESS", "MACHINE", "READY", "STAGE"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(heading).chain(status.nodes.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn row(node: &NodeStatus) -> [String; 6] {
    let ready = match (node.ready, node.ready_after) {
        (Ready::Yes, Some(seconds)) => format!("yes, {seconds:.1} s"),
        (Ready::Yes, None) => "yes".to_owned(),
        (Ready::No, _) => "no".to_owned(),
        (Ready::Unknown, _) => "unknown".to_owned(),
    };
    let (name, role, address) = (node.name.clone(), node.role.clone(), node.address.clone());
    [name, role, address, node.power.to_string(), ready, node.stage.clone()]
}

/// Everything, as `lab status` prints it.
pub fn text(status: &Status) -> String {
    let mut lines = table(status);
    lines.push(String::new());
    for forward in &status.forwards {
        let targets: Vec<String> = forward.targets.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "127.0.0.1:{:<5} leads to {} ({})",
            forward.host,
            forward.name,
            targets.join(", ")
        ));
    }
    lines.extend(status.faults.iter().map(|fault| format!("fault on the switch: {fault}")));
    if status.frames_lost > 0 {
        lines.push(format!("{} frames were lost: machines did not read them in time", status.frames_lost));
    }
    lines.extend(status.api_error.iter().map(|error| format!("the API does not answer: {error}")));
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use bootwright_model::report::{Outcome, ServiceState, Stage};

    /// A node that has come that far.
    pub fn node(name: &str, stage: &str, ready: Ready) -> NodeStatus {
        NodeStatus {
            name: name.to_owned(),
            role: "worker".to_owned(),
            address: "10.20.0.11".to_owned(),
            power: Power::On,
            stage: stage.to_owned(),
            boot_failed: false,
            ready,
            ready_after: (ready == Ready::Yes).then_some(58.12),
            process_id: Some(4711),
        }
    }

    /// A lab of these nodes.
    pub fn status(nodes: Vec<NodeStatus>) -> Status {
        Status {
            process_id: 4711,
            seconds: 1.0,
            nodes,
            forwards: vec![Forwarded {
                name: "API".to_owned(),
                host: 40001,
                targets: vec!["10.20.0.10:6443".parse().unwrap()],
            }],
            faults: vec!["w1: cut".to_owned()],
            frames_lost: 0,
            api_error: None,
        }
    }

    #[test]
    fn a_status_is_read_as_a_table() {
        let mut status =
            status(vec![node("cp1", "all services ready", Ready::Yes), node("w1", "stage root", Ready::No)]);
        insta::assert_snapshot!(text(&status), @r"
        NODE  ROLE    ADDRESS     MACHINE  READY        STAGE
        cp1   worker  10.20.0.11  on       yes, 58.1 s  all services ready
        w1    worker  10.20.0.11  on       no           stage root

        127.0.0.1:40001 leads to API (10.20.0.10:6443)
        fault on the switch: w1: cut
        ");
        assert!(!status.is_ready());
        assert_eq!(status.failure(), None);
        status.nodes[1].boot_failed = true;
        assert_eq!(status.failure(), Some(("w1", "stage root")));
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    }

    #[test]
    fn a_stage_is_told_in_a_few_words() {
        assert_eq!(stage(None).0, "firmware and kernel");
        let mut report = BootReport::default();
        assert_eq!(stage(Some(&report)).0, "first boot");
        report.stages.push(Stage {
            name: "root".to_owned(),
            started_ms: 0,
            duration_us: 0,
            summary: String::new(),
            outcome: Outcome::Passed,
        });
        assert_eq!(stage(Some(&report)), ("stage root".to_owned(), false));
        for (name, ready_ms) in [("containerd", Some(5)), ("etcd", None)] {
            report.services.push(ServiceState {
                name: name.to_owned(),
                state: String::new(),
                started_ms: None,
                ready_ms,
                restarts: 0,
                last_error: None,
            });
        }
        assert_eq!(stage(Some(&report)).0, "1 of 2 services, next etcd");
        report.ready_ms = Some(9);
        assert_eq!(stage(Some(&report)).0, "all services ready");
        report.stages[0].outcome =
            Outcome::Failed { chain: vec!["no disk".to_owned()], next: "reboot".to_owned() };
        assert_eq!(stage(Some(&report)), ("failed in root: no disk; reboot".to_owned(), true));
    }
}
