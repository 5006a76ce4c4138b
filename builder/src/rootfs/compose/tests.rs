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
