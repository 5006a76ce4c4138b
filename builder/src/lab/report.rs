//! The boot report that first boot sends through the virtio port `org.bootwright.report`.

use std::path::Path;

use bootwright_model::report::{BootReport, Outcome};

use super::Error;
use super::console::Tail;

/// Follows the boot report: each line is a whole report, the last one holds.
pub struct ReportTail {
    tail: Tail,
    latest: Option<BootReport>,
}

impl ReportTail {
    /// Follows `path` from its present end.
    pub fn from_end(path: &Path) -> ReportTail {
        ReportTail { tail: Tail::from_end(path), latest: None }
    }

    /// The newest report, if one has come.
    ///
    /// # Errors
    /// The file cannot be read. A line that is not a report (a machine that was reset while it wrote
    /// one) is passed over: the next one is whole again.
    pub fn latest(&mut self) -> Result<Option<&BootReport>, Error> {
        for line in self.tail.lines()? {
            if let Ok(report) = serde_json::from_str(&line) {
                self.latest = Some(report);
            }
        }
        Ok(self.latest.as_ref())
    }
}

/// The stage that the boot stopped at: its name, and its causes with what happens next.
pub fn failure(report: &BootReport) -> Option<(String, String)> {
    report.stages.iter().find_map(|stage| match &stage.outcome {
        Outcome::Failed { chain, next } => {
            Some((stage.name.clone(), format!("{}; {next}", chain.join(": "))))
        }
        Outcome::Passed | Outcome::Degraded { .. } => None,
    })
}

/// What of a boot is not there yet: its services that are not ready with their last errors, or else how far it
/// came.
pub fn unready(report: &BootReport) -> String {
    let services = report.services.iter().filter(|service| !matches!(&service.state[..], "ready" | "done"));
    let services: Vec<String> = services
        .map(|service| match &service.last_error {
            Some(error) => format!("{} is {} ({error})", service.name, service.state),
            None => format!("{} is {}", service.name, service.state),
        })
        .collect();
    match (services.is_empty(), report.stages.last()) {
        (false, _) => services.join(", "),
        (true, Some(stage)) => format!("the boot came as far as stage {}", stage.name),
        (true, None) => "the boot report is empty".to_owned(),
    }
}

/// Whether a service was ever ready in this boot.
pub fn service_ready(report: &BootReport, name: &str) -> bool {
    report.services.iter().any(|service| service.name == name && service.ready_ms.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_model::report::Stage;

    #[test]
    fn the_last_whole_line_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report");
        let mut tail = ReportTail::from_end(&path);
        assert!(tail.latest().unwrap().is_none());
        let line = |id: &str| {
            serde_json::to_string(&BootReport { boot_id: id.to_owned(), ..BootReport::default() }).unwrap()
        };
        std::fs::write(&path, format!("{}\n{}\n{{\"boot-id\": \"cut", line("a"), line("b"))).unwrap();
        assert_eq!(tail.latest().unwrap().unwrap().boot_id, "b");
        std::fs::write(
            &path,
            format!("{}\n{}\n{{\"boot-id\": \"cut{}\n{}\n", line("a"), line("b"), line("c"), line("d")),
        )
        .unwrap();
        assert_eq!(tail.latest().unwrap().unwrap().boot_id, "d");
    }

    #[test]
    fn a_failed_stage_is_told_with_its_causes() {
        let mut report = BootReport::default();
        assert_eq!(failure(&report), None);
        report.stages.push(Stage {
            name: "root".to_owned(),
            started_ms: 900,
            duration_us: 10,
            summary: String::new(),
            outcome: Outcome::Failed {
                chain: vec!["cannot mount".to_owned(), "no such device".to_owned()],
                next: "reboot in 300 s".to_owned(),
            },
        });
        let (stage, reason) = failure(&report).unwrap();
        assert_eq!(
            (stage.as_str(), reason.as_str()),
            ("root", "cannot mount: no such device; reboot in 300 s")
        );
    }

    #[test]
    fn what_is_not_ready_is_told_with_its_last_error() {
        use bootwright_model::report::ServiceState;
        let mut report = BootReport::default();
        assert_eq!(unready(&report), "the boot report is empty");
        let (name, outcome) = ("state".to_owned(), Outcome::Passed);
        report.stages.push(Stage { name, started_ms: 1, duration_us: 1, summary: String::new(), outcome });
        assert_eq!(unready(&report), "the boot came as far as stage state");
        let service = |name: &str, state: &str, last_error: Option<&str>| ServiceState {
            name: name.to_owned(),
            state: state.to_owned(),
            started_ms: None,
            ready_ms: None,
            restarts: 0,
            last_error: last_error.map(str::to_owned),
        };
        report.services = vec![
            service("containerd", "ready", None),
            service("etcd", "backing-off", Some("exited with 1")),
            service("kubelet", "waiting", None),
        ];
        assert_eq!(unready(&report), "etcd is backing-off (exited with 1), kubelet is waiting");
    }
}
