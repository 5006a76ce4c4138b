use super::*;
use crate::image::uki::Section;

/// grub-pc-bin as it is installed on the build machine.
pub(crate) fn installed() -> BTreeMap<String, Content> {
    let folder = Path::new("/usr/lib/grub/i386-pc");
    GRUB_FILES
        .into_iter()
        .map(|name| {
            let bytes = std::fs::read(folder.join(name)).expect("package grub-pc-bin is installed");
            (name.to_owned(), Content::bytes(bytes))
        })
        .collect()
}

fn uki(command_line: &str) -> Uki {
    let section = |name: &str, file_offset, size: u32| Section {
        name: name.to_owned(),
        size,
        file_offset,
        file_size: size.next_multiple_of(SECTOR),
        address: 0,
    };
    let mut bytes = vec![0; 8192];
    bytes[512..512 + command_line.len()].copy_from_slice(command_line.as_bytes());
    Uki {
        bytes,
        sections: vec![
            section(".cmdline", 512, command_line.len() as u32),
            section(".initrd", 1024, 700),
            section(".linux", 2048, 5000),
        ],
    }
}

#[test]
fn the_list_of_files_is_closed_over_dependencies() {
    let listed = |name: &str| GRUB_FILES.contains(&format!("{name}.mod").as_str());
    let dependencies =
        std::fs::read_to_string("/usr/lib/grub/i386-pc/moddep.lst").expect("package grub-pc-bin");
    let needs: BTreeMap<&str, Vec<&str>> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, needs)| (name, needs.split_whitespace().collect()))
        .collect();
    let mut waiting = MODULES.to_vec();
    let mut closed = std::collections::BTreeSet::new();
    while let Some(name) = waiting.pop() {
        assert!(listed(name), "{name}.mod is needed and not listed");
        if closed.insert(name) {
            waiting.extend(&needs[name]);
        }
    }
    let modules = GRUB_FILES.iter().filter(|name| name.ends_with(".mod")).count();
    assert_eq!(modules, closed.len(), "a listed module is not needed: {closed:?}");
}

#[test]
fn the_loader_is_patched_for_its_place_and_the_same_twice() {
    let once = loader(&installed()).unwrap();
    assert_eq!(once.boot_code[0x5c..0x64], CORE_LBA.to_le_bytes());
    assert_eq!(once.boot_code[0x66..0x68], [0x90, 0x90]);
    assert_eq!(once.core.len() % 512, 0);
    assert_eq!(once.core[500..508], (CORE_LBA + 1).to_le_bytes());
    assert_eq!(usize::from(u16::from_le_bytes([once.core[508], once.core[509]])), once.core.len() / 512 - 1);
    assert!(check_room(&once.core, 1 << 20).is_ok());
    assert!(once == loader(&installed()).unwrap());
}

#[test]
fn a_missing_file_or_another_layout_is_named() {
    let mut files = installed();
    files.remove("fat.mod");
    insta::assert_snapshot!(loader(&files).unwrap_err(), @"fat.mod of Debian's package grub-pc-bin is missing among the loader's files");

    let core = vec![0; 1024];
    insta::assert_snapshot!(patch(&[0; 512], core.clone()).unwrap_err(), @"boot.img of grub-pc-bin is of an unknown layout (not a boot sector): use the version of Debian 12");
    let boot = installed()["boot.img"].read().unwrap();
    insta::assert_snapshot!(patch(&boot, core).unwrap_err(), @"diskboot.img of grub-pc-bin is of an unknown layout (a block list of 0 blocks, the core image has 1): use the version of Debian 12");
    let mut moved = boot;
    moved[0x5c] = 9;
    assert!(matches!(patch(&moved, vec![0; 1024]), Err(BiosError::Layout { image: "boot.img", .. })));
    assert!(matches!(check_room(&[0; 2048], 64 * 512 + 1024), Err(BiosError::TooLarge { room: 1024, .. })));
}

#[test]
fn the_configuration_takes_numbers_and_arguments_from_the_uki() {
    let uki = uki("roothash=ab console=ttyS0,115200 x=$HOME;reboot");
    insta::assert_snapshot!(config(&uki, "EFI/Linux/all-in-one.efi").unwrap(), @r#"
    # Written with the slot's UKI: the numbers are sectors of its sections.
    function start {
      if loopback slot /EFI/Linux/all-in-one.efi; then
        if linux (slot)4+10 'roothash=ab' 'console=ttyS0,115200' 'x=$HOME;reboot'; then
          if initrd (slot)2+2; then
            boot
          fi
        fi
      fi
    }
    start
    serial --unit=0 --speed=115200
    terminal_output serial console
    start
    echo
    echo 'bootwright: the BIOS loader cannot start this machine.'
    echo '  what: /EFI/Linux/all-in-one.efi on partition 1 (ESP) of this disk'
    echo '   why: the error above'
    echo '  next: write partition 1 of the image that is on this disk to its partition 1,'
    echo '        which keeps the data of the node, or the whole image, which does not;'
    echo '        the machine restarts in 60 s'
    sleep 60
    reboot
    "#);
}

#[test]
fn the_loader_speaks_where_the_kernel_would() {
    for (command_line, serial) in [
        ("console=tty0 console=ttyS0,115200", Some((0, 115_200))),
        ("console=ttyS0,115200 console=ttyS1,9600n8", Some((1, 9600))),
        ("console=ttyS2", Some((2, 9600))),
        ("console=ttyS9,115200", None),
        ("console=tty0", None),
    ] {
        assert_eq!(serial_console(command_line), serial, "{command_line}");
    }
    assert!(!config(&uki("console=tty0"), "x.efi").unwrap().contains("serial"));
}

#[test]
fn every_argument_survives_the_quoting() {
    let arguments: Vec<String> =
        ["a=b;c", "$x", "{d}", "#e", "f&g|h<i>j", "k*?[l]", "~m!"].map(str::to_owned).into();
    crate::image::uki::check_command_line(&arguments).unwrap();
    let text = config(&uki(&arguments.join(" ")), "x.efi").unwrap();
    let line = text.lines().find(|line| line.trim().starts_with("if linux")).unwrap();
    let quoted: Vec<_> = line.split('\'').skip(1).step_by(2).collect();
    assert_eq!(quoted, arguments);
}

#[test]
fn grub_takes_the_configuration_for_a_script() {
    let folder = tempfile::tempdir().unwrap();
    let of_a_slot = config(&uki("a=b;c $x {d} #e console=ttyS0"), "EFI/Linux/x.efi").unwrap();
    for text in [&of_a_slot, EMBEDDED_CONFIG] {
        let path = folder.path().join("grub.cfg");
        std::fs::write(&path, text).unwrap();
        let done =
            Command::new("grub-script-check").arg(&path).output().expect("package grub-common is installed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}
