//! The EFI system partition: systemd-boot, the slot's UKI, and what the BIOS loader reads.
//!
//! FAT32 even when small, as the UEFI specification (13.3) wants it for a fixed disk. Layout as of the UAPI
//! Group's "Boot Loader Specification": UKIs in `EFI/Linux`, `loader/loader.conf`.

use fatfs::FatType;
use model::layout::ESP_LABEL;

use super::disk::SectorSize;
use super::fat::{self, FatError, FatSpec};

use bootwright_model as model;

/// Clusters from which on a filesystem is FAT32 (fatgen103), and some to spare for rounding.
const FAT32_CLUSTERS: u64 = 65_525 + 64;
const MIB: u64 = 1 << 20;

/// `loader/loader.conf`: no wait unless a key is held, and nobody edits the command line.
const LOADER_CONF: &str = "timeout 0\neditor no\n";

/// What goes onto the ESP.
#[derive(Debug, Clone, Copy)]
pub struct EspSpec<'a> {
    /// `systemd-bootx64.efi`.
    pub systemd_boot: &'a [u8],
    /// File name of the UKI with `.efi`.
    pub uki_name: &'a str,
    /// The UKI.
    pub uki: &'a [u8],
    /// Configuration of the BIOS loader, [`super::bios::CONFIG_PATH`]; none on disks that no BIOS boots.
    pub bios_config: Option<&'a str>,
    /// Volume serial number.
    pub volume_id: u32,
    /// Sectors of the disk.
    pub sector_size: SectorSize,
}

/// Path of a UKI on the ESP.
pub fn uki_path(name: &str) -> String {
    format!("EFI/Linux/{name}")
}

/// Makes the filesystem; its length is a whole number of MiB.
pub fn image(spec: &EspSpec<'_>) -> Result<Vec<u8>, FatError> {
    let uki_path = uki_path(spec.uki_name);
    // The large files last and in one piece each.
    let mut files: Vec<(&str, &[u8])> = vec![("loader/loader.conf", LOADER_CONF.as_bytes())];
    if let Some(config) = spec.bios_config {
        files.push((super::bios::CONFIG_PATH, config.as_bytes()));
    }
    files.push(("EFI/BOOT/BOOTX64.EFI", spec.systemd_boot));
    files.push((&uki_path, spec.uki));
    fat::image(&FatSpec {
        label: ESP_LABEL,
        volume_id: spec.volume_id,
        size: size(spec),
        sector_size: spec.sector_size,
        cluster: Some(spec.sector_size.bytes() as u32),
        fat_type: Some(FatType::Fat32),
        files: &files,
    })
}

/// Bytes: both slots' UKIs, the second a quarter larger than this one, and the loader; at least FAT32's minimum.
fn size(spec: &EspSpec<'_>) -> u64 {
    let cluster = spec.sector_size.bytes();
    let uki = spec.uki.len() as u64;
    let contents = uki + uki * 5 / 4 + spec.systemd_boot.len() as u64 * 2 + MIB;
    let clusters = contents.div_ceil(cluster).max(FAT32_CLUSTERS);
    // Two tables of 4 bytes per cluster; reserved sectors.
    (clusters * (cluster + 8) + 64 * cluster).next_multiple_of(MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(uki: &[u8]) -> EspSpec<'_> {
        EspSpec {
            systemd_boot: &[0xb0; 140_000],
            uki_name: "all-in-one.efi",
            uki,
            bios_config: Some("boot\n"),
            volume_id: 7,
            sector_size: SectorSize::S512,
        }
    }

    fn read(bytes: &mut [u8], path: &str) -> Vec<u8> {
        use std::io::Read as _;
        let filesystem =
            fatfs::FileSystem::new(std::io::Cursor::new(bytes), fatfs::FsOptions::new()).unwrap();
        assert_eq!(filesystem.fat_type(), FatType::Fat32);
        let mut contents = Vec::new();
        filesystem.root_dir().open_file(path).unwrap().read_to_end(&mut contents).unwrap();
        contents
    }

    #[test]
    fn a_small_one_is_fat32_still() {
        for sector_size in [SectorSize::S512, SectorSize::S4096] {
            let mut bytes = image(&EspSpec { sector_size, ..spec(b"small") }).unwrap();
            assert_eq!(bytes.len() as u64 % MIB, 0);
            assert_eq!(read(&mut bytes, "EFI/Linux/all-in-one.efi"), b"small");
            assert_eq!(read(&mut bytes, "loader/loader.conf"), b"timeout 0\neditor no\n");
            assert_eq!(read(&mut bytes, "EFI/BOOT/BOOTX64.EFI").len(), 140_000);
        }
    }

    #[test]
    fn a_second_slot_a_quarter_larger_fits() {
        let uki = vec![0x77; 30_000_000];
        let mut bytes = image(&spec(&uki)).unwrap();
        let second = vec![0x88; 37_500_000];
        {
            use std::io::Write as _;
            let filesystem =
                fatfs::FileSystem::new(std::io::Cursor::new(&mut bytes[..]), fatfs::FsOptions::new())
                    .unwrap();
            let mut file = filesystem.root_dir().create_file("EFI/Linux/b.efi").unwrap();
            file.write_all(&second).unwrap();
        }
        assert!(read(&mut bytes, "EFI/Linux/b.efi") == second);
        assert!(read(&mut bytes, "EFI/Linux/all-in-one.efi") == uki);
    }

    #[test]
    fn without_a_bios_there_is_no_configuration_for_it() {
        let mut bytes = image(&EspSpec { bios_config: None, ..spec(b"u") }).unwrap();
        let filesystem =
            fatfs::FileSystem::new(std::io::Cursor::new(&mut bytes[..]), fatfs::FsOptions::new()).unwrap();
        let names: Vec<_> = filesystem
            .root_dir()
            .open_dir("loader")
            .unwrap()
            .iter()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, [".", "..", "loader.conf"]);
    }
}
