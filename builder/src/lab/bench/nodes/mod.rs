//! A small control plane with many nodes: real programs in the machine, and what the nodes' programs would ask of its
//! API from here.

mod node;
mod programs;
mod seen;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bootwright_model::kubernetes::is_control_plane;
use bootwright_model::report::BootReport;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::node::Simulated;
use self::programs::Client;
use self::seen::Seen;
use super::boot::{self, Booted, SMALLEST};
use super::figure::Figure;
use super::size::megabytes;
use super::table::Table;
use super::{Error, Options, Several, demo, say};
use crate::lab::readiness::is_ready;
use crate::lab::{api, summary};
use crate::pki;

/// Pause between the starts of two nodes: each opens a dozen connections, which an emulated processor has to keep up
/// with.
const APART: Duration = Duration::from_secs(2);
/// How long it may take until all are Ready once the last was started.
const JOINED: Duration = Duration::from_secs(300);
/// Pause between two looks at the guest's memory.
const LOOK: Duration = Duration::from_secs(15);
/// What the kernel says on the console of a process that it killed for its memory.
const KILLED: &str = "of memory: Killed process";

/// Boots a control plane on the smallest machine, has the nodes join it, and looks at it for the time that the options say.
pub fn measure(options: &Options, table: &mut Table) -> Result<(), Error> {
    let several = options.several()?;
    allow_open_files()?;
    let mut booted = boot::start(&control_plane(options, several)?)?;
    say(&format!("control plane Ready {:.1} s after power-on", booted.ready.as_secs_f64()));
    let ended = Arc::new(AtomicBool::new(false));
    let outcome = load(options, several, &mut booted, &ended, table);
    // Nothing that comes of switching it off counts.
    ended.store(true, Ordering::Relaxed);
    outcome?;
    booted.session.power_off(boot::STOP).map(drop)
}

/// Each node has a dozen connections, here and in QEMU, which inherits this.
fn allow_open_files() -> Result<(), Error> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .map_err(|error| Error::file("raise", "the limit of open files")(error.into()))
}

/// The first control plane of the cluster file, on the smallest machine.
fn control_plane(options: &Options, several: &Several) -> Result<demo::Options, Error> {
    let file = &several.loaded.file;
    let node = file.nodes.iter().find(|node| is_control_plane(&node.role));
    let node = node.ok_or_else(|| Error::State("the cluster file has no control plane".to_owned()))?;
    let (cpus, memory_mib) = SMALLEST;
    Ok(demo::Options {
        cluster: file.clone(),
        output: several.output.clone(),
        node: Some(node.name.clone()),
        cpus,
        memory_mib,
        ..options.boot.clone()
    })
}

fn load(
    options: &Options,
    several: &Several,
    booted: &mut Booted,
    ended: &Arc<AtomicBool>,
    table: &mut Table,
) -> Result<(), Error> {
    let file = &several.loaded.file;
    let nodes = Simulated::nodes(file, options.nodes)?;
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    let secrets = pki::folder(&several.loaded.path, &file.cluster.name);
    let certificates = pki::kubelets(&secrets, &names, SystemTime::now());
    let certificates = certificates.map_err(|error| Error::State(error.to_string()))?;
    let (server, authority) = (booted.kubeconfig.server()?.to_owned(), booted.kubeconfig.authority()?);
    let seen = Arc::new(Seen::default());
    for (node, [certificate, key]) in nodes.iter().zip(&certificates) {
        let agent = api::agent(&authority, certificate.as_bytes(), key.as_bytes());
        let agent = agent.map_err(|error| Error::State(format!("{}: {error}", node.name)))?;
        let (server, seen, ended) = (server.clone(), seen.clone(), ended.clone());
        programs::start(node, &Client { agent, server, seen, ended })
            .map_err(Error::file("make", "a thread"))?;
        booted.session.rest(APART)?;
    }
    let admin = api::Api::new(&booted.kubeconfig)?;
    let deadline = Instant::now() + JOINED;
    let mut count = 0;
    while count < names.len() {
        if Instant::now() >= deadline {
            let told = seen.summary().told.join("; ");
            return Err(Error::State(format!("only {count} of {} nodes joined: {told}", names.len())));
        }
        booted.session.rest(APART)?;
        // A machine that is busy answers late.
        count = admin.nodes().map_or(count, |(nodes, _)| ready(&nodes, &names));
    }
    let before = report(booted)?;
    say(&format!("{} nodes are Ready; their load is measured for {:?}", names.len(), options.load));
    seen.begin();
    let most = rest(booted, options.load)?;
    seen.end();
    let summary = seen.summary();
    for what in &summary.told {
        say(what);
    }
    let (nodes, _) = admin.nodes()?;
    table.record(Figure::NodesReady, ready(&nodes, &names) as f64);
    table.record(Figure::NodesP50, summary.p50);
    table.record(Figure::NodesP99, summary.p99);
    table.record(Figure::NodesRequests, summary.requests as f64);
    table.record(Figure::NodesFailed, summary.failed as f64);
    match most {
        Some(bytes) => table.record(Figure::NodesMemory, megabytes(bytes)),
        None => table.miss(Figure::NodesMemory, "the guest's balloon driver does not tell"),
    }
    let after = report(booted)?;
    if after.boot_id != before.boot_id {
        return Err(Error::State("the machine started again while it was measured".to_owned()));
    }
    let console = booted.session.machine().console_log();
    let text = std::fs::read(&console).map_err(Error::file("read", &console))?;
    let killed = String::from_utf8_lossy(&text).matches(KILLED).count();
    for service in after.services.iter().filter(|service| service.restarts > 0) {
        let why = service.last_error.as_deref().unwrap_or("nobody says why");
        say(&format!("{} was started again {} times: {why}", service.name, service.restarts));
    }
    let restarts: u32 = after.services.iter().map(|service| service.restarts).sum();
    table.record(Figure::NodesRestarts, f64::from(restarts) + killed as f64);
    Ok(())
}

/// Leaves the machine to its load, and returns the most memory that it had in use, bytes.
fn rest(booted: &mut Booted, time: Duration) -> Result<Option<u64>, Error> {
    let end = Instant::now() + time;
    let mut most = None;
    while Instant::now() < end {
        booted.session.rest(LOOK.min(end.saturating_duration_since(Instant::now())))?;
        most = most.max(summary::memory_in_use(booted.session.machine().qmp()?)?);
    }
    Ok(most)
}

fn report(booted: &mut Booted) -> Result<BootReport, Error> {
    booted.session.report()?.ok_or_else(|| Error::State("the machine sends no boot report".to_owned()))
}

/// How many of the named nodes are Ready.
fn ready(nodes: &[serde_json::Value], names: &[String]) -> usize {
    let named = |node: &&serde_json::Value| {
        node["metadata"]["name"].as_str().is_some_and(|name| names.iter().any(|known| known == name))
    };
    nodes.iter().filter(named).filter(|node| is_ready(node)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn those_that_were_simulated_and_are_ready_count() {
        let node = |name: &str, status: &str| {
            json!({
                "metadata": { "name": name },
                "status": { "conditions": [{ "type": "PIDPressure", "status": "True" }, { "type": "Ready", "status": status }] },
            })
        };
        let nodes = [node("cp1", "True"), node("simulated-1", "True"), node("simulated-2", "Unknown")];
        assert_eq!(ready(&nodes, &["simulated-1".to_owned(), "simulated-2".to_owned()]), 1);
    }
}
