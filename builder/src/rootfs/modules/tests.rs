//! Against real kernel packages' shape: the test builds small ELF modules with a `.modinfo` section.

use super::*;

/// A relocatable ELF file with one `.modinfo` section.
fn elf_module(modinfo: &[u8]) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let mut out = Vec::new();
    out.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    out.extend([1, 0, 62, 0, 1, 0, 0, 0]); // ET_REL, EM_X86_64, version
    out.extend([0; 16]); // entry, program headers
    let sections = 64 + modinfo.len().next_multiple_of(8) + names.len().next_multiple_of(8);
    out.extend((sections as u64).to_le_bytes());
    out.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 2, 0]); // flags, sizes, 3 sections, names in 2
    out.extend(modinfo);
    out.resize(64 + modinfo.len().next_multiple_of(8), 0);
    let names_at = out.len();
    out.extend(names);
    out.resize(sections, 0);
    let mut section = |name: u32, kind: u32, offset: usize, size: usize| {
        out.extend(name.to_le_bytes());
        out.extend(kind.to_le_bytes());
        for word in [0, 0, offset as u64, size as u64, 0, 1, 0] {
            out.extend(u64::to_le_bytes(word));
        }
    };
    section(0, 0, 0, 0);
    section(1, 1, 64, modinfo.len());
    section(10, 3, names_at, names.len());
    out
}

/// A kernel package with these modules: path below `kernel/`, `.modinfo`.
pub(in crate::rootfs) fn kernel_package(
    folder: &std::path::Path,
    modules: &[(&str, &str)],
    compress: bool,
) -> Package {
    let by = "test".into();
    let mut tree = RootTree::default();
    let base = "/usr/lib/modules/6.1-t";
    let mut put =
        |path: &str, bytes: Vec<u8>| tree.insert(path, Entry::file(bytes, 0o644, &by)).expect("inserted");
    put("/boot/vmlinuz-6.1-t", b"kernel".to_vec());
    put(
        &format!("{base}/modules.builtin"),
        b"kernel/fs/ext4/ext4.ko\nkernel/crypto/sha256_generic.ko\n".to_vec(),
    );
    put(&format!("{base}/modules.builtin.modinfo"), b"ext4.alias=fs-ext4\0ext4.license=GPL\0".to_vec());
    let order: String = modules.iter().map(|(path, _)| format!("kernel/{path}.ko\n")).collect();
    put(&format!("{base}/modules.order"), order.into_bytes());
    for (path, modinfo) in modules {
        let elf = elf_module(modinfo.replace(' ', "\0").replace('~', " ").as_bytes());
        if compress {
            let mut writer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1))
                .expect("a writer");
            std::io::Write::write_all(&mut writer, &elf).expect("compressed");
            put(&format!("{base}/kernel/{path}.ko.xz"), writer.finish().expect("compressed"));
        } else {
            put(&format!("{base}/kernel/{path}.ko"), elf);
        }
    }
    let data = folder.join("kernel.tar");
    super::super::tar::write(&tree, &mut std::fs::File::create(&data).expect("created")).expect("written");
    Package { name: "linux-image-6.1-t".into(), version: "6.1".into(), sha256: "aa".into(), data }
}

const MODULES: [(&str, &str); 6] = [
    ("drivers/net/virtio_net", "alias=virtio:d1v* depends=net_failover,virtio-ring"),
    ("drivers/virtio/virtio-ring", "depends=virtio"),
    ("drivers/virtio/virtio", "depends="),
    ("net/net_failover", "depends=virtio-ring,ext4"),
    ("fs/btrfs", "depends= softdep=pre:~crypto-x~gone"),
    ("crypto/fast-x", "alias=crypto-x"),
];

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&item| item.to_owned()).collect()
}

fn text(tree: &RootTree, path: &str) -> String {
    let Kind::File(content) = &tree.get(path).expect("is there").kind else { panic!("{path} is no file") };
    String::from_utf8(content.read().expect("read")).expect("text")
}

#[test]
fn dependencies_come_along_and_are_listed_to_be_loaded_from_the_end() {
    for compress in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let packages = [kernel_package(folder.path(), &MODULES, compress)];
        let (_, kernel) = Kernel::find(&packages).expect("read");
        assert_eq!(kernel.release, "6.1-t");
        let selected = kernel.select("kernel.modules", &strings(&["virtio-net", "ext4"])).expect("selected");
        let mut tree = RootTree::default();
        selected.lay(&mut tree).expect("laid");
        assert_eq!(
            text(&tree, "/lib/modules/6.1-t/modules.dep"),
            "kernel/drivers/net/virtio_net.ko: kernel/net/net_failover.ko kernel/drivers/virtio/virtio-ring.ko \
             kernel/drivers/virtio/virtio.ko\n\
             kernel/drivers/virtio/virtio-ring.ko: kernel/drivers/virtio/virtio.ko\n\
             kernel/drivers/virtio/virtio.ko:\n\
             kernel/net/net_failover.ko: kernel/drivers/virtio/virtio-ring.ko kernel/drivers/virtio/virtio.ko\n"
        );
        assert!(text(&tree, "/lib/modules/6.1-t/modules.alias").ends_with("alias virtio:d1v* virtio_net\n"));
        let module = tree.get("/lib/modules/6.1-t/kernel/drivers/net/virtio_net.ko").expect("laid");
        let Kind::File(content) = &module.kind else { panic!("a module is a file") };
        assert!(content.read().expect("read").starts_with(b"\x7fELF"));
    }
}

#[test]
fn globs_and_soft_dependencies_by_alias_are_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let kernel = Kernel::read(&kernel_package(folder.path(), &MODULES, false)).expect("read");
    let selected =
        kernel.select("kernel.modules", &strings(&["kernel/fs/*", "kernel/none/**"])).expect("selected");
    assert_eq!(selected.names().collect::<Vec<_>>(), ["btrfs", "fast_x"]);
    let mut tree = RootTree::default();
    selected.lay(&mut tree).expect("laid");
    assert!(
        text(&tree, "/lib/modules/6.1-t/modules.softdep").ends_with("softdep btrfs pre: crypto-x gone\n")
    );
}

#[test]
fn a_wrong_name_is_an_error_with_a_suggestion() {
    let folder = tempfile::tempdir().expect("a folder");
    let kernel = Kernel::read(&kernel_package(folder.path(), &MODULES, false)).expect("read");
    let error = kernel.select("kernel.load", &strings(&["virtio_nett"])).err().expect("unknown");
    assert_eq!(
        error.to_string(),
        "kernel.load: kernel 6.1-t has no module \"virtio_nett\", neither loadable nor built in (there is \
         \"virtio_net\"); correct the name, or write it as a glob (`**/virtio_nett`) if only some kernels have it"
    );
}

#[test]
fn a_dependency_that_is_nowhere_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let package = kernel_package(folder.path(), &[("a", "depends=b")], false);
    let kernel = Kernel::read(&package).expect("read");
    let error = kernel.select("kernel.modules", &strings(&["a"])).err().expect("broken");
    assert_eq!(
        error.to_string(),
        "module a needs b, which kernel 6.1-t has neither as a module nor built in"
    );
}

#[test]
fn packages_without_a_kernel_or_with_two_are_refused() {
    assert!(matches!(Kernel::find(&[]), Err(ModulesError::NoKernel)));
    let folder = tempfile::tempdir().expect("a folder");
    let package = kernel_package(folder.path(), &MODULES, false);
    let other = Package { name: "linux-image-other".into(), ..package.clone() };
    assert!(matches!(Kernel::find(&[package, other]), Err(ModulesError::TwoKernels(..))));
}

/// modprobe itself finds what was laid: it reads the binary index only.
#[test]
fn modprobe_resolves_names_and_aliases_through_our_index() {
    let folder = tempfile::tempdir().expect("a folder");
    let kernel = Kernel::read(&kernel_package(folder.path(), &MODULES, false)).expect("read");
    let mut tree = RootTree::default();
    kernel
        .select("kernel.modules", &strings(&["virtio_net", "btrfs"]))
        .expect("selected")
        .lay(&mut tree)
        .expect("laid");
    let tar = folder.path().join("out.tar");
    super::super::tar::write(&tree, &mut std::fs::File::create(&tar).expect("created")).expect("written");
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("usr/lib")).expect("made");
    std::os::unix::fs::symlink("usr/lib", root.join("lib")).expect("linked");
    let status = std::process::Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&root).status();
    assert!(status.expect("tar runs").success());
    let modprobe = |name: &str| {
        let output = std::process::Command::new("/sbin/modprobe")
            .args(["--show-depends", "-C", "/dev/null", "-S", "6.1-t", "-d"])
            .arg(&root)
            .arg(name)
            .output()
            .expect("modprobe runs (package kmod)");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text.lines().map(|line| match line.split_once("/kernel/") {
            Some((_, path)) => path.trim().to_owned(),
            None => line.trim().to_owned(),
        });
        (output.status.success(), lines.collect::<Vec<_>>())
    };
    let chain = ["drivers/virtio/virtio.ko", "drivers/virtio/virtio-ring.ko", "net/net_failover.ko"];
    let chain = [chain.as_slice(), &["drivers/net/virtio_net.ko"]].concat();
    assert_eq!(modprobe("virtio-net"), (true, strings(&chain)));
    assert_eq!(modprobe("virtio:d1v5"), (true, strings(&chain)));
    assert_eq!(modprobe("btrfs"), (true, strings(&["crypto/fast-x.ko", "fs/btrfs.ko"])));
    assert_eq!(modprobe("ext4"), (true, strings(&["builtin ext4"])));
    assert_eq!(modprobe("fs-ext4"), (true, strings(&["builtin ext4"])));
    assert_eq!(modprobe("nothing"), (false, Vec::new()));
}
