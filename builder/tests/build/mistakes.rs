//! Mistakes that show only when something is built: each message says what, where, why and what to do.

use crate::sources::testing::{Fault, refusing_port};
use crate::world::{Ended, World};

/// The build fails, and says all of this.
fn assert_refused(ended: &Ended, expected: &[&str]) {
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let said = ended.said();
    for expected in expected {
        assert!(said.contains(expected), "{expected:?} is not said: {}", ended.stderr);
    }
}

fn edit(world: &World, file: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(world.path(file)).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    world.write(file, text.replacen(from, to, 1).as_bytes());
}

#[test]
fn a_mirror_that_is_not_there_or_has_no_such_suite() {
    let world = World::new();
    let url = world.server.url();
    world.write("cluster.toml", world.cluster_file(&format!("{url}/debian")).as_bytes());
    assert_refused(
        &world.build(),
        &[
            "suite bookworm (from [base] of the cluster file)",
            "answered 404",
            "check the suite and the address",
        ],
    );
    let (_bound, port) = refusing_port();
    world.write("cluster.toml", world.cluster_file(&format!("http://127.0.0.1:{port}")).as_bytes());
    assert_refused(&world.build(), &["Connection refused", "tried 5 times", "check the network, the mirror"]);
}

#[test]
fn a_mirror_without_its_index_and_one_without_a_package() {
    let world = World::new();
    let index = "/dists/bookworm/main/binary-amd64/Packages.xz";
    world.server.always(index, Fault::Status(404));
    // The other address of the same file.
    let by_hash = world.index_by_hash();
    world.server.always(&by_hash, Fault::Status(404));
    assert_refused(
        &world.build(),
        &["the package index: ", index, "answered 404", "set another mirror in [base]"],
    );
    world.server.heal(index);
    world.server.always(&world.payload(), Fault::Status(404));
    assert_refused(&world.build(), &["payload 1", "is not in the archive any more", "answered 404"]);
}

#[test]
fn a_keyring_of_somebody_else() {
    let (world, other) = (World::new(), World::new());
    let text = other.cluster_file(&world.server.url());
    world.write("cluster.toml", text.as_bytes());
    assert_refused(
        &world.build(),
        &["/dists/bookworm/InRelease", "none of its signatures is by a trusted key", "set keyring in [base]"],
    );
    world.write("other.gpg", b"no key");
    let line = text.lines().find(|line| line.starts_with("keyring")).unwrap();
    world.write("cluster.toml", text.replace(line, "keyring = \"other.gpg\"").as_bytes());
    assert_refused(&world.build(), &["keyring ./other.gpg", "name a keyring"]);
}

#[test]
fn a_lock_that_was_edited() {
    let world = World::new();
    world.build().assert_built();
    let good = std::fs::read(world.path("bootwright.lock")).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    let payload = &text[text.find("name = \"payload\"").unwrap()..];
    let line = |key: &str| payload.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    let zeros = "0".repeat(64);
    let edits = [
        (
            line("sha256"),
            format!("sha256 = \"{zeros}\""),
            vec!["payload 1 is not what the lock says", &zeros, "--update"],
        ),
        (
            line("size"),
            "size = 7".to_owned(),
            vec!["payload 1 is not what the lock says", "announced were 7 bytes", "--update"],
        ),
        (
            line("version"),
            "version = \"2\"".to_owned(),
            vec!["payload of the lock: Version is \"2\" there and \"1\" in the package", "--update"],
        ),
        (
            line("path"),
            "path = \"pool/gone.deb\"".to_owned(),
            vec!["payload 1 of the lock is not in the archive any more", "--update"],
        ),
        (
            line("sha256"),
            "sha256 = \"abc\"".to_owned(),
            vec!["bootwright.lock: payload: \"abc\" is not a SHA-256", "--update"],
        ),
        (
            line("name"),
            "nmae = \"payload\"".to_owned(),
            vec!["bootwright.lock: TOML parse error", "unknown field `nmae`", "--update"],
        ),
    ];
    for (from, to, expected) in edits {
        world.write("bootwright.lock", &good);
        // There is none after a lock that could not be read.
        let _ = std::fs::remove_dir_all(world.path("cache"));
        let at = text.find("name = \"payload\"").unwrap();
        world.write(
            "bootwright.lock",
            format!("{}{}", &text[..at], payload.replacen(&from, &to, 1)).as_bytes(),
        );
        assert_refused(&world.build(), &expected);
        world.assert_tidy();
    }
}

/// The packages are in the cache and the layer was made: nothing else would open them again.
#[test]
fn a_version_that_was_edited_in_the_lock_is_noticed_although_all_is_cached() {
    let world = World::new();
    world.build().assert_built();
    edit(&world, "bootwright.lock", "version = \"3.4.23-4\"", "version = \"3.4.23-5\"");
    assert_refused(
        &world.build(),
        &["package etcd-server of the lock: Version is \"3.4.23-5\" there and \"3.4.23-4\"", "--update"],
    );
}

#[test]
fn an_overlay_that_brings_what_a_package_brings() {
    let world = World::new();
    edit(&world, "profiles/all-in-one.toml", "[kernel]", "overlays = [\"mine\"]\n[kernel]");
    assert_refused(&world.build(), &["there is no overlay \"mine\"", "rootfs-overlays/mine"]);
    world.write("rootfs-overlays/mine/usr/bin/etcd", b"another");
    assert_refused(
        &world.build(),
        &["/usr/bin/etcd", "package etcd-server 3.4.23-4", "overlay mine", "replace"],
    );
    world.write("rootfs-overlays/mine.toml", b"replace = [\"/usr/bin/etcd\"]\n");
    world.build().assert_built();
}

#[test]
fn an_output_that_is_a_file_or_below_one() {
    let world = World::new();
    world.write("out", b"mine");
    assert_refused(&world.build(), &["-o names out, which is a file", "name one with -o"]);
    assert_eq!(std::fs::read(world.path("out")).unwrap(), b"mine");
    std::fs::remove_file(world.path("out")).unwrap();
    world.write("file", b"mine");
    std::os::unix::fs::symlink("file/below", world.path("out")).unwrap();
    assert_refused(&world.build(), &["cannot write out: ", "choose another folder with -o"]);
    assert_eq!(world.server.requests(), [""; 0]);
}

#[test]
fn secrets_that_cannot_be_written_stop_a_build_before_it_fetches() {
    let world = World::new();
    world.write("secrets", b"mine");
    assert_refused(&world.build(), &["secrets", "ot a directory"]);
    std::fs::remove_file(world.path("secrets")).unwrap();
    std::os::unix::fs::symlink("/proc", world.path("secrets")).unwrap();
    assert_refused(&world.build(), &["secrets"]);
    assert_eq!(world.server.requests(), [""; 0]);
}

#[test]
fn a_folder_of_profiles_that_is_not_there() {
    let world = World::new();
    let ended = Ended::from(world.command().args(["--profiles", "none"]).output().unwrap());
    assert_eq!(ended.code, Some(2));
    assert!(ended.said().contains("--profiles names none, which is no folder"), "{}", ended.stderr);
}

#[test]
fn kubernetes_that_is_not_there() {
    let world = World::new();
    std::fs::remove_file(world.path("kubernetes/kubelet")).unwrap();
    assert_refused(&world.build(), &["./kubernetes has no kubelet", "1.20.2", "directory in [kubernetes]"]);
    std::fs::remove_dir_all(world.path("kubernetes")).unwrap();
    assert_refused(&world.build(), &["there is no folder ./kubernetes", "(kubelet)", "or set mirror"]);
}
