//! The disks of this machine, through /sys, and what lies on them.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::gpt::{self, GptError, Guid, Table};
use crate::report::under;

/// Devices that are no place for an image: memory, mappings of other devices, floppies (a read of an
/// empty drive takes seconds).
const NO_DISKS: [&str; 6] = ["loop", "ram", "zram", "dm-", "md", "fd"];

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Name in /sys, `vda`.
    pub name: String,
    /// Device file.
    pub device: PathBuf,
    /// Bytes per logical block.
    pub sector: u64,
    /// Size in logical blocks.
    pub blocks: u64,
}

/// All disks that have a size, by name.
pub fn disks(root: &Path) -> Vec<Disk> {
    let entries = std::fs::read_dir(under(root, "/sys/class/block")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let names = names.filter(|name| !NO_DISKS.iter().any(|prefix| name.starts_with(prefix)));
    let mut disks: Vec<Disk> = names.filter_map(|name| disk(root, &name)).collect();
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    disks
}

/// The disk called `name`, if it is one and has a medium.
pub fn disk(root: &Path, name: &str) -> Option<Disk> {
    let folder = under(root, "/sys/class/block").join(name);
    if folder.join("partition").exists() {
        return None;
    }
    let sector = number(&folder.join("queue/logical_block_size"))?;
    // /sys counts in 512 bytes whatever the sector size is.
    let blocks = number(&folder.join("size"))? * 512 / sector;
    let device = under(root, "/dev").join(name);
    (blocks > 0).then(|| Disk { name: name.to_owned(), device, sector, blocks })
}

impl Disk {
    /// Reads its partition table.
    pub fn table(&self) -> Result<Table, GptError> {
        let mut file = File::open(&self.device).map_err(|source| GptError::Io { offset: 0, source })?;
        gpt::read(&mut file, self.sector, self.blocks)
    }

    /// The device of partition `number`, if the kernel knows it.
    pub fn partition(&self, root: &Path, number: u32) -> Option<PathBuf> {
        let folder = under(root, "/sys/class/block").join(&self.name);
        let entries = std::fs::read_dir(folder).ok()?;
        let found = entries.flatten().find(|entry| {
            let text = std::fs::read_to_string(entry.path().join("partition"));
            text.is_ok_and(|text| text.trim() == number.to_string())
        })?;
        Some(under(root, "/dev").join(found.file_name()))
    }
}

/// What tells a disk from others, as far as its driver says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Serial number.
    pub serial: Option<String>,
    /// World Wide Name, as the kernel writes it.
    pub wwn: Option<String>,
    /// Where it is plugged in: its folder below `/sys/devices`.
    pub path: PathBuf,
}

impl Disk {
    /// Reads what tells it from others.
    pub fn marks(&self, root: &Path) -> Marks {
        let folder = under(root, "/sys/class/block").join(&self.name);
        let text = |file: &str| {
            let text = std::fs::read_to_string(folder.join(file)).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        Marks {
            // virtio, NVMe, then SCSI and with it ATA.
            serial: text("serial").or_else(|| text("device/serial")).or_else(|| vital_serial(&folder)),
            // NVMe, then SCSI.
            wwn: text("wwid").or_else(|| text("device/wwid")),
            path: std::fs::canonicalize(&folder).unwrap_or_default(),
        }
    }
}

/// The serial number among the vital product data of a SCSI disk: four bytes of header, the last two of which are the
/// length (SPC-4, section 7.8.11).
fn vital_serial(folder: &Path) -> Option<String> {
    let page = std::fs::read(folder.join("device/vpd_pg80")).ok()?;
    let length = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
    let text = String::from_utf8_lossy(page.get(4..)?.get(..length)?).trim().to_owned();
    Some(text).filter(|text| !text.is_empty())
}

/// The halves of the root hash, as the Discoverable Partitions Specification makes UUIDs of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootGuids {
    /// First 128 bits: the root partition.
    pub root: Guid,
    /// Last 128 bits: the verity partition.
    pub verity: Guid,
}

impl RootGuids {
    /// From 64 hexadecimal digits.
    pub fn of(root_hash: &str) -> Option<RootGuids> {
        let hexadecimal = root_hash.len() == 64 && root_hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (root, verity) = hexadecimal.then(|| root_hash.split_at(32))?;
        Some(RootGuids { root: root.parse().ok()?, verity: verity.parse().ok()? })
    }
}

/// Where the root is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootPlace {
    /// The disk.
    pub disk: Disk,
    /// Its table.
    pub table: Table,
    /// Number of the root partition.
    pub root: u32,
    /// Number of the verity partition.
    pub verity: u32,
    /// Other disks that hold the same image.
    pub also_on: Vec<String>,
}

/// Looks for the root on all disks. The error is what was seen, a phrase per disk.
pub fn find_root(root: &Path, wanted: RootGuids) -> Result<RootPlace, Vec<String>> {
    let mut found: Vec<RootPlace> = Vec::new();
    let mut seen = Vec::new();
    for disk in disks(root) {
        match disk.table() {
            Ok(table) => match (table.by_guid(wanted.root), table.by_guid(wanted.verity)) {
                (Some((root, _)), Some((verity, _))) => {
                    found.push(RootPlace { disk, table, root, verity, also_on: Vec::new() });
                }
                _ => seen.push(format!("{}: {}", disk.name, describe(&table, wanted))),
            },
            Err(error) => seen.push(format!("{}: {error}", disk.name)),
        }
    }
    // The first by name: a tie between equal images is harmless, verity holds for both.
    let mut found = found.into_iter();
    let mut place = found.next().ok_or(seen)?;
    place.also_on = found.map(|other| other.disk.name).collect();
    Ok(place)
}

fn describe(table: &Table, wanted: RootGuids) -> String {
    let half = match (table.by_guid(wanted.root), table.by_guid(wanted.verity)) {
        (Some(_), None) => "the root partition is there, its verity partition is not; ",
        (None, Some(_)) => "the verity partition is there, its root partition is not; ",
        _ => "",
    };
    let names: Vec<String> =
        table.partitions().map(|(number, partition)| format!("{number} {}", partition.name)).collect();
    match names.len() {
        0 => format!("{half}no partitions"),
        _ => format!("{half}partitions {}", names.join(", ")),
    }
}

/// The disk that the root filesystem was mounted from: through the mapping of dm-verity down to the
/// partition and its disk.
pub fn boot_disk(root: &Path) -> io::Result<Disk> {
    let device = std::fs::metadata(root)?.dev();
    let mapping = under(root, &format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device)));
    let not_found = |what: String| io::Error::new(io::ErrorKind::NotFound, what);
    for slave in std::fs::read_dir(mapping.join("slaves"))?.flatten() {
        let partition = std::fs::canonicalize(slave.path())?;
        let name = partition.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        if let Some(disk) = name.and_then(|name| disk(root, name)) {
            return Ok(disk);
        }
    }
    Err(not_found(format!("{} has no partition of a disk below it", mapping.display())))
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::storage::gpt::{Partition, Table, steps};

    const HASH: &str = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";

    /// A machine made of files: a disk is a folder in /sys and a file in /dev.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Machine {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(root.path().join("dev")).unwrap();
            std::fs::create_dir_all(root.path().join("sys/class/block")).unwrap();
            Machine(root)
        }

        fn disk(&self, name: &str, sector: u64, contents: &[u8]) {
            let folder = self.0.path().join("sys/class/block").join(name);
            std::fs::create_dir_all(folder.join("queue")).unwrap();
            std::fs::write(folder.join("queue/logical_block_size"), format!("{sector}\n")).unwrap();
            std::fs::write(folder.join("size"), format!("{}\n", contents.len() / 512)).unwrap();
            std::fs::write(self.0.path().join("dev").join(name), contents).unwrap();
        }

        fn partition(&self, disk: &str, name: &str, number: u32) {
            let folder = self.0.path().join("sys/class/block").join(disk).join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("partition"), format!("{number}\n")).unwrap();
        }
    }

    fn image(sector: u64, names: &[(&str, Guid)]) -> Vec<u8> {
        let mut entries = vec![None; 128];
        for (place, (name, guid)) in names.iter().enumerate() {
            let first = 100 + 10 * place as u64;
            entries[place] = Some(Partition {
                kind: *guid,
                guid: *guid,
                first,
                last: first + 9,
                attributes: 0,
                name: (*name).to_owned(),
            });
        }
        let table = Table {
            sector,
            disk: Guid([7; 16]),
            first_usable: 64,
            last_usable: 400,
            backup: 511,
            entries_lba: 2,
            entry_size: 128,
            entries,
            copy: gpt::Copy::Primary,
        };
        let mut disk = vec![0; 512 * sector as usize];
        for step in steps(&table, &[]) {
            disk[step.offset as usize..][..step.bytes.len()].copy_from_slice(&step.bytes);
        }
        assert!(gpt::read(&mut Cursor::new(&disk), sector, 512).is_ok());
        disk
    }

    #[test]
    fn the_root_is_found_among_garbage_and_on_both_sector_sizes() {
        let wanted = RootGuids::of(HASH).unwrap();
        for sector in [512, 4096] {
            let machine = Machine::new();
            machine.disk("vda", 512, &[0xa5; 1 << 20]);
            machine.disk(
                "vdb",
                sector,
                &image(sector, &[("root-a", wanted.root), ("verity-a", wanted.verity)]),
            );
            machine.disk(
                "vdc",
                sector,
                &image(sector, &[("root-a", wanted.root), ("verity-a", wanted.verity)]),
            );
            machine.disk(
                "loop0",
                sector,
                &image(sector, &[("root-a", wanted.root), ("verity-a", wanted.verity)]),
            );
            machine.partition("vdb", "vdb1", 1);
            let place = find_root(machine.0.path(), wanted).unwrap();
            assert_eq!((place.disk.name.as_str(), place.root, place.verity), ("vdb", 1, 2));
            assert_eq!(place.also_on, ["vdc"]);
            assert!(place.disk.partition(machine.0.path(), 1).unwrap().ends_with("dev/vdb1"));
            assert_eq!(place.disk.partition(machine.0.path(), 2), None);
        }
    }

    #[test]
    fn what_was_seen_instead_is_told() {
        let wanted = RootGuids::of(HASH).unwrap();
        let machine = Machine::new();
        machine.disk("vda", 512, &[0xa5; 1 << 20]);
        machine.disk("vdb", 512, &image(512, &[("root-a", wanted.root), ("data", Guid([3; 16]))]));
        let mut torn = image(512, &[("data", Guid([3; 16]))]);
        torn[1024] ^= 1;
        let end = torn.len() - 512;
        torn[end..].fill(0);
        machine.disk("vdc", 512, &torn);
        insta::assert_snapshot!(find_root(machine.0.path(), wanted).unwrap_err().join("\n"), @r"
        vda: no GPT
        vdb: the root partition is there, its verity partition is not; partitions 1 root-a, 2 data
        vdc: the GPT header at byte 512 is damaged: the checksum of the partition entries does not match
        ");
    }
}
