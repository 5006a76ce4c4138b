use super::*;

struct Machine(tempfile::TempDir);

impl Machine {
    fn new(files: &[(&str, &str)]) -> Machine {
        let machine = Machine(tempfile::tempdir().unwrap());
        machine.write("etc/apt/trusted.gpg.d/all.gpg", "key");
        machine.write("usr/share/keyrings/debian-archive-keyring.gpg", "key");
        for (path, text) in files {
            machine.write(path, text);
        }
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, suite: &str) -> Result<Vec<Source>, SourceError> {
        read(self.0.path(), suite, &AptConfig::read(self.0.path()))
    }

    fn brief(&self, suite: &str) -> Vec<String> {
        let sources = self.read(suite).unwrap();
        let line = |source: &Source| {
            let keyrings: Vec<String> = source
                .trust
                .keyrings
                .iter()
                .map(|path| path.strip_prefix(self.0.path()).unwrap().display().to_string())
                .collect();
            format!("{} {} {:?} {}", source.url, source.suite, source.components, keyrings.join(" "))
        };
        sources.iter().map(line).collect()
    }
}

#[test]
fn deb822_with_comments_between_fields() {
    let machine = Machine::new(&[(
        "etc/apt/sources.list.d/debian.sources",
        "Types: deb\n# a comment\nURIs: http://one.test/debian/\nSuites: bookworm bookworm-updates bookworm-backports\n\
         Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
         Types: deb deb-src\nURIs: http://one.test/debian-security\nSuites: bookworm-security\nComponents: main\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\nCheck-Valid-Until: no\n\n\
         Enabled: no\nTypes: deb\nURIs: http://off.test/\nSuites: bookworm\nComponents: main\n\n\
         Types: deb-src\nURIs: http://src.test/\nSuites: bookworm\nComponents: main\n",
    )]);
    insta::assert_snapshot!(machine.brief("bookworm").join("\n"), @r#"
    http://one.test/debian bookworm ["main"] usr/share/keyrings/debian-archive-keyring.gpg
    http://one.test/debian bookworm-updates ["main"] usr/share/keyrings/debian-archive-keyring.gpg
    http://one.test/debian-security bookworm-security ["main"] usr/share/keyrings/debian-archive-keyring.gpg
    "#);
    let checks: Vec<bool> = machine.read("bookworm").unwrap().iter().map(|s| s.check_valid_until).collect();
    assert_eq!(checks, [true, true, false]);
}

#[test]
fn one_line_with_options_and_other_vendors() {
    let machine = Machine::new(&[
        (
            "etc/apt/sources.list",
            "# deb http://no.test/ bookworm main\n\
             deb cdrom:[Debian GNU/Linux 12 _Bookworm_]/ bookworm main\n\
             deb http://one.test/debian bookworm main contrib # the archive\n\
             deb http://one.test/debian bookworm non-free-firmware main\n\
             deb [arch=arm64] http://arm.test/debian bookworm main\n\
             deb [ arch=amd64,i386 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg trusted=yes check-date=no ] \
             https://two.test/security/ bookworm-security main\n\
             deb-src http://one.test/debian bookworm main\n",
        ),
        ("etc/apt/sources.list.d/docker.list", "deb [arch=amd64] http://other.test/debian bookworm stable\n"),
        ("etc/apt/sources.list.d/old.list.save", "deb http://save.test/debian bookworm main\n"),
    ]);
    insta::assert_snapshot!(machine.brief("bookworm").join("\n"), @r#"
    http://one.test/debian bookworm ["main", "contrib", "non-free-firmware"] etc/apt/trusted.gpg.d/all.gpg
    https://two.test/security bookworm-security ["main"] usr/share/keyrings/debian-archive-keyring.gpg
    "#);
    let error = machine.read("trixie").unwrap_err();
    insta::assert_snapshot!(error, @r#"this machine's apt sources have no Debian suite "trixie" (found: bookworm, bookworm-security); set mirror in [base] of the cluster file, or another suite"#);
}

#[test]
fn mirror_lists_of_cloud_images() {
    let machine = Machine::new(&[
        (
            "etc/apt/sources.list.d/debian.sources",
            "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: bookworm\nComponents: main\n",
        ),
        (
            "etc/apt/mirrors/debian.list",
            "# first\nhttps://one.test/debian\tpriority:1\nhttps://two.test/debian\n",
        ),
    ]);
    assert_eq!(
        machine.brief("bookworm"),
        [r#"https://one.test/debian bookworm ["main"] etc/apt/trusted.gpg.d/all.gpg"#]
    );
}

#[test]
fn keys_by_fingerprint_and_embedded() {
    let machine = Machine::new(&[(
        "etc/apt/sources.list.d/a.sources",
        "Types: deb\nURIs: http://one.test\nSuites: bookworm\nComponents: main\n\
         Signed-By: 0123456789abcdef0123456789abcdef01234567!\n\n\
         Types: deb\nURIs: http://two.test\nSuites: bookworm\nComponents: main\nSigned-By:\n \
         -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n AAAA\n -----END PGP PUBLIC KEY BLOCK-----\n",
    )]);
    let sources = machine.read("bookworm").unwrap();
    assert_eq!(sources[0].trust.fingerprints, ["0123456789ABCDEF0123456789ABCDEF01234567!"]);
    assert_eq!(
        sources[1].trust.embedded.as_deref(),
        Some("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----")
    );
}

#[test]
fn bad_files_are_named_with_the_line() {
    let machine =
        Machine::new(&[("etc/apt/sources.list", "\ndeb [arch=amd64 http://one.test bookworm main\n")]);
    let error = machine.read("bookworm").unwrap_err().to_string();
    assert!(error.ends_with("etc/apt/sources.list: line 2: the options have no closing bracket"), "{error}");
    let machine = Machine::new(&[(
        "etc/apt/sources.list",
        "deb [signed-by=/nowhere.gpg] http://one.test bookworm main\n",
    )]);
    let error = machine.read("bookworm").unwrap_err().to_string();
    assert!(error.contains("sources.list:1: signed-by names ") && error.contains("nowhere.gpg"), "{error}");
}
