//! The BIOS path: a GRUB core image that reads kernel and initramfs out of the UKI on the ESP.
//!
//! One file, the UKI, is then a slot under both firmwares: GRUB opens it as a loop device and takes the
//! sections `.linux` and `.initrd` by their sectors, with the command line that `.cmdline` holds. The core
//! image lies between the partition table and the first partition; the table's first usable block is
//! raised, so that the gap belongs to nobody. `grub-install` and `grub-bios-setup` need root and a mounted
//! filesystem, so the two block numbers that they would patch are patched here.
//!
//! Sources: GRUB's `include/grub/i386/pc/boot.h` (offsets), `docs/grub.texi` ("BIOS installation", "Block list
//! syntax").
//!
//! Rejected: syslinux. It needs kernel and initramfs as files of their own, so that a slot would be three
//! files whose replacement is not one rename, and the ESP twice as large.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Command;

use thiserror::Error;

use super::host::{self, MissingTool};
use super::uki::{SECTOR, Uki};
use crate::rootfs::tree::Content;

/// Folder of GRUB's prefix on the ESP.
const PREFIX: &str = "loader/bios";
/// GRUB's configuration on the ESP; an upgrade rewrites it to name the other slot.
pub const CONFIG_PATH: &str = "loader/bios/grub.cfg";
/// Block that the core image starts at: behind the partition table (blocks 2 to 33).
pub const CORE_LBA: u64 = 64;

/// Modules of the core image; `grub-mkimage` adds what they need.
const MODULES: [&str; 12] = [
    "biosdisk",
    "part_gpt",
    "fat",
    "loopback",
    "linux",
    "normal",
    "configfile",
    "serial",
    "terminal",
    "echo",
    "sleep",
    "reboot",
];

/// What the core image does by itself: the slot's configuration, or a word about its absence. Without the
/// latter GRUB would show its prompt on the screen and wait for ever.
///
/// The serial line comes in only when there is something to say: switching it on clears the terminal at its
/// other end, and with it what the boot before had to say.
const EMBEDDED_CONFIG: &str = "source $prefix/grub.cfg
serial --unit=0 --speed=115200
terminal_output serial console
echo
echo 'bootwright: the BIOS loader cannot start this machine.'
echo '  what: no readable /loader/bios/grub.cfg on partition 1 (ESP) of this disk'
echo '  next: write partition 1 of the image that is on this disk to its partition 1,'
echo '        which keeps the data of the node, or the whole image, which does not;'
echo '        the machine restarts in 60 s'
sleep 60
reboot
";

/// Files of Debian's grub-pc-bin (`/usr/lib/grub/i386-pc/<name>`) that the core image is made from: the
/// modules closed over their dependencies, and the images.
pub const GRUB_FILES: [&str; 33] = [
    "boot.img",
    "diskboot.img",
    "kernel.img",
    "lzma_decompress.img",
    "moddep.lst",
    "biosdisk.mod",
    "boot.mod",
    "bufio.mod",
    "configfile.mod",
    "crypto.mod",
    "datetime.mod",
    "echo.mod",
    "extcmd.mod",
    "fat.mod",
    "fshelp.mod",
    "gettext.mod",
    "linux.mod",
    "loopback.mod",
    "mmap.mod",
    "net.mod",
    "normal.mod",
    "part_gpt.mod",
    "priority_queue.mod",
    "reboot.mod",
    "relocator.mod",
    "serial.mod",
    "sleep.mod",
    "terminal.mod",
    "terminfo.mod",
    "vbe.mod",
    "verifiers.mod",
    "video.mod",
    "video_fb.mod",
];

/// Offset in boot.img of the core image's first block, 8 bytes.
const BOOT_KERNEL_SECTOR: usize = 0x5c;
/// Offset in boot.img of a jump that is replaced on hard disks: a BIOS may pass a wrong drive number.
const BOOT_DRIVE_CHECK: usize = 0x66;
/// What stands there before: a short jump over the check.
const BOOT_DRIVE_CHECK_JUMP: [u8; 2] = [0xeb, 0x05];
/// Offset in diskboot.img of its first block list: start (8 bytes), length in blocks (2), load segment (2).
const DISKBOOT_BLOCK_LIST: usize = 500;
/// Bytes of boot code in a master boot record.
pub const BOOT_CODE: usize = 440;

/// Why there is no BIOS loader.
#[derive(Debug, Error)]
pub enum BiosError {
    /// Host tool.
    #[error(transparent)]
    Tool(#[from] MissingTool),
    /// A file of grub-pc-bin was not given.
    #[error("{name} of Debian's package grub-pc-bin is missing among the loader's files")]
    Missing {
        /// File.
        name: &'static str,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// Read or write.
        action: &'static str,
        /// File.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// grub-mkimage did not do it.
    #[error("grub-mkimage failed ({status}): {message}")]
    Mkimage {
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        message: String,
    },
    /// boot.img or diskboot.img is not as expected.
    #[error("{image} of grub-pc-bin is of an unknown layout ({reason}): use the version of Debian 12")]
    Layout {
        /// Image.
        image: &'static str,
        /// What was not as expected.
        reason: String,
    },
    /// The gap is too small.
    #[error("GRUB's core image has {size} bytes, {room} fit before the first partition")]
    TooLarge {
        /// Bytes.
        size: usize,
        /// Bytes.
        room: usize,
    },
    /// No kernel in the UKI.
    #[error("the unified kernel image has no section {name} for the BIOS loader to read")]
    NoSection {
        /// Section.
        name: &'static str,
    },
}

/// Boot code and core image, patched for their places on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BiosLoader {
    /// First [`BOOT_CODE`] bytes of the master boot record.
    pub boot_code: [u8; BOOT_CODE],
    /// What starts at [`CORE_LBA`], whole blocks of 512 bytes.
    pub core: Vec<u8>,
}

/// Looks for grub-mkimage.
pub fn check_tools() -> Result<(), MissingTool> {
    host::find_tool("grub-mkimage", "grub-common").map(drop)
}

/// Makes the core image with grub-mkimage and patches both parts.
///
/// The result is a function of GRUB's files alone, and so part of the OS layer.
pub fn loader(files: &BTreeMap<String, Content>) -> Result<BiosLoader, BiosError> {
    let mkimage = host::find_tool("grub-mkimage", "grub-common")?;
    let io = |action, path: &Path| {
        let path = path.display().to_string();
        move |source| BiosError::Io { action, path, source }
    };
    let folder = tempfile::tempdir().map_err(io("write", &std::env::temp_dir()))?;
    for name in GRUB_FILES {
        let content = files.get(name).ok_or(BiosError::Missing { name })?;
        let bytes = content.read().map_err(io("read", Path::new(name)))?;
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).map_err(io("write", &path))?;
    }
    let embedded = folder.path().join("embedded.cfg");
    std::fs::write(&embedded, EMBEDDED_CONFIG).map_err(io("write", &embedded))?;
    let core = folder.path().join("core.img");
    let done = Command::new(&mkimage)
        .args(["--format", "i386-pc", "--prefix", &format!("(,gpt1)/{PREFIX}"), "--directory"])
        .arg(folder.path())
        .arg("--config")
        .arg(&embedded)
        .arg("--output")
        .arg(&core)
        .args(MODULES)
        .env_clear()
        .env("LC_ALL", "C")
        .output()
        .map_err(io("run", &mkimage))?;
    if !done.status.success() {
        let message = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        return Err(BiosError::Mkimage { status: done.status, message });
    }
    let core = std::fs::read(&core).map_err(io("read", &core))?;
    let boot = files["boot.img"].read().map_err(io("read", Path::new("boot.img")))?;
    patch(&boot, core)
}

/// Writes the places on the disk into boot code and core image, as `grub-bios-setup` does.
fn patch(boot: &[u8], mut core: Vec<u8>) -> Result<BiosLoader, BiosError> {
    let layout = |image, reason: &str| BiosError::Layout { image, reason: reason.to_owned() };
    if boot.len() != 512 || boot[510..] != [0x55, 0xaa] {
        return Err(layout("boot.img", "not a boot sector"));
    }
    if boot[BOOT_KERNEL_SECTOR..BOOT_KERNEL_SECTOR + 8] != 1_u64.to_le_bytes() {
        return Err(layout("boot.img", "no block number at offset 0x5c"));
    }
    if boot[BOOT_DRIVE_CHECK..BOOT_DRIVE_CHECK + 2] != BOOT_DRIVE_CHECK_JUMP {
        return Err(layout("boot.img", "no drive check at offset 0x66"));
    }
    let mut boot_code = [0; BOOT_CODE];
    boot_code.copy_from_slice(&boot[..BOOT_CODE]);
    boot_code[BOOT_KERNEL_SECTOR..BOOT_KERNEL_SECTOR + 8].copy_from_slice(&CORE_LBA.to_le_bytes());
    boot_code[BOOT_DRIVE_CHECK..BOOT_DRIVE_CHECK + 2].fill(0x90); // two nops

    core.resize(core.len().next_multiple_of(SECTOR as usize), 0);
    let blocks = core.len() / SECTOR as usize;
    if blocks < 2 {
        return Err(layout("diskboot.img", "no core image behind it"));
    }
    let list = &mut core[DISKBOOT_BLOCK_LIST..DISKBOOT_BLOCK_LIST + 12];
    let length = u16::from_le_bytes([list[8], list[9]]);
    if usize::from(length) != blocks - 1 {
        let reason = format!("a block list of {length} blocks, the core image has {}", blocks - 1);
        return Err(layout("diskboot.img", &reason));
    }
    list[..8].copy_from_slice(&(CORE_LBA + 1).to_le_bytes());
    Ok(BiosLoader { boot_code, core })
}

/// Bytes between [`CORE_LBA`] and the first partition, for a first partition at `first`, bytes.
pub fn check_room(core: &[u8], first: u64) -> Result<(), BiosError> {
    let room = first.saturating_sub(CORE_LBA * u64::from(SECTOR)) as usize;
    if core.len() > room {
        return Err(BiosError::TooLarge { size: core.len(), room });
    }
    Ok(())
}

/// GRUB's configuration for one slot: `uki` at `path` (without a leading slash) on the ESP.
///
/// The kernel gets the same arguments as under UEFI, with `BOOT_IMAGE=…` in front, which GRUB adds.
/// Arguments went through [`super::uki::check_command_line`], so single quotes hold them.
pub fn config(uki: &Uki, path: &str) -> Result<String, BiosError> {
    let block_list = |name: &'static str| {
        let section = uki.section(name).ok_or(BiosError::NoSection { name })?;
        Ok::<_, BiosError>(format!("(slot){}+{}", section.file_offset / SECTOR, section.file_size / SECTOR))
    };
    let (kernel, initramfs) = (block_list(".linux")?, block_list(".initrd")?);
    let command_line = uki.contents(".cmdline").ok_or(BiosError::NoSection { name: ".cmdline" })?;
    let command_line = String::from_utf8_lossy(command_line);
    let mut arguments = String::new();
    for argument in command_line.split_ascii_whitespace() {
        arguments.push_str(&format!(" '{argument}'"));
    }
    // A second attempt, because GRUB's own words on the first, which are the reason, went to the screen alone.
    let again = serial_console(&command_line).map_or_else(String::new, |(unit, speed)| {
        format!("serial --unit={unit} --speed={speed}\nterminal_output serial console\nstart\n")
    });
    Ok(format!(
        "# Written with the slot's UKI: the numbers are sectors of its sections.\n\
         function start {{\n\
         \x20 if loopback slot /{path}; then\n\
         \x20   if linux {kernel}{arguments}; then\n\
         \x20     if initrd {initramfs}; then\n\
         \x20       boot\n\
         \x20     fi\n\
         \x20   fi\n\
         \x20 fi\n\
         }}\n\
         start\n\
         {again}\
         echo\n\
         echo 'bootwright: the BIOS loader cannot start this machine.'\n\
         echo '  what: /{path} on partition 1 (ESP) of this disk'\n\
         echo '   why: the error above'\n\
         echo '  next: write partition 1 of the image that is on this disk to its partition 1,'\n\
         echo '        which keeps the data of the node, or the whole image, which does not;'\n\
         echo '        the machine restarts in 60 s'\n\
         sleep 60\n\
         reboot\n"
    ))
}

/// Port number and bits per second of the serial line that the kernel was given last as a console, if it is one
/// of the four that GRUB knows: `console=ttyS1,115200n8` (the kernel's `serial-console.rst`).
fn serial_console(command_line: &str) -> Option<(u8, u32)> {
    let value = command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("console=ttyS"))
        .next_back()?;
    let (unit, mode) = value.split_once(',').unwrap_or((value, ""));
    let digits = mode.find(|c: char| !c.is_ascii_digit()).unwrap_or(mode.len());
    // 9600 is what the kernel takes when nothing is said.
    let speed = mode[..digits].parse().unwrap_or(9600);
    unit.parse().ok().filter(|unit| *unit < 4).map(|unit| (unit, speed))
}

#[cfg(test)]
#[path = "bios_tests.rs"]
pub(super) mod tests;
