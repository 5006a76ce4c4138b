use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use proptest::prelude::*;

use super::*;

const ROOT_HASH: &str = "00112233445566778899aabbccddeeff0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// Files of the OS layer, and a filesystem with a hole in it.
struct Inputs {
    folder: tempfile::TempDir,
    esp: Vec<u8>,
    seed: Vec<u8>,
    root_size: u64,
    loader: BiosLoader,
}

impl Inputs {
    fn new(root_size: u64) -> Inputs {
        let folder = tempfile::tempdir().unwrap();
        let root: Vec<u8> = (0..root_size).map(|at| (at % 251) as u8).collect();
        std::fs::write(folder.path().join("root"), root).unwrap();
        std::fs::write(folder.path().join("verity"), [0x22; 8192]).unwrap();
        let mut esp = vec![0; 40 << 20];
        esp[..1000].fill(0xe5);
        esp[39 << 20..(39 << 20) + 10].fill(0xe6);
        let loader = BiosLoader { boot_code: [0xb0; 440], core: vec![0xc0; 4096] };
        Inputs { folder, esp, seed: vec![0x5e; 8 << 20], root_size, loader }
    }

    fn write(&self, sector_size: SectorSize, out: &Path) -> Result<DiskSummary, DiskError> {
        let (root, verity) = (self.folder.path().join("root"), self.folder.path().join("verity"));
        let spec = DiskSpec {
            guid: Uuid::from_u128(42),
            sector_size,
            esp: &self.esp,
            root: Part { path: &root, size: self.root_size },
            verity: Part { path: &verity, size: 8192 },
            root_hash: ROOT_HASH,
            seed: &self.seed,
            bios: (sector_size == SectorSize::S512).then_some(&self.loader),
        };
        assemble(&spec, out)
    }
}

fn text_of(program: &str, arguments: &[&str], path: &Path) -> String {
    let done = Command::new(program).args(arguments).arg(path).env("LC_ALL", "C").output();
    let done = done.unwrap_or_else(|error| panic!("{program} must run: {error}"));
    let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{program}: {text}");
    text
}

#[test]
fn sgdisk_and_sfdisk_are_content_and_see_the_layout() {
    let inputs = Inputs::new(3_000_000 / 4096 * 4096);
    let out = inputs.folder.path().join("disk.raw");
    let summary = inputs.write(SectorSize::S512, &out).unwrap();
    let text = text_of("sgdisk", &["--verify"], &out);
    assert!(text.contains("No problems found"), "{text}");
    let text = text_of("sfdisk", &["--verify"], &out);
    assert!(text.contains("No errors detected"), "{text}");
    let dump = text_of("sfdisk", &["--dump"], &out).replace(&out.display().to_string(), "disk");
    insta::assert_snapshot!(dump, @r#"
    label: gpt
    label-id: 00000000-0000-0000-0000-00000000002A
    device: disk
    unit: sectors
    first-lba: 2048
    last-lba: 110558
    sector-size: 512

    disk1 : start=        2048, size=       81920, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=1B1E6124-92E1-52AC-800F-B942DD579D4F, name="ESP"
    disk2 : start=       83968, size=        6144, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid=00112233-4455-6677-8899-AABBCCDDEEFF, name="root-a", attrs="GUID:60"
    disk3 : start=       90112, size=        2048, type=2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5, uuid=0F1E2D3C-4B5A-6978-8796-A5B4C3D2E1F0, name="verity-a", attrs="GUID:60"
    disk4 : start=       92160, size=       16384, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=F9934985-75AB-5714-BDC6-3D73D7BF25B4, name="SEED"
    "#);
    assert_eq!(summary.size, std::fs::metadata(&out).unwrap().len());
    assert_eq!(summary.partitions.len(), 4);
}

#[test]
fn everything_is_where_the_table_says_and_the_rest_is_zero() {
    let inputs = Inputs::new(5 << 20);
    let out = inputs.folder.path().join("disk.raw");
    let summary = inputs.write(SectorSize::S512, &out).unwrap();
    let bytes = std::fs::read(&out).unwrap();
    let [esp, root, verity, seed] = &summary.partitions[..] else { panic!("four partitions") };
    let part = |partition: &PlacedPartition, length: usize| {
        &bytes[partition.offset as usize..partition.offset as usize + length]
    };
    assert!(part(esp, inputs.esp.len()) == inputs.esp);
    assert!(part(seed, inputs.seed.len()) == inputs.seed);
    assert!(part(root, 5 << 20) == std::fs::read(inputs.folder.path().join("root")).unwrap());
    assert_eq!(part(verity, 8192), [0x22; 8192]);
    assert_eq!(bytes[..440], [0xb0; 440]);
    assert_eq!(bytes[510..512], [0x55, 0xaa]);
    let core = bios::CORE_LBA as usize * 512;
    assert_eq!(bytes[core..core + 4096], [0xc0; 4096]);
    assert!(bytes[core + 4096..1 << 20].iter().all(|byte| *byte == 0));
    assert!(bytes[34 * 512..core].iter().all(|byte| *byte == 0));
}

#[test]
fn empty_space_takes_none_on_the_build_machine() {
    let inputs = Inputs::new(1 << 20);
    let out = inputs.folder.path().join("disk.raw");
    let summary = inputs.write(SectorSize::S512, &out).unwrap();
    // 40 MiB of ESP hold two blocks: seed, root and table remain.
    assert!(summary.allocated < 12 << 20, "{} bytes", summary.allocated);
    assert!(summary.size > 50 << 20);
}

#[test]
fn the_same_twice_readable_by_the_owner_alone_and_nothing_left_behind() {
    let inputs = Inputs::new(1 << 20);
    let (once, twice) = (inputs.folder.path().join("a/once.raw"), inputs.folder.path().join("b/twice.raw"));
    inputs.write(SectorSize::S512, &once).unwrap();
    inputs.write(SectorSize::S512, &twice).unwrap();
    inputs.write(SectorSize::S512, &twice).unwrap();
    assert!(std::fs::read(&once).unwrap() == std::fs::read(&twice).unwrap());
    assert_eq!(std::fs::metadata(&once).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(twice.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn sectors_of_4096_bytes_give_a_table_that_the_crate_reads_back() {
    let inputs = Inputs::new(1 << 20);
    let out = inputs.folder.path().join("disk.raw");
    let summary = inputs.write(SectorSize::S4096, &out).unwrap();
    let table = gpt::GptConfig::new()
        .logical_block_size(LogicalBlockSize::Lb4096)
        .only_valid_headers(true)
        .open(&out)
        .unwrap();
    assert_eq!(table.header().first_usable, 256);
    for partition in &summary.partitions {
        let read = &table.partitions()[&partition.number];
        assert_eq!(read.first_lba * 4096, partition.offset);
        assert_eq!((read.last_lba + 1) * 4096, partition.offset + partition.size);
        assert_eq!(read.part_guid, partition.guid);
    }
    let bytes = std::fs::read(&out).unwrap();
    assert_eq!(bytes[..440], REFUSAL, "a BIOS cannot boot from such a disk, and says so");
}

#[test]
fn what_is_wrong_is_said_and_no_file_is_left() {
    let inputs = Inputs::new(1 << 20);
    let out = inputs.folder.path().join("out/disk.raw");
    std::fs::write(inputs.folder.path().join("verity"), [0; 4096]).unwrap();
    let error = inputs.write(SectorSize::S512, &out).unwrap_err();
    assert!(
        error.to_string().ends_with(
            "verity has 4096 bytes, 8192 were recorded: delete its folder in the cache and build again"
        ),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(out.parent().unwrap()).unwrap().count(), 0);

    let (root, verity) = (inputs.folder.path().join("root"), inputs.folder.path().join("verity"));
    let spec = DiskSpec {
        guid: Uuid::nil(),
        sector_size: SectorSize::S4096,
        esp: &inputs.esp,
        root: Part { path: &root, size: 1 << 20 },
        verity: Part { path: &verity, size: 4096 },
        root_hash: "12",
        seed: &inputs.seed,
        bios: Some(&inputs.loader),
    };
    insta::assert_snapshot!(assemble(&spec, &out).unwrap_err(), @"a disk with sectors of 4096 bytes cannot be booted by a BIOS: leave the BIOS loader out");
    insta::assert_snapshot!(assemble(&DiskSpec { bios: None, ..spec }, &out).unwrap_err(), @"`12` is not a root hash of 64 hexadecimal digits");
    let large = BiosLoader { boot_code: [0; 440], core: vec![0; 1 << 20] };
    let spec = DiskSpec { sector_size: SectorSize::S512, bios: Some(&large), root_hash: ROOT_HASH, ..spec };
    insta::assert_snapshot!(assemble(&spec, &out).unwrap_err(), @"GRUB's core image has 1048576 bytes, 1015808 fit before the first partition");
}

#[test]
fn guids_are_the_halves_of_the_root_hash() {
    let (root, verity) = guids_of_root_hash(ROOT_HASH).unwrap();
    assert_eq!(root.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    assert_eq!(verity.to_string(), "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0");
}

#[test]
fn an_ordinary_copy_gives_the_same_as_the_kernels() {
    // /dev/shm is another filesystem than the folder of temporary files, so copy_file_range may refuse.
    let inputs = Inputs::new(2 << 20);
    let there = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = there.path().join("root");
    std::fs::copy(inputs.folder.path().join("root"), &path).unwrap();
    let mut disk = tempfile::tempfile().unwrap();
    copy(Part { path: &path, size: 2 << 20 }, &mut disk, 4096).unwrap();
    let mut read = vec![0; 2 << 20];
    disk.read_exact_at(&mut read, 4096).unwrap();
    assert!(read == std::fs::read(&path).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sparse_writing_loses_nothing(blocks in prop::collection::vec((0_u8..3, 1_usize..6000), 0..12), offset in 0_u64..10_000) {
        let bytes: Vec<u8> = blocks.iter().flat_map(|(value, length)| vec![*value; *length]).collect();
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(offset + bytes.len() as u64).unwrap();
        write_sparse(&disk, &bytes, offset).unwrap();
        let mut read = vec![0; bytes.len()];
        disk.read_exact_at(&mut read, offset).unwrap();
        prop_assert_eq!(read, bytes);
    }

    #[test]
    fn partitions_are_aligned_follow_each_other_and_end_before_the_backup_table(
        esp in 1_usize..100, root in 1_u64..1 << 40, verity in 1_u64..1 << 33, seed in 1_usize..20,
    ) {
        let (esp, seed) = (vec![0; esp << 20], vec![0; seed << 19]);
        let spec = DiskSpec {
            guid: Uuid::nil(),
            sector_size: SectorSize::S512,
            esp: &esp,
            root: Part { path: Path::new("/none"), size: root },
            verity: Part { path: Path::new("/none"), size: verity },
            root_hash: ROOT_HASH,
            seed: &seed,
            bios: None,
        };
        let (partitions, size) = place(&spec).unwrap();
        let mut end = ALIGNMENT;
        for (number, partition) in (1..).zip(&partitions) {
            prop_assert_eq!(partition.number, number);
            prop_assert_eq!(partition.offset, end);
            prop_assert_eq!(partition.offset % ALIGNMENT, 0);
            end = partition.offset + partition.size;
        }
        prop_assert!(partitions[1].size >= root && partitions[1].size < root + ALIGNMENT);
        prop_assert!(size - end >= 33 * 4096);
    }
}
