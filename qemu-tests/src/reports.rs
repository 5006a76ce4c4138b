//! What a boot report has to say.

use bootwright_model::report::{BootReport, Outcome};

/// Stages that a boot goes through before its services, in order. The pods' network is set up beside those.
const STAGES: [&str; 10] = [
    "modules",
    "root",
    "mounts",
    "identity",
    "network",
    "clock",
    "state",
    "randomness",
    "certificates",
    "parameters",
];

/// Every stage that there was has passed.
///
/// # Panics
/// One has not.
pub fn assert_passed(report: &BootReport) {
    for stage in &report.stages {
        assert_eq!(stage.outcome, Outcome::Passed, "stage {}", stage.name);
    }
}

/// Every stage has passed, in the order that they are documented in, and `last` after the others.
///
/// # Panics
/// One has not, or is missing.
pub fn assert_stages_passed(report: &BootReport, last: &str) {
    assert_passed(report);
    let names: Vec<&str> = report.stages.iter().map(|stage| stage.name.as_str()).collect();
    let wanted: Vec<&str> = STAGES.into_iter().chain([last]).collect();
    let in_order: Vec<&str> = names.iter().copied().filter(|name| wanted.contains(name)).collect();
    assert_eq!(in_order, wanted, "of {names:?}");
}

/// Whether a service is ready.
pub fn is_ready(report: &BootReport, service: &str) -> bool {
    report.services.iter().any(|found| found.name == service && found.state == "ready")
}
