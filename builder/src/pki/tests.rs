//! The secrets folder as a person meets it, and its certificates against the `openssl` program.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use super::*;

struct Place {
    root: tempfile::TempDir,
    folder: PathBuf,
}

impl Place {
    fn new() -> Place {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(&root.path().join("harbor.toml"), "harbor");
        Place { root, folder }
    }

    fn open(&self) -> Result<Secrets, PkiError> {
        self.open_in(0)
    }

    /// Opens it that many days from now.
    fn open_in(&self, days: u64) -> Result<Secrets, PkiError> {
        open_or_create(&self.folder, "harbor", SystemTime::now() + Duration::from_secs(days * DAY))
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// An empty folder as somebody makes it to supply files.
    fn prepare(&self) {
        fs::create_dir_all(&self.folder).unwrap();
        fs::set_permissions(&self.folder, Permissions::from_mode(0o700)).unwrap();
    }

    fn private(&self, name: &str) {
        fs::set_permissions(self.folder.join(name), Permissions::from_mode(0o600)).unwrap();
    }

    fn message(&self, result: Result<Secrets, PkiError>) -> String {
        result.unwrap_err().to_string().replace(self.root.path().to_str().unwrap(), "")
    }
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is needed by this test");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn made_once_and_reused() {
    let place = Place::new();
    let first = place.open().unwrap();
    assert_eq!(first.created().len(), 11);
    let second = place.open().unwrap();
    assert!(second.created().is_empty());
    assert_eq!(first.baked_files(), second.baked_files());
    assert_eq!(first.digest(), second.digest());
    assert_eq!(first.kubeconfig("https://127.0.0.1:1"), second.kubeconfig("https://127.0.0.1:1"));
    let names: Vec<_> = first.baked_files().iter().map(|file| (file.name, file.mode)).collect();
    assert_eq!(
        names,
        [
            ("ca.crt", 0o644),
            ("ca.key", 0o600),
            ("front-proxy-ca.crt", 0o644),
            ("front-proxy-ca.key", 0o600),
            ("etcd-ca.crt", 0o644),
            ("etcd-ca.key", 0o600),
            ("sa.pub", 0o644),
            ("sa.key", 0o600),
            ("bootstrap-token", 0o600),
        ]
    );
    assert_ne!(first.digest(), Place::new().open().unwrap().digest());
}

#[test]
fn private_on_the_disk_and_in_debug_output() {
    let place = Place::new();
    let secrets = place.open().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.folder), 0o700);
    assert_eq!(mode(place.folder.parent().unwrap()), 0o700);
    for entry in fs::read_dir(&place.folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let secret = name.ends_with(".key") || name == "bootstrap-token";
        assert_eq!(mode(&path), if secret { 0o600 } else { 0o644 }, "{name}");
    }
    let kubeconfig = place.root.path().join("kubeconfig");
    fs::write(&kubeconfig, "old").unwrap();
    secrets.write_kubeconfig(&kubeconfig, "https://127.0.0.1:6443").unwrap();
    assert_eq!(mode(&kubeconfig), 0o600);
    let debug = format!("{secrets:?}");
    assert!(!debug.contains("PRIVATE") && !debug.contains("45, 45, 45"), "{debug}");
    // Nothing temporary is left behind.
    let names: Vec<_> =
        fs::read_dir(place.folder.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn openssl_agrees() {
    let place = Place::new();
    let secrets = place.open().unwrap();
    for (name, subject) in
        [("ca", "kubernetes"), ("front-proxy-ca", "front-proxy-ca"), ("etcd-ca", "etcd-ca")]
    {
        let (certificate, key) = (place.path(&format!("{name}.crt")), place.path(&format!("{name}.key")));
        openssl(&["verify", "-x509_strict", "-check_ss_sig", "-CAfile", &certificate, &certificate]);
        let public = openssl(&["x509", "-noout", "-pubkey", "-in", &certificate]);
        assert_eq!(public, openssl(&["pkey", "-pubout", "-in", &key]));
        let text = openssl(&[
            "x509",
            "-noout",
            "-subject",
            "-ext",
            "basicConstraints,keyUsage",
            "-in",
            &certificate,
        ]);
        assert!(text.contains(&format!("O = harbor, CN = {subject}")), "{text}");
        assert!(text.contains("CA:TRUE") && text.contains("Certificate Sign"), "{text}");
        // Nine years from now, and not yet a year later.
        openssl(&["x509", "-noout", "-checkend", &(9 * 365 * DAY).to_string(), "-in", &certificate]);
    }
    let admin = place.path("admin.crt");
    openssl(&["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", &place.path("ca.crt"), &admin]);
    assert!(
        openssl(&["x509", "-noout", "-subject", "-in", &admin])
            .contains("O = system:masters, CN = kubernetes-admin")
    );
    let public = fs::read_to_string(place.path("sa.pub")).unwrap();
    assert_eq!(public.replace("\r\n", "\n"), openssl(&["pkey", "-pubout", "-in", &place.path("sa.key")]));
    let config: serde_json::Value =
        serde_json::from_str(&secrets.kubeconfig("https://127.0.0.1:16443")).unwrap();
    assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:16443");
    let data = config["users"][0]["user"]["client-certificate-data"].as_str().unwrap();
    assert_eq!(STANDARD.decode(data).unwrap(), fs::read(&admin).unwrap());
}

#[test]
fn a_kubelet_is_its_node_for_a_day() {
    let place = Place::new();
    place.open().unwrap();
    let names = ["n1", "n2"].map(str::to_owned);
    let made = kubelets(&place.folder, &names, SystemTime::now()).unwrap();
    assert_eq!(made.len(), 2);
    let file = place.root.path().join("n2.crt");
    fs::write(&file, &made[1][0]).unwrap();
    let file = file.to_str().unwrap();
    openssl(&["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", &place.path("ca.crt"), file]);
    let subject = openssl(&["x509", "-noout", "-subject", "-in", file]);
    assert!(subject.contains("O = system:nodes, CN = system:node:n2"), "{subject}");
    openssl(&["x509", "-noout", "-checkend", &(DAY - 60).to_string(), "-in", file]);
    let mut later = Command::new("openssl");
    later.args(["x509", "-noout", "-checkend", &(DAY + 60).to_string(), "-in", file]);
    assert!(!later.output().unwrap().status.success(), "it does not end in a day");
}

#[test]
fn the_administrator_is_renewed_and_nothing_else() {
    let place = Place::new();
    let first = place.open().unwrap();
    let later = place.open_in(300).unwrap();
    assert_eq!(later.created(), ["admin.crt", "admin.key"]);
    assert_eq!(first.digest(), later.digest());
    assert!(place.open_in(300).unwrap().created().is_empty());
    fs::remove_file(place.path("admin.key")).unwrap();
    assert_eq!(place.open().unwrap().created(), ["admin.crt", "admin.key"]);
}

#[test]
fn a_damaged_folder_is_never_mended_in_silence() {
    let failure = |break_it: &dyn Fn(&Place)| {
        let place = Place::new();
        place.open().unwrap();
        break_it(&place);
        place.message(place.open())
    };
    let remove = |name: &'static str| failure(&move |place| fs::remove_file(place.path(name)).unwrap());
    insta::assert_snapshot!(remove("ca.key"), @"/secrets/harbor/ca.key is missing; take it from a backup, or, if no machine of the cluster is left, remove the whole folder and build again to get new secrets");
    insta::assert_snapshot!(remove("sa.pub"), @"/secrets/harbor/sa.pub is missing; take it from a backup, or, if no machine of the cluster is left, remove the whole folder and build again to get new secrets");
    assert!(remove("bootstrap-token").contains("bootstrap-token is missing"));
    let overwrite = |name: &'static str, text: &'static str| {
        failure(&move |place| fs::write(place.path(name), text).unwrap())
    };
    insta::assert_snapshot!(overwrite("ca.crt", ""), @"/secrets/harbor/ca.crt is no certificate of an authority: there is no certificate in it; take the right file from a backup");
    insta::assert_snapshot!(overwrite("ca.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), @"/secrets/harbor/ca.key cannot be used: it is damaged, or of another kind than RSA of 2048 to 4096 bits, P-256, P-384 and Ed25519; if it is a good key, convert it: openssl pkcs8 -topk8 -nocrypt -in /secrets/harbor/ca.key -out key.new && mv key.new /secrets/harbor/ca.key");
    insta::assert_snapshot!(overwrite("bootstrap-token", "secret"), @"/secrets/harbor/bootstrap-token is no bootstrap token: it has to be six characters of a-z and 0-9, a dot, and sixteen more");
    insta::assert_snapshot!(overwrite("sa.pub", "x"), @"/secrets/harbor/sa.pub is no public key: PEM error: malformedframing; make it anew: openssl pkey -in /secrets/harbor/sa.key -pubout -out /secrets/harbor/sa.pub");
    insta::assert_snapshot!(failure(&|place| { fs::copy(place.path("etcd-ca.key"), place.path("ca.key")).unwrap(); }), @"/secrets/harbor/ca.key does not belong to /secrets/harbor/ca.crt; take both from the same backup");
    insta::assert_snapshot!(failure(&|place| { fs::copy(place.path("ca.key"), place.path("sa.key")).unwrap(); }), @"/secrets/harbor/sa.key does not belong to /secrets/harbor/sa.pub; take both from the same backup");
    insta::assert_snapshot!(failure(&|place| { fs::copy(place.path("admin.crt"), place.path("ca.crt")).unwrap(); }), @"/secrets/harbor/ca.crt is no certificate of an authority: its basic constraints do not say CA; take the right file from a backup");
    insta::assert_snapshot!(failure(&|place| fs::set_permissions(place.path("ca.key"), Permissions::from_mode(0o644)).unwrap()), @"/secrets/harbor/ca.key can be read by others (mode 0644); run: chmod 600 /secrets/harbor/ca.key");
    insta::assert_snapshot!(failure(&|place| fs::set_permissions(&place.folder, Permissions::from_mode(0o750)).unwrap()), @"/secrets/harbor can be read by others (mode 0750); run: chmod 700 /secrets/harbor");
    insta::assert_snapshot!(failure(&|place| fs::write(place.path("cluster"), "quay\n").unwrap()), @r#"/secrets/harbor holds the secrets of the cluster "quay", not of "harbor"; give the cluster file its old name, or move the folder to where that cluster's file expects it"#);
    insta::assert_snapshot!(failure(&|place| { fs::remove_dir_all(&place.folder).unwrap(); fs::write(&place.folder, "").unwrap(); }), @"/secrets/harbor is no folder; move it away, the cluster's secrets go there");
    insta::assert_snapshot!(failure(&|place| { fs::write(place.path("ca.crt"), [0xff, 0xfe]).unwrap(); }), @"/secrets/harbor/ca.crt is no text file: it has bytes that are no UTF-8; take the right file from a backup");
}

#[test]
fn an_authority_ends() {
    let place = Place::new();
    place.open().unwrap();
    assert!(place.message(place.open_in(3651)).contains("/secrets/harbor/ca.crt expired at "));
    let early = open_or_create(&place.folder, "harbor", SystemTime::now() - Duration::from_secs(2 * DAY));
    assert!(place.message(early).contains("set this machine's clock"));
}

/// Authorities from elsewhere, in every form of key that people have.
#[test]
fn supplied_authorities_are_taken() {
    let rsa: &[&str] = &["genrsa", "-traditional", "-out"];
    let pkcs8: &[&str] = &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"];
    let sec1: &[&str] = &["ecparam", "-name", "prime256v1", "-genkey", "-out"];
    let sec1_384: &[&str] = &["ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out"];
    for make in [rsa, pkcs8, sec1, sec1_384] {
        let place = Place::new();
        place.prepare();
        let (key, certificate) = (place.path("ca.key"), place.path("ca.crt"));
        openssl(&[make, &[&key]].concat());
        openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            &key,
            "-days",
            "1000",
            "-subj",
            "/CN=own",
            "-out",
            &certificate,
        ]);
        place.private("ca.key");
        let original = fs::read(&key).unwrap();

        let secrets = place.open().unwrap();
        assert!(!secrets.created().iter().any(|name| name == "ca.key" || name == "ca.crt"));
        assert_eq!(fs::read(&key).unwrap(), original, "the file is left as it is");
        let baked = &secrets.baked_files()[1].contents;
        assert!(baked.starts_with(b"-----BEGIN PRIVATE KEY-----"));
        let converted = place.root.path().join("converted.key");
        fs::write(&converted, baked).unwrap();
        assert_eq!(
            openssl(&["pkey", "-pubout", "-in", converted.to_str().unwrap()]),
            openssl(&["pkey", "-pubout", "-in", &key]),
            "{make:?}"
        );
        openssl(&["verify", "-CAfile", &certificate, &place.path("admin.crt")]);
        assert!(place.open().unwrap().created().is_empty());
    }
}

#[test]
fn supplied_halves_and_unusable_keys_are_refused() {
    let place = Place::new();
    place.prepare();
    fs::write(place.path("ca.crt"), "").unwrap();
    insta::assert_snapshot!(place.message(place.open()), @"/secrets/harbor/ca.crt is there without /secrets/harbor/ca.key; supply both, or remove it to have both made");

    for (make, reason) in [
        (&["genrsa", "-aes128", "-passout", "pass:secret", "-traditional", "-out"][..], "it is encrypted"),
        (&["genrsa", "-aes128", "-passout", "pass:secret", "-out"], "it is encrypted"),
        (&["ecparam", "-name", "secp521r1", "-genkey", "-out"], "of another kind than"),
        (&["genrsa", "-out"][..], "does not belong to"),
    ] {
        let place = Place::new();
        place.open().unwrap();
        openssl(&[make, &[&place.path("ca.key")]].concat());
        place.private("ca.key");
        let message = place.message(place.open());
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn builds_at_the_same_time_agree() {
    let place = Place::new();
    let digests: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(|| place.open().unwrap().digest())).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}
