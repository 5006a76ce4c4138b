//! State on a disk of its own.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bootwright_model::node::NodeFacts;
use bootwright_model::state_disk::StateDisk;

use super::{Prepared, StateError, bring_up, write};
use crate::storage::disks;
use crate::storage::gpt::{GptError, Guid};
use crate::storage::own_disk::{self, ChooseError, Chosen};

/// How long a disk may take to appear: the boot disk was there long ago, others may still be starting.
const APPEAR: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// Finds the disk, and has partition table, partition and filesystem on it as they should be. Nothing is written to the
/// disk that the machine started from.
pub fn prepare(root: &Path, wanted: &StateDisk, facts: &NodeFacts) -> Result<Prepared, StateError> {
    let own = own_disk::guid(&facts.layer.file.cluster.name, &facts.name);
    let boot = disks::boot_disk(root).map_err(StateError::Disk)?;
    let chosen = find(root, wanted, own, &boot.name)?;
    let disk = chosen.disk.clone();
    let table = |source| StateError::Table { disk: disk.name.clone(), source };
    let plan = own_disk::plan(&chosen, own).map_err(table)?;
    let file = fs::OpenOptions::new().read(true).write(true).open(&disk.device);
    let file = file.map_err(|source| table(GptError::Io { offset: 0, source }))?;
    let steps = plan.erase.iter().cloned().chain(own_disk::table_steps(&disk, &plan.table));
    write(&disk.name, &file, steps)?;
    drop(file);
    bring_up(root, disk, &plan)
}

fn find(root: &Path, wanted: &StateDisk, own: Guid, boot: &str) -> Result<Chosen, ChooseError> {
    let deadline = Instant::now() + APPEAR;
    loop {
        match own_disk::choose(root, wanted, own, boot) {
            // The one that is in use may be another that fits.
            Err(ChooseError::None { .. } | ChooseError::Used { .. }) if Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
            }
            // The node's own disk may be the slow one, and an empty one there in its place.
            Ok(Chosen { new: true, .. }) if Instant::now() < deadline && is_vague(wanted) => {
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

/// Whether more than one disk may fit: behind the path of a controller are as many as it has.
fn is_vague(wanted: &StateDisk) -> bool {
    wanted.serial.is_none() && wanted.wwn.is_none()
}
