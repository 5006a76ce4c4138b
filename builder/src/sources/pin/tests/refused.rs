//! Archives that are not believed, and what is not in them.

use super::*;

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
    insta::assert_snapshot!(bench.error(None), @r#"package set "os": the archive has no package "ap" (similar: app); check the package list of the profile, and `components` in [base] of the cluster file"#);
    bench.base.suite = "trixie".to_owned();
    insta::assert_snapshot!(bench.error(None), @"suite trixie (from [base] of the cluster file): http://mirror/dists/trixie/InRelease: the server answered 404; check the suite and the address of the mirror, which ends before /dists");
}
