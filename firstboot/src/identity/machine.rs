//! The signs that a machine shows of who may tell its identity: read once, from what the kernel has in memory and the
//! first sectors of small drives. Nothing here waits for anything to appear.

use std::path::{Path, PathBuf};

use bootwright_model::layout;

use super::drives::{self, Found};
use super::smbios::Firmware;
use crate::stages::command_line::CommandLine;
use crate::storage::disks;

/// What sources and the inventory recognise a machine by.
#[derive(Debug, Default)]
pub struct Machine {
    /// Where `/sys`, `/proc` and `/dev` are below.
    pub root: PathBuf,
    /// The kernel's command line.
    pub command_line: CommandLine,
    /// What its firmware says.
    pub firmware: Firmware,
    /// The partition `SEED` of the disk that was booted from.
    pub seed_partition: Option<PathBuf>,
    /// Small drives that were made for it.
    pub drives: Found,
}

impl Machine {
    /// Looks at this machine.
    pub fn look(root: &Path) -> Machine {
        let boot_disk = disks::boot_disk(root).ok();
        let seed_partition = boot_disk.as_ref().and_then(|disk| {
            let (number, _) = disk.table().ok()?.by_name(layout::SEED_LABEL)?;
            disk.partition(root, number)
        });
        Machine {
            root: root.to_owned(),
            command_line: CommandLine::read(root),
            firmware: Firmware::read(root),
            seed_partition,
            drives: drives::find(root, boot_disk.map(|disk| disk.name).as_deref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::identity::source::{SOURCES, ask};

    #[test]
    fn a_machine_that_has_no_source_costs_nothing() {
        let root = tempfile::tempdir().unwrap();
        let begin = Instant::now();
        let machine = Machine::look(root.path());
        let said = ask(&SOURCES, &machine).unwrap();
        assert!(begin.elapsed() < Duration::from_millis(300), "{:?}", begin.elapsed());
        assert!(said.claims.is_empty() && said.problems.is_empty());
        assert!(SOURCES.iter().all(|source| !source.evidence(&machine)));
    }
}
