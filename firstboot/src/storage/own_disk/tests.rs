use std::os::unix::fs::symlink;

use super::*;

/// Smallest that is taken, in sectors of 512 bytes, and some.
const SECTORS: u64 = (SMALLEST_STATE_BYTES + (64 << 20)) / 512;

/// A machine made of files: a disk is a folder in /sys and a file in /dev.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Machine {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("dev")).unwrap();
        std::fs::create_dir_all(root.path().join("sys/class/block")).unwrap();
        let machine = Machine(root);
        machine.disk("vda", "BOOT");
        machine
    }

    /// An empty disk of virtio.
    fn disk(&self, name: &str, serial: &str) -> File {
        let folder =
            self.0.path().join("sys/devices/pci0000:00").join(format!("0000:00:{serial}/virtio")).join(name);
        std::fs::create_dir_all(folder.join("queue")).unwrap();
        std::fs::write(folder.join("queue/logical_block_size"), "512\n").unwrap();
        std::fs::write(folder.join("size"), format!("{SECTORS}\n")).unwrap();
        std::fs::write(folder.join("serial"), serial).unwrap();
        std::fs::write(folder.join("wwid"), format!("naa.5000c500{name}\n")).unwrap();
        symlink(folder, self.0.path().join("sys/class/block").join(name)).unwrap();
        let file = File::options().read(true).write(true).create_new(true).open(self.device(name)).unwrap();
        file.set_len(SECTORS * 512).unwrap();
        file
    }

    fn device(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join("dev").join(name)
    }

    fn choose(&self, wanted: &StateDisk) -> Result<Chosen, ChooseError> {
        choose(self.0.path(), wanted, own(), "vda")
    }
}

fn own() -> Guid {
    guid("harbor", "cp1")
}

fn any() -> StateDisk {
    StateDisk { min_size: Some("0G".to_owned()), ..StateDisk::default() }
}

fn serial(serial: &str) -> StateDisk {
    StateDisk { serial: Some(serial.to_owned()), ..StateDisk::default() }
}

/// Writes the first steps of the table; all of them if there are not as many.
fn make(chosen: &Chosen, steps: usize) {
    let plan = plan(chosen, own()).unwrap();
    let file = File::options().write(true).open(&chosen.disk.device).unwrap();
    let steps: Vec<Step> = table_steps(&chosen.disk, &plan.table).into_iter().take(steps).collect();
    gpt::apply(&file, &steps).unwrap();
}

#[test]
fn the_first_empty_disk_is_taken_and_known_again() {
    let machine = Machine::new();
    for (name, serial) in [("vdc", "3"), ("vdb", "2")] {
        machine.disk(name, serial);
    }
    let chosen = machine.choose(&any()).unwrap();
    assert_eq!((chosen.disk.name.as_str(), chosen.new), ("vdb", true));
    // The other one is named: it keeps the state, wherever it is plugged in.
    let chosen = machine.choose(&serial("3")).unwrap();
    make(&chosen, 9);
    let again = machine.choose(&any()).unwrap();
    assert_eq!((again.disk.name.as_str(), again.new), ("vdc", false));
    // Another node's is not taken for it.
    let other = choose(machine.0.path(), &serial("3"), guid("harbor", "cp2"), "vda").unwrap_err();
    assert!(matches!(&other, ChooseError::Used { seen, .. } if seen.contains("STATE")), "{other}");
}

#[test]
fn a_table_that_was_cut_off_is_gone_on_with() {
    for steps in 0..6 {
        let machine = Machine::new();
        machine.disk("vdb", "2");
        make(&machine.choose(&any()).unwrap(), steps);
        let chosen = machine.choose(&any()).unwrap();
        assert_eq!(chosen.new, steps < 2, "{steps} steps");
        make(&chosen, 9);
        assert!(!machine.choose(&any()).unwrap().new);
    }
}

#[test]
fn a_disk_that_was_given_to_somebody_else_is_theirs() {
    let machine = Machine::new();
    let file = machine.disk("vdb", "2");
    make(&machine.choose(&any()).unwrap(), 9);
    // As fdisk and cfdisk do, which leave the copy at the end.
    let mut front = vec![0; 1 << 20];
    front[510..512].copy_from_slice(b"\x55\xaa");
    file.write_all_at(&front, 0).unwrap();
    let error = machine.choose(&any()).unwrap_err().to_string();
    assert!(error.ends_with("vdb holds an MBR partition table or a FAT filesystem"), "{error}");
}

#[test]
fn the_table_is_one_for_others() {
    let machine = Machine::new();
    machine.disk("vdb", "2");
    make(&machine.choose(&any()).unwrap(), 9);
    let said = std::process::Command::new("/usr/sbin/sgdisk").arg("-v").arg(machine.device("vdb")).output();
    let said = String::from_utf8(said.expect("sgdisk of gdisk runs").stdout).unwrap();
    assert!(said.contains("No problems found"), "{said}");
}

#[test]
fn a_disk_that_holds_anything_is_refused_by_name() {
    let cases: [(u64, &[u8], &str); 7] = [
        (1080, b"\x53\xef", "an ext4 filesystem"),
        (510, b"\x55\xaa", "an MBR partition table or a FAT filesystem"),
        (65_600, b"_BHRfS_M", "a Btrfs filesystem"),
        (512, b"EFI PART", "a damaged GUID partition table"),
        (1 << 20, b"\x0d", "data"),
        (SECTORS * 512 - 1, b"x", "data at its end"),
        (SECTORS * 512 - 8192, b"\xfc\x4e\x2b\xa9", "data at its end"),
    ];
    for (at, bytes, what) in cases {
        let machine = Machine::new();
        let file = machine.disk("vdb", "2");
        file.write_all_at(bytes, at).unwrap();
        let wanted = format!("no disk that fits serial 2 is empty, and none is touched: vdb holds {what}");
        assert_eq!(machine.choose(&serial("2")).unwrap_err().to_string(), wanted);
    }
}

#[test]
fn marks_are_compared_and_told() {
    let machine = Machine::new();
    machine.disk("vdb", "2");
    let fits = [
        StateDisk { wwn: Some("0x5000C500VDB".to_owned()), ..StateDisk::default() },
        StateDisk { path: Some("0000:00:2/virtio".to_owned()), ..StateDisk::default() },
        StateDisk { min_size: Some("0G".to_owned()), ..serial("2") },
    ];
    for wanted in fits {
        assert_eq!(machine.choose(&wanted).unwrap().disk.name, "vdb");
    }
    let fits_not = [
        StateDisk { path: Some("0000:00".to_owned()), ..StateDisk::default() },
        StateDisk { min_size: Some("1T".to_owned()), ..StateDisk::default() },
        StateDisk { wwn: Some("0x1".to_owned()), ..serial("2") },
        // The disk that the machine started from.
        serial("BOOT"),
    ];
    for wanted in fits_not {
        assert!(matches!(machine.choose(&wanted), Err(ChooseError::None { .. })), "{wanted:?}");
    }
    let error = machine.choose(&serial("7")).unwrap_err().to_string();
    assert!(
        error
            .starts_with("no disk fits serial 7; there are vdb (0.6G, serial 2, wwn naa.5000c500vdb, path /"),
        "{error}"
    );
}

#[test]
fn of_two_with_the_state_neither_is_taken() {
    let machine = Machine::new();
    machine.disk("vdb", "2");
    make(&machine.choose(&any()).unwrap(), 9);
    machine.disk("vdc", "3");
    std::fs::copy(machine.device("vdb"), machine.device("vdc")).unwrap();
    let two = ChooseError::Two { first: "vdb".to_owned(), second: "vdc".to_owned() };
    assert_eq!(machine.choose(&any()), Err(two));
    assert_eq!(machine.choose(&serial("3")).unwrap().disk.name, "vdc");
}

#[test]
fn a_disk_with_two_paths_to_it_is_one() {
    let machine = Machine::new();
    machine.disk("vdb", "2");
    make(&machine.choose(&any()).unwrap(), 9);
    machine.disk("vdc", "2b");
    std::fs::copy(machine.device("vdb"), machine.device("vdc")).unwrap();
    let wwid = |name: &str| machine.0.path().join("sys/class/block").join(name).join("wwid");
    std::fs::copy(wwid("vdb"), wwid("vdc")).unwrap();
    assert_eq!(machine.choose(&any()).unwrap().disk.name, "vdb");
}
