//! What a TCP connection carries through the pod network, in network namespaces of this machine.

use serde::Deserialize;

use super::figure::Figure;
use super::table::Table;
use super::{Error, Options, program};

/// How long each connection sends, seconds.
const SECONDS: u16 = 5;

/// What `measure-tcp` prints for each run, bits per second.
#[derive(Debug, Deserialize)]
struct Run {
    link: f64,
    ours: f64,
    flannel: f64,
}

/// Sends over the link, through our tunnel and through flannel's.
pub fn measure(options: &Options, table: &mut Table) -> Result<(), Error> {
    let arguments = [SECONDS, options.runs].map(|number| number.to_string());
    for run in program::measure::<Run>(options, "measure-tcp", &arguments)? {
        table.record(Figure::TcpLink, run.link / 1e9);
        table.record(Figure::TcpOurs, run.ours / 1e9);
        table.record(Figure::TcpFlannel, run.flannel / 1e9);
        table.record(Figure::TcpOursShare, 100.0 * run.ours / run.link);
        table.record(Figure::TcpFlannelShare, 100.0 * run.flannel / run.link);
    }
    Ok(())
}
