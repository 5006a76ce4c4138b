//! A whole cluster on the lab's switch, as `lab up` brings it up.

use std::time::Duration;

use super::figure::Figure;
use super::table::Table;
use super::{Error, Options, say};
use crate::lab::cluster::{self, Supervisor};

/// How long all nodes may take.
const READY: Duration = Duration::from_secs(900);

/// Boots all machines of the cluster file of several nodes, waits until all nodes are Ready, and stops them.
pub fn measure(options: &Options, table: &mut Table) -> Result<(), Error> {
    let several = options.several()?;
    let lab_options = cluster::Options {
        cluster: several.loaded.file.clone(),
        output: several.output.clone(),
        cache: options.boot.cache.clone(),
        firmware: options.boot.firmware,
        memory: Vec::new(),
        cpus: Vec::new(),
        forwards: Vec::new(),
        seed: 0,
        limit: READY,
    };
    let mut lab = Supervisor::start(lab_options, &mut |line| say(line))?;
    let seconds = match ready(&mut lab) {
        Ok(seconds) => seconds,
        Err(error) => {
            lab.last_words().iter().for_each(|line| say(line));
            lab.end(true, |_| {})?;
            return Err(error);
        }
    };
    table.record(Figure::LabReady, seconds);
    let killed = lab.end(false, |_| {})?;
    if killed.is_empty() {
        return Ok(());
    }
    Err(Error::State(format!("these did not stop in time and were killed: {}", killed.join(", "))))
}

/// Seconds from before the first machine was switched on until the last node was Ready.
fn ready(lab: &mut Supervisor) -> Result<f64, Error> {
    if cluster::wait_ready(lab, READY, |_| {})?.is_none() {
        return Err(Error::State("the lab was taken down before all nodes were Ready".to_owned()));
    }
    let status = lab.status()?;
    for node in &status.nodes {
        if let Some(after) = node.ready_after {
            say(&format!("node {} Ready {after:.1} s after its power-on", node.name));
        }
    }
    Ok(status.seconds)
}
