use std::io::{Cursor, Read as _};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::rootfs::tree::Content;

fn entry(kind: Kind, mode: u32) -> Entry {
    Entry { kind, mode, uid: 0, gid: 0, capability: None, origin: Arc::from("test") }
}

fn file(bytes: &[u8]) -> Kind {
    Kind::File(Content::Bytes(Arc::from(bytes)))
}

fn tree(entries: impl IntoIterator<Item = (&'static str, Entry)>) -> RootTree {
    RootTree { entries: entries.into_iter().map(|(path, entry)| (path.to_owned(), entry)).collect() }
}

fn sample() -> RootTree {
    tree([
        ("/init", entry(file(b"\x7fELF"), 0o755)),
        ("/dev", entry(Kind::Folder, 0o755)),
        ("/dev/console", entry(Kind::Character(5, 1), 0o600)),
        ("/lib", entry(Kind::Link("usr/lib".to_owned()), 0o777)),
        ("/bootwright/cluster/cluster.json", entry(file(b"{}"), 0o600)),
    ])
}

/// What cpio(1) lists, numbers and blanks as they are.
fn listed(archive: &[u8]) -> String {
    let mut cpio = Command::new("cpio")
        .args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"])
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cpio (package cpio) runs");
    cpio.stdin.take().unwrap().write_all(archive).unwrap();
    let done = cpio.wait_with_output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn cpio_lists_what_the_tree_holds() {
    let archive = segment(&sample(), 1_700_000_000, Packing::Plain).unwrap();
    assert_eq!(archive.len() % 4, 0);
    insta::assert_snapshot!(listed(&archive), @r#"
    drwxr-xr-x   2 0        0               0 Nov 14  2023 bootwright
    drwxr-xr-x   2 0        0               0 Nov 14  2023 bootwright/cluster
    -rw-------   1 0        0               2 Nov 14  2023 bootwright/cluster/cluster.json
    drwxr-xr-x   2 0        0               0 Nov 14  2023 dev
    crw-------   1 0        0          5,   1 Nov 14  2023 dev/console
    -rwxr-xr-x   1 0        0               4 Nov 14  2023 init
    lrwxrwxrwx   1 0        0               7 Nov 14  2023 lib -> usr/lib
    "#);
}

#[test]
fn a_compressed_segment_holds_the_same_archive() {
    let plain = segment(&sample(), 7, Packing::Plain).unwrap();
    let packed = segment(&sample(), 7, Packing::Zstd(9)).unwrap();
    assert_eq!(zstd::decode_all(&packed[..]).unwrap(), plain);
    assert_eq!(packed, segment(&sample(), 7, Packing::Zstd(9)).unwrap());
}

#[test]
fn inode_numbers_differ() {
    let archive = segment(&sample(), 0, Packing::Plain).unwrap();
    let mut inodes: Vec<_> = read_back(&archive).into_iter().map(|(_, inode, ..)| inode).collect();
    let count = inodes.len();
    inodes.sort_unstable();
    inodes.dedup();
    assert_eq!(inodes.len(), count);
}

#[test]
fn what_cannot_be_held_is_refused() {
    let mut ping = entry(file(b""), 0o755);
    ping.capability = Some(vec![1]);
    let error = segment(&tree([("/usr/bin/ping", ping)]), 0, Packing::Plain).unwrap_err();
    insta::assert_snapshot!(error, @"/usr/bin/ping has file capabilities, which an initramfs cannot hold: leave it out of the initramfs");

    let huge = Content::Range { path: "/dev/zero".into(), offset: 0, length: 1 << 32, source: Arc::from("") };
    let error = segment(&tree([("/huge", entry(Kind::File(huge), 0o644))]), 0, Packing::Plain).unwrap_err();
    assert!(matches!(error, InitramfsError::TooLarge { size: 0x1_0000_0000, .. }));

    let error = segment(&sample(), 1 << 32, Packing::Plain).unwrap_err();
    assert!(matches!(error, InitramfsError::Epoch { .. }));
}

#[test]
fn a_file_that_shrank_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("module");
    std::fs::write(&path, "short").unwrap();
    let content = Content::Range { path, offset: 0, length: 100, source: Arc::from("") };
    let error =
        segment(&tree([("/m.ko", entry(Kind::File(content), 0o644))]), 0, Packing::Plain).unwrap_err();
    assert!(error.to_string().starts_with("cannot put /m.ko into the initramfs"), "{error}");
}

/// Path, inode, mode, device numbers and contents.
type ReadBack = (String, u32, u32, (u32, u32), Vec<u8>);

fn read_back(archive: &[u8]) -> Vec<ReadBack> {
    let mut input = Cursor::new(archive);
    let mut entries = Vec::new();
    loop {
        assert_eq!(input.position() % 4, 0, "a header lies at a multiple of 4");
        let mut reader = newc::Reader::new(input).unwrap();
        if reader.entry().is_trailer() {
            return entries;
        }
        let mut contents = Vec::new();
        reader.read_to_end(&mut contents).unwrap();
        let entry = reader.entry();
        let device = (entry.rdev_major(), entry.rdev_minor());
        entries.push((format!("/{}", entry.name()), entry.ino(), entry.mode(), device, contents));
        input = reader.finish().unwrap();
    }
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Folder),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| file(&bytes)),
        "[a-z/.]{1,20}".prop_map(Kind::Link),
        (0_u32..300, 0_u32..300).prop_map(|(major, minor)| Kind::Character(major, minor)),
    ]
}

proptest! {
    #[test]
    fn every_tree_comes_back_with_its_parents_first(
        entries in prop::collection::btree_map("(/[a-c.-]{1,5}){1,3}", (any_kind(), 0_u32..0o10000), 0..12),
    ) {
        let tree = RootTree {
            entries: entries.into_iter().map(|(path, (kind, mode))| (path, entry(kind, mode))).collect(),
        };
        let archive = segment(&tree, 1, Packing::Plain).unwrap();
        let read = read_back(&archive);
        let mut seen = std::collections::BTreeSet::from([String::new()]);
        for (path, _, mode, device, contents) in &read {
            let parent = &path[..path.rfind('/').unwrap()];
            prop_assert!(seen.contains(parent), "{} comes before its folder", path);
            prop_assert!(seen.insert(path.clone()), "{} twice", path);
            let Some(wanted) = tree.entries.get(path) else {
                prop_assert_eq!(*mode, 0o040_755);
                continue;
            };
            prop_assert_eq!(mode & 0o7777, wanted.mode);
            let (kind, bytes, numbers) = match &wanted.kind {
                Kind::Folder => (0o04, Vec::new(), (0, 0)),
                Kind::File(content) => (0o10, content.read().unwrap(), (0, 0)),
                Kind::Link(target) => (0o12, target.clone().into_bytes(), (0, 0)),
                Kind::Character(major, minor) => (0o02, Vec::new(), (*major, *minor)),
            };
            prop_assert_eq!(mode >> 12, kind);
            prop_assert_eq!(contents, &bytes);
            prop_assert_eq!(*device, numbers);
        }
        prop_assert!(tree.entries.keys().all(|path| seen.contains(path)));
    }
}
