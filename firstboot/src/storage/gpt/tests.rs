use std::fs::File;
use std::io::Cursor;
use std::process::Command;

use bootwright_model::baked::SecondSlot;
use proptest::prelude::*;

use super::*;
use crate::storage::disks::RootGuids;
use crate::storage::grow::{self, GrowError, SMALLEST_STATE_BYTES};

const ROOT_HASH: &str = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";

/// What the builder records for the root that [`shipped`] has, smaller.
const SLOT: SecondSlot = SecondSlot { root_bytes: 64 << 20, verity_bytes: 2 << 20 };

fn guids() -> RootGuids {
    RootGuids::of(ROOT_HASH).unwrap()
}

/// A disk file as it is shipped: boot code in the MBR, four partitions made by sgdisk.
fn shipped(bytes: u64) -> tempfile::NamedTempFile {
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(64 << 20).unwrap();
    let arguments = [
        "-U",
        "10000000-0000-4000-8000-000000000000",
        "-n",
        "1:2048:+8M",
        "-t",
        "1:EF00",
        "-c",
        "1:ESP",
        "-u",
        "1:10000000-0000-4000-8000-000000000001",
        "-n",
        "2:0:+16M",
        "-t",
        "2:8304",
        "-c",
        "2:root-a",
        "-u",
        "2:00112233-4455-6677-8899-aabbccddeeff",
        "-n",
        "3:0:+1M",
        "-t",
        "3:830C",
        "-c",
        "3:verity-a",
        "-u",
        "3:01234567-89ab-cdef-0123-456789abcdef",
        "-n",
        "4:0:+8M",
        "-t",
        "4:8300",
        "-c",
        "4:SEED",
        "-u",
        "4:10000000-0000-4000-8000-000000000004",
    ];
    let output = Command::new("/usr/sbin/sgdisk").args(arguments).arg(disk.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut mbr = [0; 440];
    mbr.fill(0xb0);
    std::os::unix::fs::FileExt::write_all_at(disk.as_file(), &mbr, 0).unwrap();
    disk.as_file().set_len(bytes).unwrap();
    disk
}

fn sgdisk_is_content(disk: &std::path::Path) {
    let output = Command::new("/usr/sbin/sgdisk").arg("-v").arg(disk).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("No problems found"), "{text}");
}

fn table_of(disk: &std::path::Path, sector: u64) -> Result<Table, GptError> {
    let mut file = File::open(disk).unwrap();
    let blocks = file.metadata().unwrap().len() / sector;
    read(&mut file, sector, blocks)
}

/// One run of what the state stage does to the table, stopped after `limit` writes.
fn grow_disk(disk: &std::path::Path, sector: u64, limit: usize) -> Result<grow::Plan, GrowError> {
    let file = File::options().read(true).write(true).open(disk).unwrap();
    let blocks = file.metadata().unwrap().len() / sector;
    let table = table_of(disk, sector).unwrap();
    let plan = grow::plan(&table, blocks, guids(), SLOT)?;
    let steps = all_steps(&file, &plan);
    apply(&file, &steps[..limit.min(steps.len())]).unwrap();
    Ok(plan)
}

fn all_steps(file: &File, plan: &grow::Plan) -> Vec<Step> {
    let mut mbr = vec![0; plan.table.sector as usize];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut mbr, 0).unwrap();
    plan.erase.iter().cloned().chain(steps(&plan.table, &mbr)).collect()
}

#[test]
fn a_grown_disk_gets_its_partitions_and_sgdisk_agrees() {
    let disk = shipped(2 << 30);
    let plan = grow_disk(disk.path(), 512, usize::MAX).unwrap();
    assert!(plan.new);
    sgdisk_is_content(disk.path());
    let table = table_of(disk.path(), 512).unwrap();
    let lines: Vec<String> = table
        .partitions()
        .map(|(number, part)| format!("{number} {} {} {}", part.name, part.first, part.blocks()))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    1 ESP 2048 16384
    2 root-a 18432 32768
    3 verity-a 51200 2048
    4 SEED 53248 16384
    5 root-b 69632 131072
    6 verity-b 200704 4096
    7 STATE 204800 3987456
    ");
    let mut mbr = [0; 440];
    std::os::unix::fs::FileExt::read_exact_at(disk.as_file(), &mut mbr, 0).unwrap();
    assert_eq!(mbr, [0xb0; 440], "the boot code is kept");
}

#[test]
fn a_second_run_changes_nothing_and_a_second_growth_extends_the_state() {
    let disk = shipped(2 << 30);
    grow_disk(disk.path(), 512, usize::MAX).unwrap();
    let before = std::fs::read(disk.path()).unwrap();
    let plan = grow_disk(disk.path(), 512, usize::MAX).unwrap();
    assert!(!plan.new && plan.erase.is_empty());
    assert!(before == std::fs::read(disk.path()).unwrap(), "the second run wrote something else");
    disk.as_file().set_len(3 << 30).unwrap();
    grow_disk(disk.path(), 512, usize::MAX).unwrap();
    sgdisk_is_content(disk.path());
    let table = table_of(disk.path(), 512).unwrap();
    assert_eq!(table.by_name("STATE").unwrap().1.blocks(), 3_987_456 + (1 << 30) / 512);
}

#[test]
fn a_power_cut_after_any_write_leaves_a_disk_that_the_next_boot_goes_on_with() {
    let whole = shipped(1 << 30);
    grow_disk(whole.path(), 512, usize::MAX).unwrap();
    let expected = table_of(whole.path(), 512).unwrap();
    let disk = shipped(1 << 30);
    let plan = grow_disk(disk.path(), 512, 0).unwrap();
    let count = all_steps(disk.as_file(), &plan).len();
    assert_eq!(count, 7, "two erasures, two copies of two parts, the MBR");
    for cut in 0..=count {
        let disk = shipped(1 << 30);
        grow_disk(disk.path(), 512, cut).unwrap();
        let table = table_of(disk.path(), 512).unwrap();
        assert!(table.by_guid(guids().root).is_some(), "cut after {cut}: the root is found");
        grow_disk(disk.path(), 512, usize::MAX).unwrap();
        sgdisk_is_content(disk.path());
        assert_eq!(table_of(disk.path(), 512).unwrap(), expected, "cut after {cut}");
    }
}

#[test]
fn a_write_torn_in_the_middle_is_recovered_too() {
    for torn in 2..7 {
        let disk = shipped(1 << 30);
        let plan = grow_disk(disk.path(), 512, torn).unwrap();
        let step = &all_steps(disk.as_file(), &plan)[torn.min(6)];
        // Sectors are written whole; a cut falls between two of them.
        for sectors in 0..step.bytes.len() / 512 {
            std::os::unix::fs::FileExt::write_all_at(
                disk.as_file(),
                &step.bytes[..sectors * 512],
                step.offset,
            )
            .unwrap();
            assert!(
                table_of(disk.path(), 512).unwrap().by_guid(guids().root).is_some(),
                "step {torn}, {sectors}"
            );
        }
        grow_disk(disk.path(), 512, usize::MAX).unwrap();
        sgdisk_is_content(disk.path());
    }
}

#[test]
fn a_disk_that_is_too_small_says_how_large_it_must_be() {
    let disk = shipped(300 << 20);
    let error = grow_disk(disk.path(), 512, usize::MAX).unwrap_err();
    let GrowError::TooSmall { have: 300, slot: 66, need } = error else { panic!("{error}") };
    assert_eq!(
        error.to_string(),
        "the disk has 300 MiB; the second root slot of 66 MiB and at least 512 MiB of state need 613 MiB"
    );
    // A MiB less is not enough.
    disk.as_file().set_len((need - 1) << 20).unwrap();
    assert_eq!(
        grow_disk(disk.path(), 512, usize::MAX),
        Err(GrowError::TooSmall { have: need - 1, slot: 66, need })
    );
    disk.as_file().set_len(need << 20).unwrap();
    let plan = grow_disk(disk.path(), 512, usize::MAX).unwrap();
    let state = plan.table.by_name("STATE").unwrap().1.blocks() * 512;
    assert!(state >= SMALLEST_STATE_BYTES, "{state}");
}

#[test]
fn the_second_slot_has_the_recorded_size_and_at_least_that_of_the_first() {
    let blocks = (8 << 30) / 512;
    let sizes = |root_bytes, verity_bytes| {
        let plan =
            grow::plan(&table(512, 150), blocks, guids(), SecondSlot { root_bytes, verity_bytes }).unwrap();
        ["root-b", "verity-b"].map(|name| (plan.table.by_name(name).unwrap().1.blocks() * 512) >> 20)
    };
    assert_eq!(sizes(512 << 20, 5 << 20), [512, 5]);
    // Of an image that records none.
    assert_eq!(sizes(0, 0), [150, 3]);
    let absurd = SecondSlot { root_bytes: u64::MAX, verity_bytes: u64::MAX };
    let refused = grow::plan(&table(512, 150), blocks, guids(), absurd);
    assert!(matches!(refused, Err(GrowError::TooSmall { .. })), "{refused:?}");
    // A disk that has its slot keeps it.
    let made = grow::plan(&table(512, 150), blocks, guids(), SLOT).unwrap();
    assert_eq!(grow::plan(&made.table, blocks, guids(), absurd).unwrap().table, made.table);
}

#[test]
fn partitions_of_others_are_not_touched() {
    let disk = shipped(1 << 30);
    let arguments = ["-e", "-n", "5:200M:+8M", "-c", "5:photos"];
    let output = Command::new("/usr/sbin/sgdisk").args(arguments).arg(disk.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let error = grow_disk(disk.path(), 512, usize::MAX).unwrap_err();
    assert_eq!(error, GrowError::Foreign { number: 5, name: "photos".into() });
}

#[test]
fn names_of_the_design_parse() {
    use bootwright_model::layout;
    for text in [layout::TYPE_LINUX_GENERIC, layout::TYPE_ESP, layout::TYPE_ROOT_X86_64] {
        assert_eq!(text.parse::<Guid>().unwrap().to_string(), text.to_lowercase());
    }
    assert!("00112233".parse::<Guid>().is_err());
    assert!(RootGuids::of("é0112233445566778899aabbccddeeff0123456789abcdef0123456789abcde").is_none());
}

#[test]
fn garbage_is_named() {
    let mut disk = Cursor::new(vec![0xa5_u8; 1 << 20]);
    assert!(matches!(read(&mut disk, 512, 2048), Err(GptError::None)));
    let shipped = shipped(64 << 20);
    let flip = |offset: u64| {
        std::os::unix::fs::FileExt::write_all_at(shipped.as_file(), &[0x5a], offset).unwrap();
    };
    flip((64 << 20) - 512);
    flip(1024 + 3);
    let error = table_of(shipped.path(), 512).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the GPT header at byte 512 is damaged: the checksum of the partition entries does not match"
    );
}

/// A table without a disk file: four partitions at the start, as `sector` has it.
fn table(sector: u64, root_mebibytes: u64) -> Table {
    let unit = (1 << 20) / sector;
    let partition = |first: u64, length: u64, guid: Guid, name: &str| Partition {
        kind: bootwright_model::layout::TYPE_LINUX_GENERIC.parse().unwrap(),
        guid,
        first: first * unit,
        last: (first + length) * unit - 1,
        attributes: 0,
        name: name.into(),
    };
    let mut entries = vec![None; 128];
    entries[0] = Some(partition(1, 40, Guid([1; 16]), "ESP"));
    entries[1] = Some(partition(41, root_mebibytes, guids().root, "root-a"));
    entries[2] = Some(partition(41 + root_mebibytes, 3, guids().verity, "verity-a"));
    entries[3] = Some(partition(44 + root_mebibytes, 8, Guid([4; 16]), "SEED"));
    Table {
        sector,
        disk: Guid([9; 16]),
        first_usable: unit,
        last_usable: (60 + root_mebibytes) * unit,
        backup: (61 + root_mebibytes) * unit,
        entries_lba: 2,
        entry_size: 128,
        entries,
        copy: Copy::Primary,
    }
}

proptest! {
    #[test]
    fn a_plan_keeps_the_rules(
        sector in prop_oneof![Just(512_u64), Just(4096)],
        root in 1_u64..600,
        slot in (0_u64..1 << 31, 0_u64..1 << 25),
        bytes in (32_u64 << 20)..(1_u64 << 44),
    ) {
        let slot = SecondSlot { root_bytes: slot.0, verity_bytes: slot.1 };
        let before = table(sector, root);
        let blocks = bytes / sector;
        match grow::plan(&before, blocks, guids(), slot) {
            Err(GrowError::TooSmall { have, need, .. }) => prop_assert!(need == 0 || have < need),
            Err(error) => prop_assert!(false, "{error}"),
            Ok(plan) => {
                let mut last = plan.table.first_usable - 1;
                for (number, partition) in plan.table.partitions() {
                    prop_assert!(partition.first > last, "{number} begins in its neighbour");
                    prop_assert_eq!(partition.first * sector % (1 << 20), 0);
                    last = partition.last;
                }
                prop_assert!(last <= plan.table.last_usable);
                prop_assert!(plan.table.last_usable + plan.table.entry_blocks() + 2 == blocks);
                prop_assert_eq!(&before.entries[..4], &plan.table.entries[..4]);
                let again = grow::plan(&plan.table, blocks, guids(), slot).unwrap();
                prop_assert_eq!(again.table, plan.table);
            }
        }
    }

    #[test]
    fn a_table_is_read_back_as_it_was_written(sector in prop_oneof![Just(512_u64), Just(4096)]) {
        let table = table(sector, 1);
        let blocks = table.backup + 1;
        let mut disk = vec![0; (blocks * sector) as usize];
        for step in steps(&table, &[0; 512]) {
            disk[step.offset as usize..][..step.bytes.len()].copy_from_slice(&step.bytes);
        }
        prop_assert_eq!(&read(&mut Cursor::new(&disk), sector, blocks).unwrap(), &table);
        disk[sector as usize + 60] ^= 1;
        let backup = read(&mut Cursor::new(&disk), sector, blocks).unwrap();
        prop_assert_eq!(backup, Table { copy: Copy::Backup, ..table });
    }

    #[test]
    fn damaged_tables_are_errors_not_panics(
        damage in proptest::collection::vec((0_usize..34 * 512, any::<u8>()), 1..40),
        fix in any::<bool>(),
    ) {
        let table = table(512, 1);
        let mut disk = vec![0; 40 * 512];
        for step in steps(&table, &[0; 512]).into_iter().filter(|step| step.offset < 34 * 512) {
            disk[step.offset as usize..][..step.bytes.len()].copy_from_slice(&step.bytes);
        }
        for (place, byte) in damage {
            disk[place] = byte;
        }
        if fix {
            // Past the checksum, so that the checks behind it see the damage.
            disk[528..532].fill(0);
            let checksum = crc32fast::hash(&disk[512..604]);
            disk[528..532].copy_from_slice(&checksum.to_le_bytes());
        }
        let _ = read(&mut Cursor::new(&disk), 512, table.backup + 1);
    }
}
