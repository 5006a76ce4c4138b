use super::*;

fn cache() -> (tempfile::TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    (folder, cache)
}

#[test]
fn an_object_is_found_by_digest_and_size() {
    let (_folder, cache) = cache();
    let object = cache.insert(&b"abc"[..], Path::new("abc")).unwrap();
    assert_eq!(cache.object(&object.sha256, 3), Some(object.path.clone()));
    assert_eq!(cache.object(&object.sha256, 4), None, "another size is another file");
    assert_eq!(cache.object("../../etc/passwd", 3), None);
    assert_eq!(fs::metadata(&object.path).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(cache.insert(&b"abc"[..], Path::new("abc")).unwrap(), object, "twice is once");
    assert_eq!(fs::read_dir(cache.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_wrong_digest_is_not_kept() {
    let (_folder, cache) = cache();
    let expected = sha256(b"abc");
    let error = cache.insert_checked(&b"abd"[..], &expected, Path::new("x.deb")).unwrap_err();
    assert!(error.to_string().starts_with("x.deb has SHA-256 "), "{error}");
    assert_eq!(cache.object(&expected, 3), None);
    assert_eq!(fs::read_dir(cache.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_truncated_object_is_replaced() {
    let (_folder, cache) = cache();
    let object = cache.insert(&b"abc"[..], Path::new("abc")).unwrap();
    fs::remove_file(&object.path).unwrap();
    fs::write(&object.path, b"").unwrap();
    assert_eq!(cache.object(&object.sha256, 3), None);
    cache.insert(&b"abc"[..], Path::new("abc")).unwrap();
    assert_eq!(cache.object(&object.sha256, 3), Some(object.path));
}

#[test]
fn a_derived_file_is_made_once_and_never_by_halves() {
    let (_folder, cache) = cache();
    let failed = cache.derive::<CacheError>("tar", "k1", |file| {
        file.write_all(b"half").unwrap();
        Err(CacheError::NoHome)
    });
    assert!(failed.is_err());
    assert_eq!(cache.derived("tar", "k1"), None);
    let make = |file: &mut File| -> Result<(), CacheError> {
        file.write_all(b"whole").unwrap();
        Ok(())
    };
    let path = cache.derive("tar", "k1", make).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    cache.derive::<CacheError>("tar", "k1", |_| panic!("it is there already")).unwrap();
    let made = cache
        .derive_at::<CacheError>("squashfs", "k1", |path| {
            fs::write(path, b"by a tool").unwrap();
            Ok(())
        })
        .unwrap();
    assert_eq!(fs::read(made).unwrap(), b"by a tool");
    assert_eq!(fs::read_dir(cache.root().join("tmp")).unwrap().count(), 0);
    for key in ["", "../x", ".x", "a/b", "a b"] {
        assert!(matches!(cache.derive("tar", key, make), Err(CacheError::Key { .. })), "{key:?}");
    }
}

#[test]
fn a_tool_that_makes_nothing_is_an_error() {
    let (_folder, cache) = cache();
    let error = cache.derive_at::<CacheError>("squashfs", "k1", |_| Ok(())).unwrap_err();
    assert!(matches!(error, CacheError::Io { action: "open", .. }), "{error}");
}

#[test]
fn two_writers_of_one_object_do_not_disturb_each_other() {
    let (_folder, cache) = cache();
    let bytes = vec![7u8; 300_000];
    let digest = sha256(&bytes);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut partial = cache.partial(&digest).unwrap();
                if cache.object(&digest, 300_000).is_some() {
                    return partial.discard().unwrap();
                }
                assert_eq!(partial.file.metadata().unwrap().len(), 0, "nobody else appends meanwhile");
                partial.file.write_all(&bytes).unwrap();
                partial.commit(digest.clone(), 300_000).unwrap();
            });
        }
    });
    assert_eq!(fs::read(cache.object(&digest, 300_000).unwrap()).unwrap(), bytes);
    assert_eq!(fs::read_dir(cache.root().join("partial")).unwrap().count(), 0);
}

#[test]
fn a_local_file_is_hashed_again_when_it_changed() {
    let (folder, cache) = cache();
    let path = folder.path().join("kubelet");
    fs::write(&path, b"abc").unwrap();
    let old = SystemTime::now() - Duration::from_secs(60);
    File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    assert_eq!(cache.digest_file(&path).unwrap(), (sha256(b"abc"), 3));
    let memory = fs::read_dir(cache.root().join("local")).unwrap().next().unwrap().unwrap().path();
    // Proof that the memory is used: a wrong digest in it comes back.
    let text = fs::read_to_string(&memory).unwrap();
    fs::write(&memory, text.replacen(&sha256(b"abc"), &sha256(b"other"), 1)).unwrap();
    assert_eq!(cache.digest_file(&path).unwrap().0, sha256(b"other"));
    fs::write(&path, b"abd").unwrap();
    assert_eq!(cache.digest_file(&path).unwrap(), (sha256(b"abd"), 3));
    assert!(matches!(cache.digest_file(folder.path()), Err(CacheError::Input { .. })));
}

#[test]
fn a_full_disk_is_named_with_what_is_missing() {
    let source = io::Error::from(io::ErrorKind::StorageFull);
    let error = full_or_io("write", Path::new("/dev/shm/x"), 4096, source);
    let CacheError::Full { needed, .. } = &error else { panic!("{error}") };
    assert_eq!(*needed, 4096);
    assert!(
        error.to_string().starts_with("no space left for /dev/shm/x: at least 4096 more bytes"),
        "{error}"
    );
    assert!(matches!(require_space(Path::new("/"), u64::MAX), Err(CacheError::Full { .. })));
}

#[test]
fn stale_temporary_files_are_swept() {
    let (_folder, cache) = cache();
    let stale = cache.root().join("tmp/stale");
    fs::write(&stale, b"x").unwrap();
    let old = SystemTime::now() - 2 * STALE;
    File::options().write(true).open(&stale).unwrap().set_modified(old).unwrap();
    let fresh = cache.root().join("tmp/fresh");
    fs::write(&fresh, b"x").unwrap();
    Cache::open(cache.root()).unwrap();
    assert!(!stale.exists() && fresh.exists());
}
