//! A worker that nobody gives an address: how long until it knows who it is, and has one that a DHCP server lends.

use std::time::Duration;

use bootwright_model::cluster::Node;

use super::boot::identity_and_network;
use super::figure::Figure;
use super::table::Table;
use super::{Error, Options, Several, demo};
use crate::lab::session::Session;
use crate::lab::spec::Network;
use crate::lab::{accelerator, machine};
use crate::progress::interrupt::Temporary;

/// How long the boot may take until then.
const NETWORK: Duration = Duration::from_secs(120);
/// Of a machine that is in no cluster file.
const MAC: &str = "52:54:00:20:ff:99";
/// What the worker is given besides: a name that the cluster file does not know either, and the range of its pods.
const NAME: &str = "lent-1";

/// Boots such a worker as often as the options say.
pub fn measure(options: &Options, table: &mut Table) -> Result<(), Error> {
    let several = options.several()?;
    let worker = several.loaded.file.nodes.iter().find(|node| node.role == "worker");
    let worker =
        worker.ok_or_else(|| Error::State("the cluster file of several nodes has no worker".to_owned()))?;
    for _ in 0..options.runs {
        table.record(Figure::Lent, boot(options, several, worker)?.as_secs_f64());
    }
    Ok(())
}

fn boot(options: &Options, several: &Several, worker: &Node) -> Result<Duration, Error> {
    let folder = options.boot.output.join("bench");
    std::fs::create_dir_all(&folder).map_err(Error::file("make", &folder))?;
    let image = several.output.join("worker.raw");
    let seed = folder.join("node.toml");
    // Nobody else is on its network, so that the range may be another's.
    let ranges = worker.pod_cidr.map_or(String::new(), |ranges| format!("pod-cidr = \"{ranges}\"\n"));
    std::fs::write(&seed, format!("name = \"{NAME}\"\n{ranges}")).map_err(Error::file("write", &seed))?;

    let choice = accelerator::choose(&image, &options.boot.cache)?;
    let mut spec = demo::spec(&options.boot, worker, &image, &choice, &folder)?;
    spec.mac = MAC.to_owned();
    if let Network::User { ports, .. } = &mut spec.network {
        // They would be forwarded to the address that it does not have.
        ports.clear();
    }
    spec.arguments = ["-fw_cfg".to_owned(), "name=opt/bootwright/seed,file=node.toml".to_owned()].into();
    let mut session = Session::start(spec, |_| {})?;
    let _disk = Temporary::new(folder.join(machine::DISK));
    let report = session.wait_report("the network", NETWORK, |report| {
        report.stages.iter().any(|stage| stage.name == "network")
    })?;
    session.machine().kill()?;
    Ok(identity_and_network(&report))
}
