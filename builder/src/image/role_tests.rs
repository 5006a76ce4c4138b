use std::io::{Cursor, Read as _};
use std::os::unix::fs::FileExt as _;

use super::*;
use crate::image::layer::LayerFacts;
use crate::image::small_stub;
use crate::progress::Silent;
use crate::rootfs::tree::Entry;

const ROOT_HASH: &str = "00112233445566778899aabbccddeeff0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// A layer that no tool made.
fn layer(folder: &Path) -> OsLayer {
    let mut files = std::collections::BTreeMap::new();
    let mut put = |name: &str, bytes: Vec<u8>| {
        files.insert(name.to_owned(), bytes.len() as u64);
        std::fs::write(folder.join(name), bytes).unwrap();
    };
    put("root.squashfs", vec![0x11; 1 << 20]);
    put("root.verity", vec![0x22; 8192]);
    put("initramfs.cpio.zst", b"compressed".to_vec());
    put("vmlinuz", vec![0x4b; 3_000_000]);
    put("linuxx64.efi.stub", small_stub(5));
    put("systemd-bootx64.efi", vec![0xb0; 1000]);
    put("bios-boot.img", vec![0xb1; 440]);
    put("bios-core.img", vec![0xc0; 2048]);
    let facts = LayerFacts {
        format: 1,
        root_hash: ROOT_HASH.to_owned(),
        kernel_release: "6.1.0-test".to_owned(),
        firmware: None,
        files,
    };
    OsLayer { folder: folder.to_owned(), digest: "0".repeat(64), facts }
}

fn cluster_layer(json: &str) -> RootTree {
    let mut tree = RootTree::default();
    tree.insert("/bootwright/cluster/cluster.json", Entry::file(json, 0o600, &"test".into())).unwrap();
    tree
}

fn image<'a>(tree: &'a RootTree, command_line: &'a [String]) -> RoleImage<'a> {
    RoleImage {
        name: "all-in-one",
        title: "harbor all-in-one",
        version: "1.20.2",
        command_line,
        cluster_layer: tree,
        seed: None,
        sector_size: SectorSize::S512,
        epoch: 1_700_000_000,
    }
}

/// A file of the FAT filesystem in a partition.
fn read(disk: &Path, partition: &disk::PlacedPartition, path: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0; partition.size as usize];
    std::fs::File::open(disk).unwrap().read_exact_at(&mut bytes, partition.offset).unwrap();
    let filesystem = fatfs::FileSystem::new(Cursor::new(bytes), fatfs::FsOptions::new()).unwrap();
    let mut contents = Vec::new();
    filesystem.root_dir().open_file(path).ok()?.read_to_end(&mut contents).unwrap();
    Some(contents)
}

#[test]
fn both_loaders_get_the_same_slot_and_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let layer = layer(folder.path());
    let out = folder.path().join("disk.raw");
    let (tree, arguments) = (cluster_layer("{}"), ["console=ttyS0".to_owned(), "a  b".to_owned()]);
    let summary = write(&layer, &image(&tree, &arguments), &out, &Silent).unwrap();
    let esp = &summary.partitions[0];

    let uki = uki(&layer, &image(&tree, &arguments)).unwrap();
    let line = format!("roothash={ROOT_HASH} console=ttyS0 a b");
    assert_eq!(uki.contents(".cmdline").unwrap(), line.as_bytes());
    assert!(read(&out, esp, "EFI/Linux/all-in-one.efi").unwrap() == uki.bytes);

    let config = String::from_utf8(read(&out, esp, "loader/bios/grub.cfg").unwrap()).unwrap();
    let kernel = uki.section(".linux").unwrap();
    let quoted = format!("'roothash={ROOT_HASH}' 'console=ttyS0' 'a' 'b'; then");
    assert!(config.contains(&format!("linux (slot){}+", kernel.file_offset / 512)), "{config}");
    assert!(config.contains(&quoted), "{config}");
    assert!(config.starts_with("# Written") && config.contains("loopback slot /EFI/Linux/all-in-one.efi"));
}

#[test]
fn the_second_segment_is_the_cluster_layer_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let tree = cluster_layer("{\"role\":1}");
    let uki = uki(&layer(folder.path()), &image(&tree, &[])).unwrap();
    let initramfs = uki.contents(".initrd").unwrap();
    let plain = initramfs::segment(&tree, 1_700_000_000, Packing::Plain).unwrap();
    assert_eq!(initramfs[..10], *b"compressed");
    assert_eq!(initramfs[12..], plain);
}

#[test]
fn guids_follow_the_contents_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let layer = layer(folder.path());
    let bytes = |tree: &RootTree, seed, name: &str| {
        let out = folder.path().join(name);
        let summary = write(&layer, &RoleImage { seed, ..image(tree, &[]) }, &out, &Silent).unwrap();
        (std::fs::read(out).unwrap(), summary.partitions[0].guid)
    };
    let once = bytes(&cluster_layer("{}"), None, "a.raw");
    assert!(once == bytes(&cluster_layer("{}"), None, "b.raw"));
    assert_ne!(once.1, bytes(&cluster_layer("{ }"), None, "c.raw").1);
    assert_ne!(once.1, bytes(&cluster_layer("{}"), Some(b"name = \"cp1\"\n"), "d.raw").1);
}

#[test]
fn the_seed_is_empty_or_has_the_nodes_file() {
    let folder = tempfile::tempdir().unwrap();
    let layer = layer(folder.path());
    let (out, tree) = (folder.path().join("disk.raw"), cluster_layer("{}"));
    let summary = write(&layer, &image(&tree, &[]), &out, &Silent).unwrap();
    assert_eq!(read(&out, &summary.partitions[3], "node.toml"), None);
    let seed: &[u8] = b"name = \"cp1\"\n";
    let summary = write(&layer, &RoleImage { seed: Some(seed), ..image(&tree, &[]) }, &out, &Silent).unwrap();
    assert_eq!(read(&out, &summary.partitions[3], "node.toml").unwrap(), seed);
}

#[test]
fn a_disk_of_large_sectors_has_no_bios_loader() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("disk.raw");
    let tree = cluster_layer("{}");
    let spec = RoleImage { sector_size: SectorSize::S4096, ..image(&tree, &[]) };
    let summary = write(&layer(folder.path()), &spec, &out, &Silent).unwrap();
    assert_eq!(read(&out, &summary.partitions[0], "loader/bios/grub.cfg"), None);
    assert!(read(&out, &summary.partitions[0], "EFI/Linux/all-in-one.efi").is_some());
}

#[test]
fn what_would_not_boot_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let layer = layer(folder.path());
    let tree = cluster_layer("{}");
    let refused = |spec: &RoleImage<'_>| uki(&layer, spec).unwrap_err().to_string();
    let arguments = ["roothash=12".to_owned()];
    insta::assert_snapshot!(refused(&image(&tree, &arguments)), @"the kernel argument `roothash=12` is set by the builder: remove it from `command-line`");
    insta::assert_snapshot!(refused(&RoleImage { name: "../x", ..image(&tree, &[]) }), @"`../x` cannot name an image: use letters, digits, `-`, `_`, `.` and `+`, at most 64");
    insta::assert_snapshot!(refused(&RoleImage { title: "a\nb", ..image(&tree, &[]) }), @r#""a\nb" cannot stand in os-release: leave out quotes, `$`, backslashes and control characters"#);
    let arguments = ["x='y'".to_owned()];
    assert!(refused(&image(&tree, &arguments)).starts_with("kernel argument \"x='y'\" holds"));
}
