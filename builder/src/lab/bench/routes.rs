//! The pod network of first boot, in network namespaces of this machine.

use serde::Deserialize;

use super::figure::Figure;
use super::table::Table;
use super::{Error, Options, program};

/// As many as the largest cluster that Kubernetes promises to run
/// (<https://kubernetes.io/docs/setup/best-practices/cluster-large/>).
pub const PEERS: u16 = 5000;

/// What `measure-pods` prints for each run, milliseconds.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Run {
    programmed: f64,
    no_change: f64,
    ip_batch: f64,
    ip_batch_metrics: f64,
}

/// Programs entries and looks at them.
pub fn measure(options: &Options, table: &mut Table) -> Result<(), Error> {
    let arguments = [PEERS, options.runs].map(|number| number.to_string());
    for run in program::measure::<Run>(options, "measure-pods", &arguments)? {
        table.record(Figure::PeersProgrammed, run.programmed);
        table.record(Figure::PeersUnchanged, run.no_change);
        table.record(Figure::IpBatch, run.ip_batch);
        table.record(Figure::IpBatchMetrics, run.ip_batch_metrics);
    }
    Ok(())
}
