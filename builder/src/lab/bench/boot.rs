//! Boots: how long until the node is Ready, what the boot report says, the memory of an idle node.

use std::time::Duration;

use bootwright_model::report::{BootReport, Stage};

use super::figure::Figure;
use super::size::megabytes;
use super::table::Table;
use super::{Error, Options, demo, say};
use crate::lab::api::Api;
use crate::lab::kubeconfig::Kubeconfig;
use crate::lab::session::Session;
use crate::lab::{accelerator, console, machine, summary};
use crate::progress::interrupt::Temporary;

/// How long a node is left alone before its memory is looked at.
const IDLE: Duration = Duration::from_secs(30);
/// How long a boot may take.
const READY: Duration = Duration::from_secs(600);
/// How long a clean stop may take.
pub const STOP: Duration = Duration::from_secs(90);
/// The stage that ends with the start of the services.
const HAND_OVER: &str = "services";
/// The smallest machine: processors, and memory in MiB.
pub const SMALLEST: (u8, u32) = (1, 1024);

/// Boots the machine that the options describe.
pub fn measure(options: &Options, table: &mut Table) -> Result<(), Error> {
    for _ in 0..options.runs {
        let seen = boot(&options.boot, |ready| table.record(Figure::Ready, ready.as_secs_f64()))?;
        match seen.report.services_started_ms {
            Some(milliseconds) => {
                table.record(Figure::ServicesStarted, milliseconds as f64 / 1000.0);
                table.record(Figure::OwnPart, own_part(&seen.report, milliseconds).as_secs_f64());
            }
            None => {
                for figure in [Figure::ServicesStarted, Figure::OwnPart] {
                    table.miss(figure, "the boot report does not say when the services were started");
                }
            }
        }
        table.record(Figure::Given, identity_and_network(&seen.report).as_secs_f64());
        match seen.memory {
            Some(bytes) => table.record(Figure::Memory, megabytes(bytes)),
            None => table.miss(Figure::Memory, "the guest's balloon driver does not tell"),
        }
    }
    Ok(())
}

/// Boots the smallest machine, once.
pub fn measure_small(options: &Options, table: &mut Table) -> Result<(), Error> {
    let (cpus, memory_mib) = SMALLEST;
    let small = demo::Options { cpus, memory_mib, ..options.boot.clone() };
    boot(&small, |ready| table.record(Figure::SmallReady, ready.as_secs_f64())).map(drop)
}

/// What one boot showed.
struct Seen {
    report: BootReport,
    memory: Option<u64>,
}

/// Boots once to Ready, which `ready` is told at once, looks at the memory when the node has been left alone,
/// and stops.
fn boot(options: &demo::Options, ready: impl FnOnce(Duration)) -> Result<Seen, Error> {
    let mut booted = start(options)?;
    ready(booted.ready);
    let session = &mut booted.session;
    session.rest(IDLE)?;
    let memory = summary::memory_in_use(session.machine().qmp()?)?;
    let report = session.report()?.unwrap_or_default();
    session.power_off(STOP)?;
    Ok(Seen { report, memory })
}

/// A machine whose node is Ready; it ends with this, and its disk goes.
pub struct Booted {
    /// The machine, which is followed.
    pub session: Session,
    /// The administrator's way to its API.
    pub kubeconfig: Kubeconfig,
    /// Power-on to Ready.
    pub ready: Duration,
    // The logs stay; the disk is a gigabyte, and goes however this boot ends.
    _disk: Temporary,
}

/// Boots to Ready.
///
/// # Errors
/// It is not Ready in time; the console's last lines have been said.
pub fn start(options: &demo::Options) -> Result<Booted, Error> {
    let folder = options.output.join("bench");
    let node = demo::pick_node(options)?;
    let image = demo::image_path(options)?;
    let choice = accelerator::choose(&image, &options.cache)?;
    let spec = demo::spec(options, node, &image, &choice, &folder)?;
    let port = options.cluster.cluster.endpoint_port;
    let mut session = Session::start(spec, |_| {})?;
    let disk = Temporary::new(folder.join(machine::DISK));
    let host_port =
        session.machine().host_port(port).expect("the API's port is among those that spec() forwards");
    let path = folder.join(demo::KUBECONFIG);
    std::fs::copy(options.output.join(demo::KUBECONFIG), &path).map_err(Error::file("copy", &path))?;
    let mut kubeconfig = Kubeconfig::read(&path)?;
    kubeconfig.point_at(&format!("https://127.0.0.1:{host_port}"))?;
    let outcome = session.wait_node_ready(&Api::new(&kubeconfig)?, &node.name, READY);
    if outcome.is_err() {
        for line in console::last_lines(&session.machine().console_log(), 25) {
            say(&line);
        }
    }
    Ok(Booted { ready: outcome?, session, kubeconfig, _disk: disk })
}

/// The stages that find out who the machine is and set its network up.
pub fn identity_and_network(report: &BootReport) -> Duration {
    let stages = report.stages.iter().filter(|stage| ["identity", "network"].contains(&stage.name.as_str()));
    Duration::from_micros(stages.map(|stage| stage.duration_us).sum())
}

/// What first boot itself took until it handed over to the services: the time in which one of its stages ran, not
/// the kernel's nor the waiting between them. Stages that run beside each other count once; of one that runs beside
/// the start of the services (pod-network) only what came before it, as nothing waits for the rest.
fn own_part(report: &BootReport, services_started_ms: u64) -> Duration {
    let end = |stage: &Stage| stage.started_ms * 1000 + stage.duration_us;
    let handed_over = report.stages.iter().find(|stage| stage.name == HAND_OVER).map(end);
    let until = handed_over.unwrap_or(services_started_ms * 1000);
    let stages = report.stages.iter().filter(|stage| stage.name != "ready");
    let mut spans: Vec<(u64, u64)> =
        stages.map(|stage| ((stage.started_ms * 1000).min(until), end(stage).min(until))).collect();
    spans.sort_unstable();
    let (mut busy, mut covered) = (0, 0);
    for (start, end) in spans {
        busy += end.saturating_sub(start.max(covered));
        covered = covered.max(end);
    }
    Duration::from_micros(busy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_model::report::Outcome;

    #[test]
    fn stages_count_until_the_services_are_begun_and_once() {
        let stage = |name: &str, started_ms, milliseconds: u64| Stage {
            name: name.to_owned(),
            started_ms,
            duration_us: milliseconds * 1000,
            summary: String::new(),
            outcome: Outcome::Passed,
        };
        let report = BootReport {
            stages: vec![
                stage("root", 900, 100),
                stage("state", 2000, 400),
                stage("certificates", 2300, 300),
                stage("pod-network", 2940, 2000),
                stage("services", 2950, 30),
                stage("ready", 2950, 7000),
                stage("late", 9000, 100),
            ],
            ..BootReport::default()
        };
        assert_eq!(own_part(&report, 3000), Duration::from_millis(100 + 600 + 40));
    }
}
