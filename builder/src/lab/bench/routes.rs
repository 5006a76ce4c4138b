//! The pod network of first boot, measured by an example of it: the builder shares no code with first boot.

use std::process::Command;

use serde::Deserialize;

use super::figure::Figure;
use super::table::Table;
use super::{Error, Options};

/// As many as the largest cluster that Kubernetes promises to run
/// (<https://kubernetes.io/docs/setup/best-practices/cluster-large/>).
const PEERS: &str = "5000";

/// What the program prints for each run, milliseconds.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Run {
    programmed: f64,
    no_change: f64,
    ip_batch: f64,
    ip_batch_metrics: f64,
}

/// Measures in network namespaces of this machine.
pub fn measure(options: &Options, table: &mut Table) -> Result<(), Error> {
    let program = &options.measure_pods;
    let mut command = Command::new(program);
    command.args([PEERS, &options.runs.to_string()]);
    let output = command.output().map_err(Error::file("start", program))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Command {
            command: format!("{command:?}"),
            status: output.status.to_string(),
            message,
        });
    }
    let runs: Vec<Run> = serde_json::from_slice(&output.stdout)
        .map_err(|error| Error::State(format!("{}: no figures: {error}", program.display())))?;
    for run in runs {
        table.record(Figure::PeersProgrammed, run.programmed);
        table.record(Figure::PeersUnchanged, run.no_change);
        table.record(Figure::IpBatch, run.ip_batch);
        table.record(Figure::IpBatchMetrics, run.ip_batch_metrics);
    }
    Ok(())
}
