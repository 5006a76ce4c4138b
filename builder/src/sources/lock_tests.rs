use super::*;

const DIGEST: &str = "515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f";

fn lock() -> Lock {
    let mut lock = Lock::new("bookworm", 1_783_764_997);
    lock.sets.push(LockedSet {
        name: "os".to_owned(),
        dependencies: true,
        install: vec!["a".to_owned()],
        exclude: vec![],
        packages: vec!["a".to_owned()],
    });
    lock.packages.push(LockedPackage {
        name: "a".to_owned(),
        version: "1:2-3".to_owned(),
        architecture: "amd64".to_owned(),
        suite: "bookworm-security".to_owned(),
        path: "pool/main/a/a/a_2-3_amd64.deb".to_owned(),
        size: 7,
        sha256: DIGEST.to_owned(),
    });
    lock.binaries.push(LockedBinary {
        name: "kubelet".to_owned(),
        version: "1.20.2".to_owned(),
        size: 8,
        sha256: DIGEST.to_owned(),
    });
    lock.files.push(LockedFile { path: "web.html".to_owned(), size: 9, sha256: DIGEST.to_owned() });
    lock
}

#[test]
fn the_text_of_a_lock() {
    insta::assert_snapshot!(lock().to_text());
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(LOCK_FILE);
    assert_eq!(Lock::read(&path).unwrap(), None);
    lock().write(&path).unwrap();
    assert_eq!(Lock::read(&path).unwrap(), Some(lock()));
    lock().write(&path).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    let error = lock().write(&folder.path().join("none/bootwright.lock")).unwrap_err();
    assert!(matches!(error, LockError::Io { action: "write", .. }), "{error}");
}

#[test]
fn damaged_locks_say_where() {
    let reason = |text: &str| Lock::parse(text).unwrap_err();
    let good = lock().to_text();
    insta::assert_snapshot!(reason(&good.replace("epoch = ", "epoch ")), @r"
    TOML parse error at line 6, column 7
      |
    6 | epoch 1783764997
      |       ^
    key with no value, expected `=`
    ");
    assert!(reason(&good.replace("epoch", "epoche")).contains("unknown field `epoche`"));
    assert_eq!(
        reason(&good.replace("version = 1\n", "version = 2\n")),
        "layout 2 is not known to this bootwright, which writes 1"
    );
    assert!(reason(&good.replacen(DIGEST, "515e", 1)).contains("a: \"515e\" is not a SHA-256"));
    assert!(reason(&good.replace("pool/main", "../main")).contains("leads out of the archive"));
    assert!(reason(&good.replace("name = \"a\"", "name = \"b\"")).contains("which is not in the lock"));
}
