//! Whole cluster files: `fixtures/accept` is taken, `fixtures/warn` with a word, and `fixtures/reject` is refused, both
//! in the words of a snapshot.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bootwright_model::kubernetes::is_node;

use super::*;

/// Relative to the package, which is where cargo runs tests: paths in messages are the same everywhere.
const FIXTURES: &str = "src/cluster/fixtures";

fn fixtures(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(FIXTURES).join(folder)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn load_fixture(path: &Path) -> Result<Loaded, ClusterError> {
    load(path, Some(&Path::new(FIXTURES).join("profiles")))
}

fn refusal(path: &Path) -> Invalid {
    match load_fixture(path) {
        Err(ClusterError::Invalid(invalid)) => invalid,
        other => panic!("{} was not refused: {other:?}", path.display()),
    }
}

fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("fixtures/rendered");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

#[test]
fn refused_files_say_why() {
    for path in fixtures("reject") {
        let invalid = refusal(&path);
        let rendered: String = invalid.0.iter().map(Findings::plain).collect();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        settings().bind(|| insta::assert_snapshot!(name, format!("{rendered}{invalid}")));
    }
}

#[test]
fn sound_files_are_taken_without_a_word() {
    for path in fixtures("accept") {
        let loaded = load_fixture(&path).unwrap_or_else(|error| match error {
            ClusterError::Invalid(invalid) => {
                panic!("{}", invalid.0.iter().map(Findings::plain).collect::<String>())
            }
            other => panic!("{other}"),
        });
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings.plain());
        assert!(loaded.file.nodes.iter().all(|node| node.pod_cidr.is_some() == is_node(&node.role)));
    }
}

#[test]
fn what_deserves_a_second_look_is_said_and_taken() {
    for path in fixtures("warn") {
        let loaded = load_fixture(&path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        settings().bind(|| insta::assert_snapshot!(name, loaded.warnings.plain()));
    }
}

#[test]
fn what_follows_is_filled_in() {
    let loaded = load_fixture(&Path::new(FIXTURES).join("accept/everything.toml")).unwrap();
    let nodes = &loaded.file.nodes;
    assert_eq!(nodes[0].mac.as_deref(), Some("52:54:00:ab:00:01"));
    assert_eq!(nodes[0].pod_cidr.unwrap().to_string(), "10.10.128.0/20");
    assert_eq!(nodes[1].pod_cidr.unwrap().to_string(), "10.10.0.0/25");
    assert_eq!(loaded.profiles.keys().collect::<Vec<_>>(), ["control-plane", "worker"]);
    assert!(loaded.secrets_folder().ends_with("accept/secrets/harbor"));
}

#[test]
fn machines_that_nobody_described_have_an_image() {
    let loaded = load_fixture(&Path::new(FIXTURES).join("accept/unknown-workers.toml")).unwrap();
    assert_eq!(loaded.profiles.keys().collect::<Vec<_>>(), ["all-in-one", "worker"]);
}

/// In the order of the cluster's ranges, whatever the node's was.
#[test]
fn what_follows_is_filled_in_for_both_families() {
    let loaded = load_fixture(&Path::new(FIXTURES).join("accept/dual-stack.toml")).unwrap();
    let shown = |node: &bootwright_model::cluster::Node| {
        let gateways = node.gateway.map(|gateways| gateways.to_string()).unwrap_or_default();
        [node.address.to_string(), gateways, node.pod_cidr.unwrap().to_string()]
    };
    let shown: Vec<_> = loaded.file.nodes.iter().map(shown).collect();
    assert_eq!(
        shown[0],
        ["10.20.0.10/24,fd00:20::10/64", "10.20.0.1,fe80::1", "10.10.0.0/25,fd00:10:10::/65"]
    );
    assert_eq!(shown[1], ["10.20.0.11/24,fd00:20::11/64", "fd00:20::1", "10.10.0.128/25,fd00:10:10:8::/65"]);
}

/// A rule that no fixture breaks is a message that nobody has read.
#[test]
fn every_rule_has_a_fixture() {
    let mut rules = BTreeSet::new();
    for folder in ["src/cluster", "src/cluster/checks", "src/cluster/text"] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // Rules about profiles are shown by the tests of the profiles.
            if path.is_file() && !path.ends_with("checks/profile.rs") {
                rules.extend(rules_in(&std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(rules.len() > 30, "{rules:?}");
    for path in fixtures("reject") {
        for findings in refusal(&path).0 {
            let json = serde_json::to_value(findings.json()).unwrap();
            for finding in json.as_array().unwrap() {
                rules.remove(finding["rule"].as_str().unwrap());
            }
        }
    }
    for path in fixtures("warn") {
        let json = serde_json::to_value(load_fixture(&path).unwrap().warnings.json()).unwrap();
        for finding in json.as_array().unwrap() {
            rules.remove(finding["rule"].as_str().unwrap());
        }
    }
    // "value" is what serde says if the schema and the type disagree; "missing-folder" is a warning.
    // "one-of" and "length" are forms that only profiles have.
    let elsewhere = BTreeSet::from(["length", "missing-folder", "one-of", "value"].map(str::to_owned));
    assert_eq!(rules, elsewhere);
}

/// First arguments of `Finding::new`.
fn rules_in(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap();
    let calls = source.split("Finding::new(").skip(1);
    let literals = calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next());
    literals.map(str::to_owned).collect()
}

#[test]
fn places_are_lines_and_columns_from_one() {
    let path = Path::new(FIXTURES).join("reject/version-v.toml");
    let invalid = refusal(&path);
    let json = serde_json::to_value(invalid.0[0].json()).unwrap();
    assert_eq!(json[0]["places"][0]["line"], 8);
    assert_eq!(json[0]["places"][0]["column"], 11);
    assert_eq!(json[0]["places"][0]["text"], "\"v1.20.2\"");
    assert_eq!(json[0]["severity"], "error");
}

#[test]
fn what_is_no_cluster_file_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cluster.toml");
    assert!(matches!(load(&path, None), Err(ClusterError::Read { .. })));
    std::fs::write(&path, b"name = \"\xff\"").unwrap();
    let error = load(&path, None).unwrap_err();
    assert!(error.to_string().ends_with("line 1, column 9: no UTF-8 text"), "{error}");
    std::fs::File::create(&path).unwrap().set_len(MOST_BYTES + 1).unwrap();
    assert!(matches!(load(&path, None), Err(ClusterError::TooLarge { .. })));
    assert!(matches!(load(folder.path(), None), Err(ClusterError::Read { .. })));
    std::fs::write(&path, b"# \xc3\xa4\n\xc3\xa4 = \"\xff\"").unwrap();
    let error = load(&path, None).unwrap_err();
    assert!(error.to_string().ends_with("line 2, column 6: no UTF-8 text"), "{error}");
}

proptest::proptest! {
    /// Whatever a person writes, they get findings, never a panic.
    #[test]
    fn any_text_is_survived(text in "(\\[{1,2}(cluster|node|image|x)\\]{1,2}\n|(name|endpoint|pod-cidr|node-cidr-bits|address|files|mac|labels) = (\"[a-z0-9./:]{0,12}\"|-?[0-9]{1,20}|\\{.{0,6}\\}|\\[.{0,6}\\]|.{0,6})\n|.{0,8}\n){0,24}") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.toml");
        std::fs::write(&path, text).unwrap();
        if let Err(ClusterError::Invalid(invalid)) = load(&path, None) {
            proptest::prop_assert!(invalid.0.iter().any(Findings::has_errors));
            for findings in &invalid.0 {
                findings.plain();
                findings.json();
            }
        }
    }
}
