use super::*;
use crate::image::{bios_files_installed, small_stub};
use crate::progress::Silent;
use crate::rootfs::tree::Entry;

const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Trees and loaders of a small layer.
struct Sample {
    tree: RootTree,
    initramfs: RootTree,
    kernel: Content,
    stub: Content,
    grub: BTreeMap<String, Content>,
}

impl Sample {
    fn new() -> Sample {
        let origin = "test".into();
        let mut tree = RootTree::default();
        tree.insert("/usr/bin/tool", Entry::file(vec![7; 100_000], 0o755, &origin)).unwrap();
        let mut initramfs = RootTree::default();
        initramfs.insert("/init", Entry::file(*b"\x7fELF", 0o755, &origin)).unwrap();
        Sample {
            tree,
            initramfs,
            kernel: Content::bytes(vec![0x4b; 5000]),
            stub: Content::bytes(small_stub(5)),
            grub: bios_files_installed(),
        }
    }

    fn inputs(&self) -> OsInputs<'_> {
        OsInputs {
            digest: DIGEST,
            tree: &self.tree,
            initramfs: &self.initramfs,
            microcode: None,
            firmware: None,
            kernel: &self.kernel,
            kernel_release: "6.1.0-test",
            stub: &self.stub,
            systemd_boot: &self.stub,
            grub: &self.grub,
            epoch: 1_700_000_000,
        }
    }
}

/// Name and contents of every file of a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()))
        .collect()
}

#[test]
fn a_layer_is_found_again_and_the_same_in_another_cache() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sample = Sample::new();
    assert_eq!(cached(first.path(), DIGEST).unwrap(), None);
    let layer = build(first.path(), &sample.inputs(), &Silent).unwrap();
    assert_eq!(cached(first.path(), DIGEST).unwrap(), Some(layer.clone()));
    assert_eq!(build(first.path(), &sample.inputs(), &Silent).unwrap(), layer);

    let other = build(second.path(), &sample.inputs(), &Silent).unwrap();
    assert!(contents(&layer.folder) == contents(&other.folder));
    assert_eq!(contents(&first.path().join("layers").join(format!("{DIGEST}-{FORMAT}"))).len(), 9);
    assert_eq!(std::fs::read_dir(first.path().join("layers")).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn veritysetup_accepts_root_and_tree() {
    let cache = tempfile::tempdir().unwrap();
    let layer = build(cache.path(), &Sample::new().inputs(), &Silent).unwrap();
    let done = std::process::Command::new("veritysetup")
        .arg("verify")
        .args([layer.squashfs(), layer.verity()])
        .arg(&layer.facts.root_hash)
        .output()
        .expect("veritysetup (package cryptsetup-bin) runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_damaged_layer_says_which_folder_to_delete() {
    let cache = tempfile::tempdir().unwrap();
    let layer = build(cache.path(), &Sample::new().inputs(), &Silent).unwrap();
    std::fs::write(layer.squashfs(), "short").unwrap();
    let error = cached(cache.path(), DIGEST).unwrap_err().to_string();
    assert!(error.contains("root.squashfs has 5 bytes instead of"), "{error}");
    assert!(error.ends_with("delete this folder and build again"), "{error}");
    std::fs::write(layer.folder.join(FACTS), "{").unwrap();
    assert!(matches!(cached(cache.path(), DIGEST), Err(LayerError::Damaged { .. })));
}

#[test]
fn a_failed_build_leaves_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let mut sample = Sample::new();
    sample.grub.remove("fat.mod");
    let error = build(cache.path(), &sample.inputs(), &Silent).unwrap_err();
    assert!(matches!(error, LayerError::Bios(BiosError::Missing { name: "fat.mod" })), "{error}");
    assert_eq!(std::fs::read_dir(cache.path().join("layers")).unwrap().count(), 0);
    for digest in ["", "../../etc", &DIGEST.to_uppercase()] {
        assert!(matches!(cached(cache.path(), digest), Err(LayerError::Digest { .. })), "{digest}");
    }
}
