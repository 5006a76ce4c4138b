//! The boot report: what each stage did, how long it took, and why one failed.

use serde::{Deserialize, Serialize};

/// `/run/bootwright/boot.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BootReport {
    /// Host name once known.
    pub node: Option<String>,
    /// The kernel's boot id; tells boots apart.
    pub boot_id: String,
    /// Stages in the order they ran.
    pub stages: Vec<Stage>,
    /// Services in the order of their definition.
    pub services: Vec<ServiceState>,
    /// Milliseconds since kernel start when every service had been started.
    pub services_started_ms: Option<u64>,
    /// Milliseconds since kernel start when every essential service was ready.
    pub ready_ms: Option<u64>,
}

/// One stage of the boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stage {
    /// `modules`, `root`, `mounts`, `identity`, …
    pub name: String,
    /// Milliseconds since kernel start.
    pub started_ms: u64,
    /// Microseconds it took.
    pub duration_us: u64,
    /// One line of what it found or did.
    pub summary: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did what it should.
    Passed,
    /// Some of it it could not do, and the boot goes on without.
    Degraded {
        /// What is missing, each with what a person can do about it.
        problems: Vec<Problem>,
    },
    /// It could not, and the boot cannot go on.
    Failed {
        /// The error and its causes, outermost first.
        chain: Vec<String>,
        /// What first boot does about it.
        next: String,
    },
}

/// Something that went wrong and that the boot goes on without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Problem {
    /// The error and its causes, outermost first.
    pub chain: Vec<String>,
    /// What a person can do about it.
    pub next: String,
}

/// A service as the supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceState {
    /// Name in the profile.
    pub name: String,
    /// `waiting`, `running`, `ready`, `done`, `backing-off`, `stopped`.
    pub state: String,
    /// Milliseconds since kernel start of the first start.
    pub started_ms: Option<u64>,
    /// Milliseconds since kernel start when first ready.
    pub ready_ms: Option<u64>,
    /// Times it was started again.
    pub restarts: u32,
    /// The last exit or probe error.
    pub last_error: Option<String>,
}
