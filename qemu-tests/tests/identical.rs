//! The same inputs give the same bytes, wherever and whenever they are built.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use bootwright::cli::BuildOptions;
use bootwright::compose;
use bootwright::progress::Lines;
use bootwright::sources::cache::Cache;
use qemu_tests::{CLUSTER, Image, repository};

/// Another folder, a later time, another umask, and nothing in the cache but the packages.
#[test]
fn a_build_elsewhere_and_later_is_the_same_file() {
    let image = Image::under_test();
    let elsewhere = tempfile::tempdir().unwrap();
    let work = elsewhere.path().join("some").join("where else");
    let cluster_file = work.join(CLUSTER);
    copy_folder(repository().join(CLUSTER).parent().unwrap(), cluster_file.parent().unwrap());
    fs::create_dir(work.join(".cache")).unwrap();
    let kubernetes = fs::canonicalize(repository().join(".cache/kubernetes-1.20.2")).unwrap();
    symlink(kubernetes, work.join(".cache/kubernetes-1.20.2")).unwrap();
    let cache = work.join("cache");
    fs::create_dir(&cache).unwrap();
    symlink(Cache::default_root().unwrap().join("objects"), cache.join("objects")).unwrap();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));

    let options = BuildOptions {
        cluster_file,
        output: work.join("out"),
        update: false,
        runtime: std::env::var_os("BOOTWRIGHT_RUNTIME").map(Into::into),
        profiles: None,
        cache: Some(cache),
        source_date_epoch: None,
        json: false,
    };
    let built = compose::build(&options, &Lines::new(std::io::stdout(), false)).unwrap();
    let [manifest] = built.images.as_slice() else { panic!("the example has one role") };

    let (here, there) = (fs::read(image.path()).unwrap(), fs::read(&manifest.image).unwrap());
    assert_eq!(here.len(), there.len(), "lengths of the two images");
    let different = here.iter().zip(&there).position(|(here, there)| here != there);
    assert_eq!(different, None, "offset of the first byte that differs");
}

/// Copies files and folders with their modes: secrets that others can read are refused.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
