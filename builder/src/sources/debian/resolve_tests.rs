use std::fmt::Write;

use super::*;

const DIGEST: &str = "515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f";

/// An index from lines `name version; Field: value; …`.
fn index(lines: &str) -> String {
    let mut text = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut parts = line.split(';');
        let (name, version) = parts.next().unwrap().trim().split_once(' ').unwrap();
        write!(
            text,
            "Package: {name}\nVersion: {version}\nFilename: {name}.deb\nSize: 1\nSHA256: {DIGEST}\n"
        )
        .unwrap();
        for field in parts {
            writeln!(text, "{}", field.trim()).unwrap();
        }
        text.push('\n');
    }
    text
}

fn names(lines: &str, install: &[&str], exclude: &[&str]) -> Result<String, String> {
    let text = index(lines);
    let universe = Universe::new([("s", text.as_str())]).unwrap();
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let result = closure(&universe, &owned(install), &owned(exclude));
    result
        .map(|packages| packages.iter().map(|package| package.name).collect::<Vec<_>>().join(" "))
        .map_err(|error| error.to_string())
}

#[test]
fn depends_and_pre_depends_are_closed_over_and_recommends_are_not() {
    let lines = "
        a 1; Depends: b (>= 2), c:any; Recommends: r
        b 2; Pre-Depends: d
        c 1; Depends: a
        d 1
        r 1";
    assert_eq!(names(lines, &["a"], &[]).unwrap(), "a b c d");
}

#[test]
fn what_is_needed_anyway_decides_a_choice_in_any_order() {
    let lines = "
        a 1; Depends: x | y
        b 1; Depends: z
        x 1
        y 1
        z 1; Depends: y";
    assert_eq!(names(lines, &["a"], &[]).unwrap(), "a x");
    assert_eq!(names(lines, &["a", "b"], &[]).unwrap(), "a b y z");
    assert_eq!(names(lines, &["b", "a"], &[]).unwrap(), "a b y z");
}

#[test]
fn virtual_packages_with_and_without_versions() {
    let lines = "
        a 1; Depends: v (>= 2)
        b 1; Depends: v
        p 1; Provides: v
        q 1; Provides: v (= 3)";
    assert_eq!(names(lines, &["a"], &[]).unwrap(), "a q", "only q provides v in a version");
    assert_eq!(names(lines, &["b"], &[]).unwrap(), "b p", "the first by name");
    assert_eq!(names(lines, &["a", "b"], &[]).unwrap(), "a b q", "q is there anyway");
    assert_eq!(names(lines, &["b"], &["p"]).unwrap(), "b q", "another provider remains");
    assert_eq!(names(lines, &["b"], &["v"]).unwrap(), "b", "the name itself is done without");
}

#[test]
fn excluded_packages_are_left_out_with_what_only_they_need() {
    let lines = "
        a 1; Depends: debconf (>= 0.5) | debconf-2.0, sh
        cdebconf 1; Provides: debconf-2.0
        debconf 1; Provides: debconf-2.0; Depends: perl
        perl 1
        sh 1";
    assert_eq!(names(lines, &["a"], &[]).unwrap(), "a debconf perl sh");
    assert_eq!(names(lines, &["a"], &["debconf", "sh"]).unwrap(), "a");
    let error = names(lines, &["a", "sh"], &["sh"]).unwrap_err();
    assert!(error.starts_with("package \"sh\" is both"), "{error}");
}

#[test]
fn errors_say_who_needs_what_and_what_there_is() {
    let lines = "
        a 1; Depends: b (>= 2) | gone
        b 1
        containerd 1
        conntrack 1
        mail 1; Provides: mail-agent";
    insta::assert_snapshot!(names(lines, &["a"], &[]).unwrap_err(), @r#"a needs "b (>= 2) | gone", and the archive has b 1, the archive has no gone; add the name to the profile's exclude list if it can do without"#);
    insta::assert_snapshot!(names(lines, &["contianerd"], &[]).unwrap_err(), @r#"the archive has no package "contianerd" (similar: containerd); check the package list of the profile, and `components` in [base] of the cluster file"#);
    insta::assert_snapshot!(names(lines, &["mail-agent"], &[]).unwrap_err(), @r#"the archive has no package "mail-agent" (similar: mail); check the package list of the profile, and `components` in [base] of the cluster file"#);
    insta::assert_snapshot!(names(lines, &["zzz"], &[]).unwrap_err(), @r#"the archive has no package "zzz"; check the package list of the profile, and `components` in [base] of the cluster file"#);
}

#[test]
fn conflicts_are_told_before_anything_is_fetched() {
    let lines = "
        a 1; Conflicts: b (<< 2), a
        b 1
        c 1; Breaks: v; Provides: v
        d 1; Provides: v";
    insta::assert_snapshot!(names(lines, &["a", "b"], &[]).unwrap_err(), @"a cannot be installed with b (Conflicts: b (<< 2)); take one of them out of the profile, or exclude it");
    assert!(names(lines, &["c", "d"], &[]).unwrap_err().contains("c cannot be installed with d"));
    assert_eq!(names(lines, &["a", "c"], &[]).unwrap(), "a c", "nobody conflicts with himself");
}

#[test]
fn exact_sets_follow_nothing() {
    let text = index("a 1; Depends: b\nb 1");
    let universe = Universe::new([("s", text.as_str())]).unwrap();
    let packages = exact(&universe, &["a".to_owned(), "a".to_owned()]).unwrap();
    assert_eq!(packages.iter().map(|package| package.name).collect::<Vec<_>>(), ["a"]);
}
