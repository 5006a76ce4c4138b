use std::fs;
use std::time::Duration;

use super::*;
use crate::progress::Silent;
use crate::sources::readers::sha256;
use crate::sources::testing::{Deb, Fault, Packing, Repository, Server};

/// An archive on loopback, a cluster file's folder, an empty cache.
struct Bench {
    repository: Repository,
    server: Server,
    folder: tempfile::TempDir,
    cache: Cache,
    base: Base,
    kubernetes: Kubernetes,
    sets: Vec<PackageSet>,
    binaries: Vec<String>,
    files: Vec<String>,
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn set(name: &str, install: &[&str], dependencies: bool) -> PackageSet {
    let (name, install) = (name.to_owned(), strings(install));
    PackageSet { name, install, exclude: Vec::new(), dependencies }
}

/// An archive with `app` and `lib`, of which the updates have a newer one.
fn bench() -> Bench {
    let mut repository = Repository::new();
    repository.add("bookworm", Deb::new("app", "1.0-1").field("Depends", "lib (>= 1)"), Packing::Xz);
    repository.add("bookworm", Deb::new("lib", "1.9-1").field("Pre-Depends", "base"), Packing::Zstd);
    repository.add("bookworm", Deb::new("base", "1:1"), Packing::Gzip);
    repository.add("bookworm", Deb::new("loader", "2").field("Depends", "app"), Packing::Plain);
    repository.add("bookworm-updates", Deb::new("lib", "1.10-1"), Packing::Xz);
    repository.publish();
    let server = Server::new(repository.root());
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let base = repository.base(&server.url());
    let kubernetes = Kubernetes { version: "1.20.2".to_owned(), directory: None, mirror: None };
    let sets = vec![set("os", &["app"], true), set("uefi", &["loader"], false)];
    let (binaries, files) = (Vec::new(), Vec::new());
    Bench { repository, server, folder, cache, base, kubernetes, sets, binaries, files }
}

impl Bench {
    fn pin(&self, lock: Option<&Lock>, update: bool) -> Result<Pinned, SourcesError> {
        let request = Request {
            base: &self.base,
            kubernetes: &self.kubernetes,
            base_dir: self.folder.path(),
            sets: self.sets.clone(),
            binaries: self.binaries.clone(),
            files: self.files.clone(),
        };
        let options = Options { pause: Duration::from_millis(1), attempts: 3, ..Options::default() };
        let machine = Machine { root: self.folder.path().join("machine"), options };
        pin_on(machine, &request, lock, update, &self.cache, &Silent)
    }

    fn inputs(&self, lock: Option<&Lock>, update: bool) -> Result<(Lock, Inputs), SourcesError> {
        let pinned = self.pin(lock, update)?;
        let inputs = pinned.fetch(&self.cache, &Silent)?;
        Ok((pinned.lock, inputs))
    }

    /// The error of a build, with what changes from run to run replaced.
    fn error(&self, lock: Option<&Lock>) -> String {
        let error = self.inputs(lock, false).unwrap_err().to_string();
        let error = error.replace(&self.server.url(), "http://mirror");
        error.replace(&self.folder.path().display().to_string(), "/cluster")
    }

    /// Replaces an index, under both of its names.
    fn damage_index(&self, change: impl Fn(Vec<u8>) -> Vec<u8>) {
        let folder = self.repository.path("dists/bookworm/main/binary-amd64");
        for path in [folder.join("by-hash/SHA256"), folder] {
            for entry in fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_file() {
                    fs::write(&entry, change(fs::read(&entry).unwrap())).unwrap();
                }
            }
        }
    }

    fn program(&self, path: &str, contents: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0];
        bytes.resize(64, 0);
        bytes.extend(contents.as_bytes());
        fs::write(path, bytes).unwrap();
    }
}

fn brief(packages: &[FetchedPackage]) -> Vec<String> {
    packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect()
}

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
fn a_lock_and_a_full_cache_need_no_network() {
    let bench = bench();
    let (lock, inputs) = bench.inputs(None, false).unwrap();
    let requests = bench.server.requests().len();
    let (again, same) = bench.inputs(Some(&lock), false).unwrap();
    assert_eq!((&again, &same), (&lock, &inputs));
    assert_eq!(bench.server.requests().len(), requests);
}

#[test]
fn a_lock_and_an_empty_cache_need_no_index() {
    let mut bench = bench();
    let (lock, inputs) = bench.inputs(None, false).unwrap();
    bench.cache = Cache::open(&bench.folder.path().join("other cache")).unwrap();
    let asked = bench.server.requests().len();
    let (_, same) = bench.inputs(Some(&lock), false).unwrap();
    let digests = |inputs: &Inputs| -> Vec<String> {
        inputs.packages.values().flatten().map(|package| package.deb.sha256.clone()).collect()
    };
    assert_eq!(digests(&same), digests(&inputs));
    assert!(bench.server.requests()[asked..].iter().all(|request| request.starts_with("/pool/")));
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
fn an_inrelease_of_another_key_is_refused() {
    let bench = bench();
    let other = crate::sources::testing::Signer::new();
    fs::write(bench.repository.path("key.gpg"), other.public_key(false)).unwrap();
    let error = bench.error(None);
    assert!(error.starts_with("http://mirror/dists/bookworm/InRelease (from [base] of the cluster file): none of its signatures is by a trusted key (signed by "), "{error}");
    assert!(error.contains("key unknown"), "{error}");
    fs::write(bench.repository.path("key.gpg"), "no key").unwrap();
    assert!(bench.error(None).contains("there is no OpenPGP public key in it"));
}

#[test]
fn a_changed_or_unsigned_inrelease_is_refused() {
    let bench = bench();
    let path = bench.repository.path("dists/bookworm/InRelease");
    let signed = fs::read_to_string(&path).unwrap();
    fs::write(&path, signed.replace("Origin: Test", "Origin: Tost")).unwrap();
    insta::assert_snapshot!(bench.error(None), @"http://mirror/dists/bookworm/InRelease (from [base] of the cluster file): its signature is wrong: the document was changed after it was signed; use another mirror");
    fs::write(&path, "Origin: Test\nSuite: bookworm\n").unwrap();
    insta::assert_snapshot!(bench.error(None), @"http://mirror/dists/bookworm/InRelease (from [base] of the cluster file): it is not a signed document: it has no signature; a captive portal or a broken mirror may have answered instead");
    fs::write(&path, format!("Origin: Evil\n\n{signed}")).unwrap();
    assert!(bench.error(None).contains("there is text outside of the signed message"));
    fs::write(&path, format!("{signed}\nSHA256:\n {} 1 main/x\n", sha256(b"x"))).unwrap();
    assert!(bench.error(None).contains("there is text outside of the signed message"));
}

#[test]
fn text_of_an_inrelease_is_what_was_signed_exactly() {
    let bench = bench();
    let signed = fs::read(bench.repository.path("dists/bookworm/InRelease")).unwrap();
    let keyrings = vec![bench.repository.path("key.gpg")];
    let trust = crate::sources::debian::source::Trust { keyrings, embedded: None, fingerprints: Vec::new() };
    let text = crate::sources::debian::signature::verify(&signed, &trust, true).unwrap();
    assert!(text.starts_with("Origin: Test\n") && text.contains("\nDescription: - a line"), "{text}");
    assert!(!text.contains("-----"), "{text}");
}

#[test]
fn an_index_with_another_digest_is_refused() {
    let bench = bench();
    bench.damage_index(|mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    });
    let error = bench.error(None);
    assert!(error.contains("/by-hash/SHA256/") && error.contains(": SHA-256 is "), "{error}");
    bench.damage_index(|bytes| bytes[..bytes.len() - 10].to_vec());
    let error = bench.error(None);
    assert!(error.contains("bytes came, announced were"), "{error}");
}

#[test]
fn a_package_with_another_digest_is_refused_and_not_kept() {
    let bench = bench();
    let path = bench.repository.path(&Repository::pool("app", "1.0-1"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = bench.error(None);
    assert!(error.starts_with("http://mirror/pool/main/a/app/app_1.0-1_amd64.deb: SHA-256 is "), "{error}");
    bench.repository.publish();
    bench.inputs(None, false).unwrap();
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
fn expired_archives_are_refused_unless_the_machine_says_otherwise() {
    let mut bench = bench();
    bench.repository.valid_until = Some("Thu, 08 Jan 2026 00:00:00 UTC".to_owned());
    bench.repository.publish();
    let error = bench.error(None);
    assert!(error.contains("it was valid until Thu, 08 Jan 2026 00:00:00 UTC, which is over"), "{error}");
    let apt = bench.folder.path().join("machine/etc/apt");
    fs::create_dir_all(&apt).unwrap();
    fs::write(apt.join("apt.conf"), "Acquire::Check-Valid-Until \"false\";").unwrap();
    let (lock, _) = bench.inputs(None, false).unwrap();
    fs::remove_dir_all(apt).unwrap();
    bench.inputs(Some(&lock), false).unwrap();
}

#[test]
fn another_suite_s_inrelease_is_refused() {
    let bench = bench();
    let updates = fs::read(bench.repository.path("dists/bookworm-updates/InRelease")).unwrap();
    fs::write(bench.repository.path("dists/bookworm/InRelease"), updates).unwrap();
    let error = bench.error(None);
    assert!(
        error.contains(
            "it is for suite \"bookworm-updates\", codename \"bookworm-updates\", and not for \"bookworm\""
        ),
        "{error}"
    );
}

#[test]
fn a_missing_suite_and_a_missing_package() {
    let mut bench = bench();
    bench.sets[0].install.push("ap".to_owned());
    insta::assert_snapshot!(bench.error(None), @r#"package set "os": the archive has no package "ap" (similar: app); check the package list of the profile"#);
    bench.base.suite = "trixie".to_owned();
    insta::assert_snapshot!(bench.error(None), @"suite trixie (from [base] of the cluster file): http://mirror/dists/trixie/InRelease: the server answered 404");
}

#[test]
fn a_lock_that_does_not_fit_says_what_differs() {
    let mut bench = bench();
    bench.files = strings(&["page.html"]);
    let page = bench.folder.path().join("page.html");
    fs::write(&page, "one").unwrap();
    let (lock, _) = bench.inputs(None, false).unwrap();

    fs::write(&page, "two!").unwrap();
    insta::assert_snapshot!(bench.error(Some(&lock)), @"/cluster/page.html changed: SHA-256 a97b629a5b1da759586c3353a9bc284bf673970d8eca56e11e556b715c329614, 4 bytes, and was 7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed, 3 bytes, so bootwright.lock does not describe this build; build with --update to renew it");
    fs::write(&page, "one").unwrap();

    bench.sets[0].install = strings(&["loader"]);
    insta::assert_snapshot!(bench.error(Some(&lock)), @r#"the packages of set "os" changed (+loader -app), so bootwright.lock does not describe this build; build with --update to renew it"#);
    bench.sets[0] = set("os", &["app"], true);
    bench.sets[0].exclude = strings(&["lib"]);
    insta::assert_snapshot!(bench.error(Some(&lock)), @r#"the excluded packages of set "os" changed (+lib), so bootwright.lock does not describe this build; build with --update to renew it"#);
    bench.sets[0] = set("os", &["app"], false);
    insta::assert_snapshot!(bench.error(Some(&lock)), @r#"package set "os" is now without dependencies, so bootwright.lock does not describe this build; build with --update to renew it"#);
    bench.sets[0] = set("more", &["app"], true);
    insta::assert_snapshot!(bench.error(Some(&lock)), @r#"package set "more" is new, so bootwright.lock does not describe this build; build with --update to renew it"#);
    bench.sets.remove(0);
    bench.inputs(Some(&lock), false).unwrap();
    bench.base.suite = "trixie".to_owned();
    insta::assert_snapshot!(bench.error(Some(&lock)), @r#"suite is "trixie" and was "bookworm", so bootwright.lock does not describe this build; build with --update to renew it"#);
}

#[test]
fn update_renews_what_the_lock_keeps() {
    let mut bench = bench();
    let (lock, _) = bench.inputs(None, false).unwrap();
    bench.repository.add("bookworm-updates", Deb::new("lib", "1.11-1"), Packing::Xz);
    bench.repository.date = "Fri, 02 Jan 2026 00:00:00 UTC".to_owned();
    bench.repository.publish();
    let (same, inputs) = bench.inputs(Some(&lock), false).unwrap();
    assert_eq!((brief(&inputs.packages["os"])[1].as_str(), &same), ("lib 1.10-1", &lock));
    let (renewed, inputs) = bench.inputs(Some(&lock), true).unwrap();
    assert_eq!(brief(&inputs.packages["os"])[1], "lib 1.11-1");
    assert_eq!(renewed.epoch, lock.epoch + 86_400);
}

#[test]
fn a_locked_package_that_is_gone_says_what_to_do() {
    let mut bench = bench();
    let (lock, _) = bench.inputs(None, false).unwrap();
    bench.cache = Cache::open(&bench.folder.path().join("other cache")).unwrap();
    fs::remove_file(bench.repository.path(&Repository::pool("lib", "1.10-1"))).unwrap();
    insta::assert_snapshot!(bench.error(Some(&lock)), @"lib 1.10-1 of bootwright.lock is not in the archive any more (http://mirror/pool/main/l/lib/lib_1.10-1_amd64.deb: the server answered 404); build with --update to take what is current, or set mirror in [base] to one that keeps old packages");
}

#[test]
fn binaries_of_a_folder_are_locked() {
    let mut bench = bench();
    bench.binaries = strings(&["kubelet", "kube-proxy"]);
    insta::assert_snapshot!(bench.error(None), @"[kubernetes] has neither directory nor mirror; set directory to the folder of the binaries, or mirror");
    bench.kubernetes.directory = Some("bin".to_owned());
    insta::assert_snapshot!(bench.error(None), @"/cluster/bin has no kubelet, kube-proxy; put the binaries of Kubernetes 1.20.2 there, correct directory in [kubernetes], or set mirror");
    bench.program("bin/kubelet", "one");
    bench.program("bin/kube-proxy", "one");
    let (lock, inputs) = bench.inputs(None, false).unwrap();
    let names: Vec<&str> = inputs.binaries.iter().map(|binary| binary.name.as_str()).collect();
    assert_eq!(names, ["kubelet", "kube-proxy"], "in the order of the request");
    assert_eq!(inputs.binaries[0].path, bench.folder.path().join("bin/kubelet"));
    bench.inputs(Some(&lock), false).unwrap();
    bench.program("bin/kubelet", "two");
    assert!(bench.error(Some(&lock)).starts_with("/cluster/bin/kubelet changed: SHA-256 "));
    bench.program("bin/kubelet", "one");
    bench.kubernetes.version = "1.21.0".to_owned();
    assert!(bench.error(Some(&lock)).starts_with("Kubernetes is 1.21.0 and was 1.20.2 (kubelet)"));
}

#[test]
fn binaries_of_a_release_mirror_are_verified() {
    let mut bench = bench();
    bench.program("mirror/v1.20.2/bin/linux/amd64/kubelet", "one");
    let binary = bench.folder.path().join("mirror/v1.20.2/bin/linux/amd64/kubelet");
    let digest = sha256(&fs::read(&binary).unwrap());
    let checksum = binary.with_extension("sha256");
    fs::write(&checksum, format!("{digest}  kubelet\n")).unwrap();
    let server = Server::new(&bench.folder.path().join("mirror"));
    bench.kubernetes.mirror = Some(server.url());
    bench.binaries = strings(&["kubelet"]);
    let (lock, inputs) = bench.inputs(None, false).unwrap();
    assert_eq!(inputs.binaries[0].sha256, digest);
    assert_eq!(server.requests().len(), 2);
    bench.inputs(Some(&lock), false).unwrap();
    assert_eq!(server.requests().len(), 2, "the lock and the cache are enough");

    bench.cache = Cache::open(&bench.folder.path().join("other cache")).unwrap();
    bench.inputs(Some(&lock), false).unwrap();
    assert_eq!(server.count("/v1.20.2/bin/linux/amd64/kubelet.sha256"), 1, "the lock knows the digest");

    fs::write(&checksum, "<html>").unwrap();
    let error = bench.error(None).replace(&server.url(), "http://k8s");
    insta::assert_snapshot!(error, @r#"http://k8s/v1.20.2/bin/linux/amd64/kubelet.sha256 holds no SHA-256 but "<html>"; check mirror in [kubernetes]"#);
    fs::write(&checksum, sha256(b"other")).unwrap();
    let error = bench.error(None);
    assert!(error.contains("kubelet: SHA-256 is "), "{error}");
    fs::remove_file(&checksum).unwrap();
    let error = bench.error(None);
    assert!(error.starts_with("Kubernetes 1.20.2: ") && error.contains("the server answered 404"), "{error}");
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
