//! The program as a person or a script runs it: exit codes, what goes to stdout, what to stderr.

// An integration test is a crate of its own, and clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use assert_cmd::Command;

/// A profile so that these tests stand by themselves.
const PROFILE: &str = "role = \"all-in-one\"\ndescription = \"for tests\"\nkubernetes = [\"1.20\"]\n\
    [kernel]\nflavour = \"cloud\"\nmodules = []\ninitramfs-modules = []\n[packages]\ninstall = [\"libc6\"]\n\
    [[service]]\nname = \"etcd\"\ncommand = [\"/usr/bin/etcd\"]\n";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("profiles")).unwrap();
    std::fs::write(folder.path().join("profiles/all-in-one.toml"), PROFILE).unwrap();
    folder
}

fn bootwright(folder: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::cargo_bin("bootwright").unwrap();
    command.current_dir(folder).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn what_init_writes_check_accepts_and_plan_shows() {
    let folder = folder();
    let init = bootwright(folder.path(), &["init", "--name", "harbor", "--address", "10.20.0.10/24"]);
    assert_eq!(init.status.code(), Some(0), "{}", text(&init.stderr));
    let check = bootwright(folder.path(), &["check"]);
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stderr));
    assert_eq!(
        text(&check.stdout),
        "cluster.toml: cluster harbor with 1 node and 0 workload images: no error\n\
         note: no cluster DNS is run, as there is no [dns] with an image: pods ask the nodes' resolvers, and find no \
         Service by its name\n"
    );
    // The binaries are not there yet: said, not refused.
    assert!(text(&check.stderr).contains("kubernetes: no such file or folder"));
    let plan = bootwright(folder.path(), &["plan", "--json"]);
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert_eq!(plan["nodes"][0]["gateway"], "10.20.0.1");
    assert_eq!(plan["nodes"][0]["pod-cidr"], "10.10.0.0/24");
    assert!(plan["cluster"]["dns-service"].is_null());
    assert_eq!(plan["roles"][0]["services"][0]["name"], "etcd");
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "plan wrote something: {left:?}");
}

#[test]
fn init_never_overwrites() {
    let folder = folder();
    std::fs::write(folder.path().join("cluster.toml"), "mine").unwrap();
    let init = bootwright(folder.path(), &["init"]);
    assert_eq!(init.status.code(), Some(2));
    assert!(text(&init.stderr).contains("is there already"), "{}", text(&init.stderr));
    assert_eq!(std::fs::read(folder.path().join("cluster.toml")).unwrap(), b"mine");
}

#[test]
fn init_refuses_options_that_do_not_fit() {
    let folder = folder();
    let init = bootwright(folder.path(), &["init", "--name", "Harbor", "--gateway", "10.9.9.9"]);
    assert_eq!(init.status.code(), Some(2));
    let said = text(&init.stderr);
    assert!(said.contains("capital letters") && said.contains("outside the node's network"), "{said}");
    assert!(!folder.path().join("cluster.toml").exists());
}

#[test]
fn init_says_how_long_a_prefix_can_be() {
    let folder = folder();
    for (address, longest) in [("10.20.0.10/33", "0 to 32"), ("fd00::1/129", "0 to 128")] {
        let init = bootwright(folder.path(), &["init", "--address", address]);
        assert_eq!(init.status.code(), Some(2));
        assert!(text(&init.stderr).contains(longest), "{}", text(&init.stderr));
    }
}

#[test]
fn bad_input_is_exit_code_2_with_everything_that_is_wrong() {
    let folder = folder();
    std::fs::write(folder.path().join("cluster.toml"), "[cluster]\nname = \"A\"\nnme = 1\n").unwrap();
    let check = bootwright(folder.path(), &["check"]);
    assert_eq!(check.status.code(), Some(2));
    assert!(check.stdout.is_empty());
    let said = text(&check.stderr);
    for expected in
        ["capital letters", "no key `nme`", "`cluster.endpoint` is missing", "no [kubernetes] section"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let last = said.lines().last().unwrap();
    assert!(last.ends_with("ask again with `bootwright check -f cluster.toml`."), "{last}");
}

#[test]
fn json_findings_are_one_object_on_stdout() {
    let folder = folder();
    std::fs::write(folder.path().join("cluster.toml"), "[cluster]\nname = \"A\"\n").unwrap();
    let check = bootwright(folder.path(), &["check", "--json"]);
    assert_eq!(check.status.code(), Some(2));
    assert!(check.stderr.is_empty(), "{}", text(&check.stderr));
    let report: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let findings = report["findings"].as_array().unwrap();
    let name = findings.iter().find(|finding| finding["rule"] == "name").unwrap();
    assert_eq!(name["places"][0]["line"], 2);
    assert_eq!(name["places"][0]["column"], 8);
}

#[test]
fn a_file_that_is_not_there_and_a_misspelt_option_are_exit_code_2() {
    let folder = folder();
    let check = bootwright(folder.path(), &["check", "-f", "none.toml"]);
    assert_eq!(check.status.code(), Some(2));
    assert!(text(&check.stderr).contains("cannot read the cluster file none.toml"));
    assert_eq!(bootwright(folder.path(), &["check", "--fiel", "x"]).status.code(), Some(2));
}

#[test]
fn the_examples_are_sound() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let store = folder();
    let profiles = store.path().join("profiles");
    for entry in std::fs::read_dir(&examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let arguments = ["check", "--profiles", profiles.to_str().unwrap(), "-f", path.to_str().unwrap()];
            let check = bootwright(&examples, &arguments);
            assert_eq!(check.status.code(), Some(0), "{}", text(&check.stderr));
        }
    }
}

#[test]
fn a_bench_that_cannot_measure_prints_its_table_with_the_reasons() {
    let folder = folder();
    let init = bootwright(folder.path(), &["init", "--name", "harbor", "--address", "10.20.0.10/24"]);
    assert_eq!(init.status.code(), Some(0), "{}", text(&init.stderr));
    // Neither needs the network: the cluster file names a folder of binaries that is not there.
    let arguments =
        ["lab", "bench", "--only", "size,mkosi", "--runs", "1", "--mkosi", "./mkosi", "--cache", "cache"];
    let bench = bootwright(folder.path(), &arguments);
    assert_eq!(bench.status.code(), Some(1), "{}", text(&bench.stderr));
    let table = text(&bench.stdout);
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let expected = [
        "| mkosi, tar without Kubernetes: cold, packages cached |  |  | not measured: cannot start ./mkosi: ",
        "| mkosi, tar without Kubernetes: incremental, a file changed |  |  | not measured: cannot start ./mkosi: ",
        "| raw image, logical size | 512 MB | 300 MB | not measured: the image could not be built: ",
        "| image, zstd -3 | 200 MB | 160 MB | not measured: the image could not be built: ",
        "| worker image, zstd -3 | 120 MB | 100 MB | not measured: the image could not be built: ",
    ];
    assert_eq!(rows.len(), expected.len(), "{table}");
    for (row, expected) in rows.iter().zip(expected) {
        assert!(row.starts_with(expected), "{row}");
    }
    let said = text(&bench.stderr);
    assert!(said.contains("5 figures were not measured; the table says why"), "{said}");
}

#[test]
fn a_boot_that_is_refused_shows_no_console_of_an_earlier_one() {
    let folder = folder();
    let init = bootwright(folder.path(), &["init", "--name", "harbor", "--address", "10.20.0.10/24"]);
    assert_eq!(init.status.code(), Some(0), "{}", text(&init.stderr));
    std::fs::create_dir_all(folder.path().join("out/machine")).unwrap();
    std::fs::write(folder.path().join("out/machine/console.log"), "[   1.000] of another boot\n").unwrap();
    for options in [&["--node", "cp9"][..], &[][..]] {
        let arguments = [&["lab", "boot", "--cache", "cache"], options].concat();
        let boot = bootwright(folder.path(), &arguments);
        assert_eq!(boot.status.code(), Some(1), "{}", text(&boot.stderr));
        assert!(!text(&boot.stdout).contains("of another boot"), "{}", text(&boot.stdout));
    }
}

#[test]
fn without_a_place_for_the_cache_every_command_fails_alike_and_the_help_says_what_codes_mean() {
    let folder = folder();
    let init = bootwright(folder.path(), &["init", "--name", "harbor", "--address", "10.20.0.10/24"]);
    assert_eq!(init.status.code(), Some(0), "{}", text(&init.stderr));
    for arguments in [&["plan"][..], &["lab", "boot"]] {
        let mut command = Command::cargo_bin("bootwright").unwrap();
        command.current_dir(folder.path()).args(arguments).env_remove("HOME").env_remove("XDG_CACHE_HOME");
        let ended = command.output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {}", text(&ended.stderr));
        assert!(text(&ended.stderr).contains("neither XDG_CACHE_HOME nor HOME is set"), "{arguments:?}");
    }
    let help = text(&bootwright(folder.path(), &["--help"]).stdout);
    for code in ["0    done", "1    it failed", "2    what a person wrote", "130  ended with Ctrl-C"] {
        assert!(help.contains(code), "{help}");
    }
}

#[test]
fn routes_are_printed_in_the_language_that_is_asked_for() {
    let folder = folder();
    let init = bootwright(folder.path(), &["init", "--name", "harbor", "--address", "10.20.0.10/24"]);
    assert_eq!(init.status.code(), Some(0), "{}", text(&init.stderr));
    let routes = |arguments: &[&str]| {
        let ended = bootwright(folder.path(), &[&["routes"], arguments].concat());
        assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
        text(&ended.stdout)
    };
    assert!(routes(&[]).ends_with("ip -4 route replace 10.10.0.0/24 via 10.20.0.10\n"), "{}", routes(&[]));
    let json: serde_json::Value = serde_json::from_str(&routes(&["--format", "json"])).unwrap();
    assert_eq!(json["routes"][0]["via"], "10.20.0.10");
    assert_eq!(bootwright(folder.path(), &["routes", "--format", "cisco"]).status.code(), Some(2));
}

#[test]
fn a_cluster_that_cannot_be_looked_at_is_no_cluster_that_failed() {
    let folder = folder();
    let validate = |file: &str| {
        std::fs::write(folder.path().join("kubeconfig"), file).unwrap();
        bootwright(folder.path(), &["validate", "--kubeconfig", "kubeconfig"])
    };
    let ended = validate("current-context: none\n");
    assert_eq!(ended.status.code(), Some(2), "{}", text(&ended.stderr));
    assert!(text(&ended.stderr).contains("no context \"none\""), "{}", text(&ended.stderr));
    // A port that nobody listens on.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = validate(&format!(
        "current-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
         clusters: [{{name: a, cluster: {{server: \"https://{nobody}\", certificate-authority: ca.crt}}}}]\n\
         users: [{{name: a, user: {{token: abc}}}}]\n"
    ));
    // The authority is named and not there.
    assert_eq!(ended.status.code(), Some(2), "{}", text(&ended.stderr));
    assert!(text(&ended.stderr).contains("certificate-authority ca.crt"), "{}", text(&ended.stderr));
}
