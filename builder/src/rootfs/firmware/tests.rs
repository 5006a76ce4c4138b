use super::*;
use crate::rootfs::modules::Kernel;
use crate::rootfs::modules::tests::kernel_package;
use crate::rootfs::tar;

/// Path, contents; a link's begin with `->`.
fn package(folder: &std::path::Path, name: &str, files: &[(&str, &str)]) -> Package {
    let by = "test".into();
    let mut tree = RootTree::default();
    for (path, text) in files {
        let entry = match text.strip_prefix("->") {
            Some(target) => Entry::link(target, &by),
            None => Entry::file(*text, 0o644, &by),
        };
        tree.insert(path, entry).expect("inserted");
    }
    let data = folder.join(format!("{name}.tar"));
    tar::write(&tree, &mut std::fs::File::create(&data).expect("created")).expect("written");
    Package { name: name.to_owned(), version: "1-2".to_owned(), sha256: format!("of {name}"), data }
}

fn packages(folder: &std::path::Path) -> Vec<Package> {
    let card = [
        ("/lib/firmware/card/now.bin", "->now-1.2.bin"),
        ("/lib/firmware/card/now-1.2.bin", "of today"),
        ("/lib/firmware/card/other.bin", "for another driver"),
        ("/lib/firmware/port-1.fw", "one"),
        ("/lib/firmware/port-2.fw", "two"),
        ("/lib/firmware/loop.fw", "->loop.fw"),
        ("/usr/share/doc/card/copyright", "no changes"),
        ("/usr/share/doc/card/changelog", "words"),
        ("/etc/secret", "not firmware"),
    ];
    let second =
        [("/lib/firmware/port-1.fw", "of a later package"), ("/usr/share/doc/second/copyright", "x")];
    let intel = [
        ("/lib/firmware/intel-ucode/06-9e-0a", "B"),
        ("/lib/firmware/intel-ucode/06-55-04", "A"),
        ("/lib/firmware/intel-ucode/06-4f-01.initramfs", "0"),
        ("/lib/firmware/intel-ucode/README", "words"),
        ("/usr/share/doc/intel/copyright", "y"),
    ];
    let amd = [
        ("/lib/firmware/amd-ucode/microcode_amd.bin", "C"),
        ("/lib/firmware/amd-ucode/microcode_amd.bin.asc", "signature"),
    ];
    vec![
        package(folder, "card", &card),
        package(folder, "second", &second),
        package(folder, "intel", &intel),
        package(folder, "amd", &amd),
    ]
}

fn contents(tree: &RootTree, path: &str) -> String {
    match tree.get(path).map(|entry| &entry.kind) {
        Some(Kind::File(content)) => String::from_utf8(content.read().expect("read")).expect("text"),
        other => panic!("{path}: {other:?}"),
    }
}

const MODULES: [(&str, &str); 3] = [
    ("net/card", "depends= firmware=card/now.bin firmware=card/old.bin firmware=loop.fw"),
    ("net/ports", "depends= firmware=port-*.fw firmware=../../../etc/secret firmware=card/old.bin"),
    ("net/absent", "depends= firmware=card/other.bin"),
];

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn only_what_the_modules_ask_for_is_taken_and_what_is_nowhere_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let kernel = Kernel::read(&kernel_package(folder.path(), &MODULES, false)).expect("read");
    let packages = packages(folder.path());
    let mut firmware = Firmware::read(&packages).expect("read");
    let selected = kernel.select("kernel.modules", &names(&["card", "ports"])).expect("selected");
    let (mut root, mut initramfs) = (RootTree::default(), RootTree::default());
    firmware.lay(&selected, &mut root).expect("laid");
    // The initramfs has its own, and nothing is counted twice.
    let early = kernel.select("kernel.initramfs-modules", &names(&["card"])).expect("selected");
    firmware.lay(&early, &mut initramfs).expect("laid");
    firmware.lay_licences(&mut root).expect("laid");

    let files = |tree: &RootTree| -> Vec<String> {
        let files = tree.entries.iter().filter(|(_, entry)| matches!(entry.kind, Kind::File(_)));
        files.map(|(path, _)| path.clone()).collect()
    };
    assert_eq!(
        files(&root),
        [
            "/usr/lib/firmware/card/now.bin",
            "/usr/lib/firmware/port-1.fw",
            "/usr/lib/firmware/port-2.fw",
            "/usr/share/doc/card/copyright"
        ]
    );
    assert_eq!(contents(&root, "/lib/firmware/card/now.bin"), "of today");
    assert_eq!(contents(&root, "/lib/firmware/port-1.fw"), "one");
    assert_eq!(files(&initramfs), ["/usr/lib/firmware/card/now.bin"]);

    let facts = firmware.facts();
    let taken = Taken { package: "card".to_owned(), version: "1-2".to_owned(), files: 3, bytes: 14 };
    assert_eq!(facts.packages, [taken]);
    let missing: Vec<_> =
        facts.missing.iter().map(|(file, module)| (file.as_str(), module.as_str())).collect();
    assert_eq!(missing, [("../../../etc/secret", "ports"), ("card/old.bin", "card"), ("loop.fw", "card")]);
}

#[test]
fn microcode_is_one_file_for_each_vendor_in_the_order_of_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let packages = packages(folder.path());
    let mut firmware = Firmware::read(&packages).expect("read");
    let tree = firmware.microcode().expect("read").expect("there is some");
    assert_eq!(contents(&tree, "/kernel/x86/microcode/GenuineIntel.bin"), "0AB");
    assert_eq!(contents(&tree, "/kernel/x86/microcode/AuthenticAMD.bin"), "C");
    let taken: Vec<_> = firmware
        .facts()
        .packages
        .into_iter()
        .map(|taken| (taken.package, taken.files, taken.bytes))
        .collect();
    assert_eq!(taken, [("intel".to_owned(), 3, 3), ("amd".to_owned(), 1, 1)]);

    let mut without = Firmware::read(&packages[..2]).expect("read");
    assert!(without.microcode().expect("read").is_none());
}
