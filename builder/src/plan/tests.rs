//! Plans of one cluster file as its lock comes, fits and ages.

use std::collections::BTreeSet;
use std::path::Path;

use super::inputs::{LayerPlan, Place};
use super::*;
use crate::cluster;
use crate::compose;
use crate::sources::lock::{LockedBinary, LockedFile, LockedPackage, LockedSet};
use crate::sources::{Cache, LOCK_FILE, Lock, Request};

/// Relative to the package, which is where cargo runs tests: paths in a plan are the same everywhere.
const FIXTURES: &str = "src/cluster/fixtures";

fn loaded() -> Loaded {
    let fixtures = Path::new(FIXTURES);
    let file = fixtures.join("accept/everything.toml");
    let mut loaded = cluster::load(&file, Some(&fixtures.join("profiles"))).unwrap();
    // The profiles of the fixtures have none.
    for (role, profile) in &mut loaded.profiles {
        profile.binaries.push("kubelet".to_owned());
        if role == "control-plane" {
            profile.binaries.push("kube-apiserver".to_owned());
        }
    }
    loaded
}

fn digest(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// What a build of the request could have written: two packages per list, one of them in all.
fn lock(request: &Request) -> Lock {
    let mut lock = Lock::new(&request.base.suite, 1_783_764_997);
    let mut package = |name: &str, size, digit| {
        lock.packages.push(LockedPackage {
            name: name.to_owned(),
            version: "1:2-3".to_owned(),
            architecture: "amd64".to_owned(),
            suite: "bookworm".to_owned(),
            path: format!("pool/main/{name}.deb"),
            size,
            sha256: digest(digit),
        });
    };
    package("libc6", 2_700_000, 'a');
    let firsts: BTreeSet<&String> = request.sets.iter().map(|set| &set.install[0]).collect();
    for first in firsts {
        package(&format!("first-of-{first}"), 40_000_000, 'b');
    }
    for set in &request.sets {
        lock.sets.push(LockedSet {
            name: set.name.clone(),
            dependencies: set.dependencies,
            install: set.install.clone(),
            exclude: set.exclude.clone(),
            packages: vec![format!("first-of-{}", set.install[0]), "libc6".to_owned()],
        });
    }
    for name in &request.binaries {
        let (name, version) = (name.clone(), request.kubernetes.version.clone());
        lock.binaries.push(LockedBinary { name, version, size: 110_000_000, sha256: digest('c') });
    }
    for path in &request.files {
        lock.files.push(LockedFile { path: path.clone(), size: 900_000, sha256: digest('d') });
    }
    lock
}

/// The plan with that lock; in the cache is what has one of these digests.
fn plan(loaded: &Loaded, lock: Option<&Lock>, state: LockState, cached: &[String]) -> Plan {
    plan_with(loaded, lock, state, Vec::new(), cached)
}

/// The same with OS layers.
fn plan_with(
    loaded: &Loaded,
    lock: Option<&Lock>,
    state: LockState,
    layers: Vec<LayerPlan>,
    cached: &[String],
) -> Plan {
    let request = compose::request(loaded);
    let inputs = InputsPlan::of(&request, "bootwright.lock", lock, state, layers, &|sha256, _| {
        cached.iter().any(|known| known == sha256)
    });
    Plan::of(loaded, inputs).unwrap()
}

/// The part of the text that is about inputs.
fn inputs_text(plan: &Plan) -> String {
    let text = plan.to_string();
    text[text.find("\ninputs").unwrap() + 1..].to_owned()
}

#[test]
fn a_plan_by_a_lock_that_fits() {
    let loaded = loaded();
    let lock = lock(&compose::request(&loaded));
    let plan = plan(&loaded, Some(&lock), LockState::Fits, &[digest('b')]);
    insta::assert_snapshot!(plan);
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&plan).unwrap());
}

#[test]
fn a_lock_that_does_not_fit_is_shown_and_vouches_for_no_file() {
    let loaded = loaded();
    let lock = lock(&compose::request(&loaded));
    let difference = "Kubernetes is 1.21.14 and was 1.21.13 (kubelet)".to_owned();
    let plan = plan(&loaded, Some(&lock), LockState::Differs { difference }, &[digest('a'), digest('b')]);
    insta::assert_snapshot!(inputs_text(&plan));
    let files = plan.images.iter().flat_map(|image| &image.files).chain(&plan.kubernetes.binaries);
    let digests: Vec<_> = files.map(|file| &file.sha256).collect();
    assert_eq!(digests, [&None; 4]);
}

#[test]
fn what_cannot_be_compared_is_said_and_an_empty_cache_lists_no_names() {
    let loaded = loaded();
    let lock = lock(&compose::request(&loaded));
    let reason = "../kubernetes has no kubelet; put it there".to_owned();
    let plan = plan(&loaded, Some(&lock), LockState::Unknown { reason }, &[]);
    insta::assert_snapshot!(inputs_text(&plan));
    let places = |inputs: &[InputPlan]| inputs.iter().map(|input| input.place).collect::<Vec<_>>();
    assert_eq!(places(&plan.inputs.packages), [Place::Archive; 5]);
    assert_eq!(places(&plan.inputs.binaries), [Place::Folder; 2]);
}

#[test]
fn what_is_in_finished_layers_is_not_fetched() {
    let loaded = loaded();
    let lock = lock(&compose::request(&loaded));
    let plan = |state: LayerState| {
        let layers = vec![LayerPlan { role: "all-in-one".to_owned(), state, firmware: None }];
        plan_with(&loaded, Some(&lock), LockState::Fits, layers, &[])
    };
    let cached = plan(LayerState::Cached);
    assert_eq!(cached.inputs.to_fetch.inputs, 0);
    let text = inputs_text(&cached);
    assert!(
        text.ends_with("OS layer      of all-in-one: in the cache, finished\n  to fetch      nothing\n"),
        "{text}"
    );
    assert!(text.lines().all(|line| !line.ends_with(" MB")), "nothing is left to fetch: {text}");
    let absent = plan(LayerState::Absent);
    assert_eq!(absent.inputs.to_fetch.inputs, absent.inputs.packages.len());
    let unknown = plan(LayerState::Unknown { reason: "no firstboot".to_owned() });
    assert_eq!(unknown.inputs.to_fetch, absent.inputs.to_fetch);
    assert!(inputs_text(&unknown).contains("whether the cache has it: no firstboot"), "{unknown}");
}

#[test]
fn without_a_lock_the_package_lists_are_what_is_known() {
    let plan = plan(&loaded(), None, LockState::Absent, &[]);
    insta::assert_snapshot!(inputs_text(&plan));
    assert!(plan.inputs.packages.is_empty());
    assert_eq!(plan.inputs.total.inputs, 0);
}

#[test]
fn binaries_of_a_mirror_are_fetched_too() {
    let mut loaded = loaded();
    loaded.file.kubernetes.directory = None;
    loaded.file.kubernetes.mirror = Some("http://mirror.test/release".to_owned());
    let lock = lock(&compose::request(&loaded));
    let all = [digest('a'), digest('b'), digest('c')];
    let nothing = plan(&loaded, Some(&lock), LockState::Fits, &all);
    assert_eq!(nothing.inputs.to_fetch.inputs, 0);
    assert!(inputs_text(&nothing).ends_with("to fetch      nothing\n"), "{nothing}");
    let binaries = plan(&loaded, Some(&lock), LockState::Fits, &all[..2]);
    assert_eq!(binaries.inputs.to_fetch.bytes, 2 * 110_000_000);
    assert!(inputs_text(&binaries).ends_with("to fetch      kube-apiserver kubelet\n"), "{binaries}");
    assert!(binaries.inputs.binaries.iter().all(|input| input.place == Place::Mirror));
}

const CLUSTER: &str = r#"
[cluster]
name = "harbor"
endpoint = "10.20.0.10"
pod-cidr = "10.10.0.0/16"
service-cidr = "10.96.0.0/16"
[kubernetes]
version = "1.20.2"
directory = "kubernetes"
[[node]]
name = "cp1"
role = "all-in-one"
address = "10.20.0.10/24"
[[image]]
name = "bootwright.local/web:1"
files = { "/index.html" = "index.html" }
entrypoint = ["/index.html"]
"#;

const PROFILE: &str = r#"
role = "all-in-one"
description = "for tests"
kubernetes = ["1.20"]
[kernel]
flavour = "cloud"
modules = []
initramfs-modules = []
[packages]
install = ["libc6"]
[[service]]
name = "etcd"
command = ["/usr/bin/etcd"]
"#;

#[test]
fn looking_compares_with_the_files_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("cluster.toml", CLUSTER);
    write("profiles/all-in-one.toml", PROFILE);
    write("index.html", "hello");
    write("kubernetes/version", "1.20.2");
    let loaded = cluster::load(&folder.path().join("cluster.toml"), None).unwrap();
    let cache = Cache::look(&folder.path().join("no cache here"));
    let look = || super::look(&loaded, Given::default(), &cache);
    assert_eq!(look().unwrap().state, LockState::Absent);

    let mut fitting = lock(&compose::request(&loaded));
    fitting.files[0].sha256 = crate::digests::sha256(b"hello");
    fitting.write(&folder.path().join(LOCK_FILE)).unwrap();
    let found = look().unwrap();
    assert_eq!(found.state, LockState::Fits);
    assert_eq!(found.to_fetch.inputs, found.packages.len());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5, "a plan made something");

    write("index.html", "changed");
    let LockState::Differs { difference } = look().unwrap().state else { panic!("it was changed") };
    assert!(difference.contains("index.html changed: SHA-256"), "{difference}");
    std::fs::remove_file(folder.path().join("index.html")).unwrap();
    let LockState::Unknown { reason } = look().unwrap().state else { panic!("it is gone") };
    assert!(reason.contains("index.html: No such file"), "{reason}");

    write(LOCK_FILE, "version = 1\nsuite = \"book");
    let error = look().unwrap_err().to_string();
    assert!(error.contains("line 2, column"), "{error}");
}
