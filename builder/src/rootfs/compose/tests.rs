use super::*;

#[test]
fn upstream_versions_are_what_upstream_calls_them() {
    for (debian, upstream) in [
        ("1.6.20~ds1-1+deb12u3", "1.6.20"),
        ("3.4.23-4+b4", "3.4.23"),
        ("1:1.4.7-1+b2", "1.4.7"),
        ("2.0", "2.0"),
    ] {
        assert_eq!(upstream_version(debian), upstream);
    }
}

#[test]
fn the_profiles_that_are_built_in_are_good() {
    let text = include_str!("../../../../profiles/all-in-one.toml");
    let profile: Profile = toml::from_str(text).expect("a profile");
    assert_eq!(bootwright_model::services::check(&profile.services), []);
    Globs::new("prune", &profile.packages.prune).expect("good globs");
    Globs::new("keep", &profile.packages.keep).expect("good globs");
    // What first boot reads back is what was baked.
    let baked: Profile = serde_json::from_slice(&json(&profile)).expect("reads back");
    assert_eq!(baked, profile);
}
