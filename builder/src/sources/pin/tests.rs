mod bench;
mod binaries;
mod locked;
mod refused;

use std::fs;

use bench::{bench, brief, set, strings};

use super::*;
use crate::digests::sha256;
use crate::sources::testing::{Deb, Fault, Packing, Repository, Server};

#[test]
fn packages_are_resolved_over_two_suites_fetched_and_unpacked() {
    let bench = bench();
    let (lock, inputs) = bench.inputs(None, false).unwrap();
    assert_eq!(brief(&inputs.packages["os"]), ["app 1.0-1", "lib 1.10-1"]);
    assert_eq!(brief(&inputs.packages["uefi"]), ["loader 2"], "without its dependencies");
    // 2026-01-01, the Date of the InRelease.
    assert_eq!(lock.epoch, 1_767_225_600);
    assert_eq!(lock.package("lib").unwrap().suite, "bookworm-updates");
    for package in inputs.packages.values().flatten() {
        let tar = fs::read(&package.data_tar).unwrap();
        let mut archive = tar::Archive::new(tar.as_slice());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        assert_eq!(text, format!("{} {}\n", package.name, package.version));
    }
}

#[test]
fn gz_and_plain_indexes_and_armoured_keyrings() {
    for packing in [Packing::Gzip, Packing::Plain] {
        let mut bench = bench();
        bench.repository.index_packing = packing;
        fs::write(bench.repository.path("key.gpg"), bench.repository.signer.public_key(true)).unwrap();
        fs::remove_dir_all(bench.repository.path("dists")).unwrap();
        bench.repository.publish();
        assert_eq!(brief(&bench.inputs(None, false).unwrap().1.packages["os"]).len(), 2, "{packing:?}");
    }
}

#[test]
fn an_index_is_sought_by_name_when_by_hash_fails() {
    let bench = bench();
    fs::remove_dir_all(bench.repository.path("dists/bookworm/main/binary-amd64/by-hash")).unwrap();
    bench.inputs(None, false).unwrap();
    assert_eq!(bench.server.count("/dists/bookworm/main/binary-amd64/Packages.xz"), 1);
}

#[test]
fn a_folder_is_a_mirror_and_updates_may_lack() {
    let mut bench = bench();
    fs::remove_dir_all(bench.repository.path("dists/bookworm-updates")).unwrap();
    bench.base.mirror = Some(bench.repository.root().display().to_string());
    let (_, inputs) = bench.inputs(None, false).unwrap();
    assert_eq!(brief(&inputs.packages["os"]), ["app 1.0-1", "base 1:1", "lib 1.9-1"]);
    assert!(bench.server.requests().is_empty());
}

#[test]
fn the_security_suite_has_its_own_mirror() {
    let mut bench = bench();
    let mut security = Repository::new();
    security.add("bookworm-security", Deb::new("lib", "1.10-1+deb12u1"), Packing::Xz);
    security.publish();
    let server = Server::new(security.root());
    bench.base.security_mirror = Some(server.url());
    let key = [bench.repository.signer.public_key(false), security.signer.public_key(false)].concat();
    fs::write(bench.repository.path("key.gpg"), key).unwrap();
    let (lock, inputs) = bench.inputs(None, false).unwrap();
    assert_eq!(brief(&inputs.packages["os"]), ["app 1.0-1", "lib 1.10-1+deb12u1"]);
    assert_eq!(lock.package("lib").unwrap().suite, "bookworm-security");
}

#[test]
fn the_machine_s_sources_are_used_and_other_vendors_are_not() {
    let mut bench = bench();
    let mut vendor = Repository::new();
    vendor.add("bookworm", Deb::new("app", "9"), Packing::Xz);
    vendor.origin = "Vendor".to_owned();
    vendor.publish();
    let other = Server::new(vendor.root());
    bench.repository.origin = "Debian".to_owned();
    bench.repository.publish();
    let apt = bench.folder.path().join("machine/etc/apt");
    fs::create_dir_all(apt.join("sources.list.d")).unwrap();
    let line = |server: &Server, key: &str, suite: &str| {
        format!("deb [signed-by=/etc/apt/{key}] {} {suite} main\n", server.url())
    };
    let debian = line(&bench.server, "debian.gpg", "bookworm")
        + &line(&bench.server, "debian.gpg", "bookworm-updates");
    fs::write(apt.join("sources.list"), debian).unwrap();
    fs::write(apt.join("sources.list.d/vendor.list"), line(&other, "vendor.gpg", "bookworm")).unwrap();
    fs::write(apt.join("debian.gpg"), bench.repository.signer.public_key(false)).unwrap();
    fs::write(apt.join("vendor.gpg"), vendor.signer.public_key(false)).unwrap();
    (bench.base.mirror, bench.base.keyring) = (None, None);
    let (_, inputs) = bench.inputs(None, false).unwrap();
    assert_eq!(brief(&inputs.packages["os"]), ["app 1.0-1", "lib 1.10-1"]);

    fs::write(apt.join("sources.list"), "").unwrap();
    let error = bench.inputs(None, false).unwrap_err().to_string();
    assert!(error.contains("none of this machine's sources for suite \"bookworm\" is Debian's"), "{error}");
}

#[test]
fn a_package_that_is_cut_off_is_resumed() {
    let mut bench = bench();
    // Digests do not compress.
    let noise: Vec<u8> =
        (0..4_000u32).flat_map(|number| sha256(&number.to_le_bytes()).into_bytes()).collect();
    bench.repository.add("bookworm", Deb::new("big", "1").contents(noise), Packing::Zstd);
    bench.repository.publish();
    bench.sets = vec![set("os", &["big"], true)];
    let path = format!("/{}", Repository::pool("big", "1"));
    bench.server.once(&path, Fault::CutAfter(70_000));
    bench.server.once(&path, Fault::Status(503));
    bench.inputs(None, false).unwrap();
    let asked: Vec<String> =
        bench.server.requests().into_iter().filter(|request| request.starts_with(&path)).collect();
    assert_eq!(asked, [path.clone(), format!("{path} 70000-"), format!("{path} 70000-")]);
}

#[test]
fn builds_at_the_same_time_share_a_cache() {
    let bench = bench();
    std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4).map(|_| scope.spawn(|| bench.inputs(None, false).unwrap())).collect();
        let results: Vec<_> = builds.into_iter().map(|build| build.join().unwrap()).collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    });
    // Each waits for the other's download instead of repeating it.
    assert_eq!(bench.server.count(&format!("/{}", Repository::pool("app", "1.0-1"))), 1);
}

/// Adds a package of another component, and a set that has it and one that is nowhere.
fn with_firmware(bench: &mut bench::Bench, optional: Option<&str>) {
    bench.repository.add_firmware("bookworm", Deb::new("firmware-card", "20230210-5"), Packing::Xz);
    // A suite of Debian has every component.
    bench.repository.add_firmware("bookworm-updates", Deb::new("firmware-card", "20230210-4"), Packing::Xz);
    bench.repository.publish();
    let set = set("firmware/worker", &["firmware-card", "firmware-none"], false);
    bench.sets.push(PackageSet { optional: optional.map(str::to_owned), ..set });
}

#[test]
fn another_component_is_used_when_the_cluster_file_names_it() {
    let mut bench = bench();
    with_firmware(&mut bench, Some("cards may not work"));
    let (without, inputs) = bench.inputs(None, false).unwrap();
    assert_eq!(brief(&inputs.packages["firmware/worker"]), [""; 0]);

    bench.base.components = strings(&["main", "non-free-firmware"]);
    let error = bench.error(Some(&without));
    assert!(
        error.starts_with("the components of the archive are main non-free-firmware and were not named, so"),
        "{error}"
    );
    let (lock, inputs) = bench.inputs(Some(&without), true).unwrap();
    assert_eq!(brief(&inputs.packages["firmware/worker"]), ["firmware-card 20230210-5"]);
    // What the archive does not have is no difference to a lock that was made without it.
    assert_eq!(bench.inputs(Some(&lock), false).unwrap().0, lock);
}

#[test]
fn a_package_that_the_cluster_file_asks_for_must_be_there() {
    let mut bench = bench();
    with_firmware(&mut bench, None);
    bench.base.components = strings(&["main", "non-free-firmware"]);
    let error = bench.error(None);
    assert!(
        error.starts_with("package set \"firmware/worker\": the archive has no package \"firmware-none\"")
            && error.ends_with("`components` in [base] of the cluster file"),
        "{error}"
    );
}
