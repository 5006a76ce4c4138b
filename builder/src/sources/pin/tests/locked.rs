//! What a lock keeps, and what it does not fit.

use super::*;

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
fn a_lock_that_does_not_fit_says_what_differs() {
    let mut bench = bench();
    bench.files = strings(&["page.html"]);
    let page = bench.folder.path().join("page.html");
    fs::write(&page, "one").unwrap();
    let (lock, _) = bench.inputs(None, false).unwrap();

    fs::write(&page, "two!").unwrap();
    insta::assert_snapshot!(bench.error(Some(&lock)), @"/cluster/page.html changed: SHA-256 a97b629a5b1da759586c3353a9bc284bf673970d8eca56e11e556b715c329614, 4 bytes, and was 7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed, 3 bytes, so the lock does not describe this build; build with --update to renew it");
    fs::write(&page, "one").unwrap();

    bench.sets[0].install = strings(&["loader"]);
    insta::assert_snapshot!(bench.error(Some(&lock)), @r#"the packages of set "os" changed (+loader -app), so the lock does not describe this build; build with --update to renew it"#);
    bench.sets[0] = set("os", &["app"], true);
    bench.sets[0].exclude = strings(&["lib"]);
    insta::assert_snapshot!(bench.error(Some(&lock)), @r#"the excluded packages of set "os" changed (+lib), so the lock does not describe this build; build with --update to renew it"#);
    bench.sets[0] = set("os", &["app"], false);
    insta::assert_snapshot!(bench.error(Some(&lock)), @r#"package set "os" is now without dependencies, so the lock does not describe this build; build with --update to renew it"#);
    bench.sets[0] = set("more", &["app"], true);
    insta::assert_snapshot!(bench.error(Some(&lock)), @r#"package set "more" is new, so the lock does not describe this build; build with --update to renew it"#);
    bench.sets.remove(0);
    bench.inputs(Some(&lock), false).unwrap();
    bench.base.suite = "trixie".to_owned();
    insta::assert_snapshot!(bench.error(Some(&lock)), @r#"suite is "trixie" and was "bookworm", so the lock does not describe this build; build with --update to renew it"#);
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
    insta::assert_snapshot!(bench.error(Some(&lock)), @"lib 1.10-1 of the lock is not in the archive any more (http://mirror/pool/main/l/lib/lib_1.10-1_amd64.deb: the server answered 404); build with --update to take what is current, or set mirror in [base] to one that keeps old packages");
}
