//! The agent of the image in a large cluster, against real etcd and API server on this machine.

use serde::Deserialize;

use super::figure::Figure;
use super::size::megabytes;
use super::table::Table;
use super::{Error, Options, program, routes};

/// What `measure-agent` prints for each run, bytes.
#[derive(Debug, Deserialize)]
struct Run {
    most: u64,
    resident: u64,
}

/// Has it read as many Nodes as `routes` programs peers, and program their routes.
pub fn measure(options: &Options, table: &mut Table) -> Result<(), Error> {
    for run in program::measure::<Run>(options, "measure-agent", &[routes::PEERS.to_string()])? {
        table.record(Figure::AgentMost, megabytes(run.most));
        table.record(Figure::AgentResident, megabytes(run.resident));
    }
    Ok(())
}
