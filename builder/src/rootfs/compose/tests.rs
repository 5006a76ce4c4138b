use super::*;
use crate::cluster::profiles::ProfileStore;
use crate::rootfs::modules::tests::kernel_package;
use crate::rootfs::tar;

const PROFILE: &str = r#"
role = "small"
description = "for a test"
kubernetes = ["1.20"]
binaries = ["kubelet"]
overlays = ["base"]
[kernel]
flavour = "cloud"
modules = ["a"]
initramfs-modules = ["b"]
load = ["a"]
[packages]
install = ["containerd"]
prune = ["/usr/share/**"]
[setup.folders]
"/tmp" = "1777"
[[service]]
name = "etcd"
command = ["/usr/bin/etcd"]
component = "etcd"
[[service]]
name = "agent"
command = ["/usr/lib/bootwright/agent"]
"#;

/// Everything that a root is made of, as files in a folder.
struct World {
    folder: tempfile::TempDir,
    profile: Profile,
    packages: Vec<Package>,
    firmware: Vec<Package>,
    binaries: Vec<Artifact>,
}

fn package(folder: &Path, name: &str, files: &[(&str, &[u8])]) -> Package {
    let mut tree = RootTree::default();
    for (path, bytes) in files {
        tree.insert(path, Entry::file(*bytes, 0o755, &"test".into())).expect("inserted");
    }
    let data = folder.join(format!("{name}.tar"));
    tar::write(&tree, &mut std::fs::File::create(&data).expect("created")).expect("written");
    Package {
        name: name.to_owned(),
        version: "1.6.20~ds1-1".to_owned(),
        sha256: format!("sha of {name}"),
        data,
    }
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        let write = |name: &str| std::fs::write(at.join(name), name).expect("written");
        ["firstboot", "agent", "pause", "probe", "kubelet"].iter().for_each(|name| write(name));
        let binary = Artifact {
            name: "kubelet".to_owned(),
            version: "1.20.2".to_owned(),
            sha256: "sha of kubelet".to_owned(),
            size: 7,
            path: at.join("kubelet"),
        };
        let packages = vec![
            package(at, "containerd", &[("/usr/bin/containerd", b"c"), ("/usr/share/doc/x", b"words")]),
            package(at, "etcd-server", &[("/usr/bin/etcd", b"e")]),
            kernel_package(at, &[("x/a", "depends=b"), ("x/b", "alias=pci:b*"), ("x/c", "depends=")], false),
        ];
        let profile = toml::from_str(PROFILE).expect("a profile");
        World { profile, packages, firmware: Vec::new(), binaries: vec![binary], folder }
    }

    fn with<T>(&self, run: impl FnOnce(&RootSpec) -> T) -> T {
        let at = self.folder.path();
        run(&RootSpec {
            profile: &self.profile,
            kubernetes: "1.20.2",
            packages: &self.packages,
            firmware: &self.firmware,
            binaries: &self.binaries,
            firstboot: &at.join("firstboot"),
            agent: &at.join("agent"),
            pause: &at.join("pause"),
            probe: &at.join("probe"),
            beside: None,
            images: &[],
        })
    }

    fn error(&self) -> String {
        self.with(build).expect_err("wrong").to_string()
    }
}

fn contents(tree: &RootTree, path: &str) -> Vec<u8> {
    match tree.get(path).map(|entry| &entry.kind) {
        Some(Kind::File(content)) => content.read().expect("read"),
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn a_root_has_what_first_boot_reads_and_is_the_same_twice() {
    let world = World::new();
    let composed = world.with(build).expect("composed");
    let paths: Vec<&str> = composed.tree.entries.keys().map(String::as_str).collect();
    insta::assert_snapshot!(paths.join("\n"));
    let os: OsRelease =
        serde_json::from_slice(&contents(&composed.tree, layout::OS_FILE)).expect("reads back");
    assert_eq!(os, composed.os);
    assert_eq!((os.kernel_release.as_str(), os.containerd.as_str()), ("6.1-t", "1.6.20"));
    assert_eq!(contents(&composed.tree, layout::FIRSTBOOT), b"firstboot");
    assert_eq!(contents(&composed.tree, layout::AGENT), b"agent");
    assert_eq!(contents(&composed.tree, "/usr/bin/kubelet"), b"kubelet");
    assert_eq!(composed.kernel.read().expect("read"), b"kernel");
    let mut without = World::new();
    without.profile.services.retain(|service| service.name != "agent");
    assert!(without.with(build).expect("composed").tree.get(layout::AGENT).is_none());
    // Another folder, another time: the same bytes and the same key.
    let (other, mut bytes) = (World::new(), [Vec::new(), Vec::new()]);
    tar::write(&composed.tree, &mut bytes[0]).expect("written");
    tar::write(&other.with(build).expect("composed").tree, &mut bytes[1]).expect("written");
    assert_eq!(bytes[0], bytes[1]);
    assert_eq!(world.with(digest).expect("digest"), other.with(digest).expect("digest"));
}

#[test]
fn the_initramfs_has_first_boot_a_console_and_its_own_modules() {
    let composed = World::new().with(build).expect("composed");
    let paths: Vec<&str> = composed.initramfs.entries.keys().map(String::as_str).collect();
    insta::assert_snapshot!(paths.join("\n"));
    assert_eq!(contents(&composed.initramfs, "/lib/modules/6.1-t/modules.dep"), b"kernel/x/b.ko:\n");
}

#[test]
fn files_for_drivers_are_where_the_kernel_looks_and_microcode_is_apart() {
    let mut world = World::new();
    let at = world.folder.path().to_owned();
    world.packages[2] =
        kernel_package(&at, &[("x/a", "depends=b firmware=a.fw"), ("x/b", "depends= firmware=b.bin")], false);
    let files: [(&str, &[u8]); 3] = [
        ("/lib/firmware/a.fw", b"for a"),
        ("/lib/firmware/b.bin", b"for b"),
        ("/lib/firmware/amd-ucode/microcode_amd.bin", b"patch"),
    ];
    world.firmware = vec![package(&at, "firmware-x", &files)];
    let composed = world.with(build).expect("composed");
    assert_eq!(contents(&composed.tree, "/usr/lib/firmware/a.fw"), b"for a");
    let early = |path: &str| composed.initramfs.resolve(path).is_some();
    assert_eq!(["a.fw", "b.bin"].map(|name| early(&format!("/lib/firmware/{name}"))), [false, true]);
    assert_eq!(
        composed.initramfs.get("/lib").map(|entry| &entry.kind),
        Some(&Kind::Link("usr/lib".to_owned()))
    );
    let microcode = composed.microcode.expect("there is some");
    assert_eq!(contents(&microcode, "/kernel/x86/microcode/AuthenticAMD.bin"), b"patch");
    let facts = composed.firmware.expect("packages were there");
    assert_eq!((facts.packages[0].files, facts.missing.len()), (3, 0));
    // Without such packages nothing is as much as a folder more.
    let without = World::new().with(build).expect("composed");
    assert!(
        without.initramfs.get("/lib").is_none() && without.microcode.is_none() && without.firmware.is_none()
    );
}

#[test]
fn every_input_changes_the_digest() {
    let first = World::new().with(digest).expect("digest");
    let change = |change: &dyn Fn(&mut World)| {
        let mut world = World::new();
        change(&mut world);
        world.with(digest).expect("digest")
    };
    let changed = [
        change(&|world| world.packages[0].sha256.push('x')),
        change(&|world| world.binaries[0].sha256.push('x')),
        change(&|world| world.firmware = vec![world.packages[0].clone()]),
        change(&|world| world.profile.kernel.load.clear()),
        change(&|world| std::fs::write(world.folder.path().join("pause"), "other").expect("written")),
        change(&|world| std::fs::write(world.folder.path().join("probe"), "other").expect("written")),
        change(&|world| std::fs::write(world.folder.path().join("firstboot"), "other").expect("written")),
        change(&|world| std::fs::write(world.folder.path().join("agent"), "other").expect("written")),
    ];
    let all: std::collections::BTreeSet<&String> = changed.iter().chain([&first]).collect();
    assert_eq!(all.len(), 9);
}

#[test]
fn what_is_missing_is_said() {
    let mut world = World::new();
    world.binaries.clear();
    assert_eq!(
        world.error(),
        "profile small wants the Kubernetes binary kubelet, which the Kubernetes directory or mirror did not give"
    );
    let mut world = World::new();
    world.packages.remove(1);
    assert_eq!(world.error(), "profile small runs etcd: add etcd-server to `packages.install`");
    let mut world = World::new();
    world.packages.pop();
    assert_eq!(
        world.error(),
        "profile small: no package has /boot/vmlinuz-<release>: the kernel package is missing"
    );
    let mut world = World::new();
    world.profile.kernel.load.push("c".to_owned());
    assert_eq!(
        world.error(),
        "profile small: kernel.load: c is not among the modules that `kernel.modules` selects; add it there"
    );
    let mut world = World::new();
    world.packages.push(package(world.folder.path(), "dash", &[("/bin/dash", b"shell")]));
    assert!(
        world.error().starts_with("the root of profile small is not whole:\n  /usr/bin/dash (package dash")
    );
    let world = World::new();
    std::fs::remove_file(world.folder.path().join("pause")).expect("removed");
    assert!(world.error().contains("/pause: No such file"), "{}", world.error());
}

#[test]
fn upstream_versions_are_what_upstream_calls_them() {
    for (debian, upstream) in [
        ("1.6.20~ds1-1+deb12u3", "1.6.20"),
        ("3.4.23-4+b4", "3.4.23"),
        ("1:1.4.7-1+b2", "1.4.7"),
        ("2.0", "2.0"),
    ] {
        assert_eq!(upstream_version(debian), upstream);
    }
}

#[test]
fn the_profiles_that_are_built_in_are_good() {
    let store = ProfileStore::new(Path::new("/nowhere"), None);
    let file = toml::from_str(include_str!("../../../../examples/all-in-one.toml")).expect("a cluster file");
    for role in store.roles() {
        let profile = store.load(&role, &file).expect("a profile");
        assert_eq!(bootwright_model::services::check(&profile.services), []);
        Globs::new("prune", &profile.packages.prune).expect("good globs");
        Globs::new("keep", &profile.packages.keep).expect("good globs");
        // What first boot reads back is what was baked.
        let baked: Profile = serde_json::from_slice(&json(&profile)).expect("reads back");
        assert_eq!(baked, profile);
    }
}
