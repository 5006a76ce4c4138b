//! Versions of Kubernetes, etcd and containerd.

use std::fmt;
use std::str::FromStr;

use super::KubernetesError;

/// First and last Kubernetes release whose flags are in the table of gates.
pub const SUPPORTED: [Release; 2] = [(1, 20), (1, 36)];
/// etcd releases with known flags.
pub const SUPPORTED_ETCD: [Release; 2] = [(3, 4), (3, 6)];
/// containerd releases with a known configuration format.
pub const SUPPORTED_CONTAINERD: [Release; 2] = [(1, 4), (2, 2)];

/// Major and minor number.
pub type Release = (u16, u16);

/// A version of three numbers. Compares by number, so 1.9 is before 1.20.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 1
    pub major: u16,
    /// 20
    pub minor: u16,
    /// 2
    pub patch: u16,
}

impl Version {
    /// Major and minor number, which is what flags depend on.
    pub fn release(self) -> Release {
        (self.major, self.minor)
    }

    /// The upstream part of etcd's package version.
    pub fn etcd(text: &str) -> Result<Version, KubernetesError> {
        package("etcd", text, "3.4.23", SUPPORTED_ETCD)
    }

    /// The upstream part of containerd's package version.
    pub fn containerd(text: &str) -> Result<Version, KubernetesError> {
        package("containerd", text, "1.6.20", SUPPORTED_CONTAINERD)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A Kubernetes version, `1.20.2`. Pre-releases are refused: their flags are nobody's promise.
impl FromStr for Version {
    type Err = KubernetesError;

    fn from_str(text: &str) -> Result<Version, KubernetesError> {
        let parsed = numbers(text).filter(|(_, rest)| rest.is_empty());
        check("Kubernetes", text, "1.20.2", parsed.map(|(version, _)| version), SUPPORTED)
    }
}

/// Packages append their own marks (`1.6.20~ds1`), which say nothing about flags.
fn package(
    product: &'static str,
    text: &str,
    example: &'static str,
    supported: [Release; 2],
) -> Result<Version, KubernetesError> {
    let parsed = numbers(text).filter(|(_, rest)| !rest.starts_with('.'));
    check(product, text, example, parsed.map(|(version, _)| version), supported)
}

fn check(
    product: &'static str,
    text: &str,
    example: &'static str,
    parsed: Option<Version>,
    [first, last]: [Release; 2],
) -> Result<Version, KubernetesError> {
    let version =
        parsed.ok_or_else(|| KubernetesError::Malformed { product, text: text.to_owned(), example })?;
    if version.release() < first || version.release() > last {
        let name = |(major, minor): Release| format!("{major}.{minor}");
        return Err(KubernetesError::Unsupported { product, version, first: name(first), last: name(last) });
    }
    Ok(version)
}

/// Three numbers at the start of `text`, and what follows them.
fn numbers(text: &str) -> Option<(Version, &str)> {
    let (major, rest) = number(text)?;
    let (minor, rest) = number(rest.strip_prefix('.')?)?;
    let (patch, rest) = number(rest.strip_prefix('.')?)?;
    Some((Version { major, minor, patch }, rest))
}

/// Decimal digits without a sign or needless zeros.
fn number(text: &str) -> Option<(u16, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_compares_by_number() {
        let old: Version = "1.20.2".parse().unwrap();
        assert_eq!(old, Version { major: 1, minor: 20, patch: 2 });
        assert_eq!(old.to_string(), "1.20.2");
        assert!("1.20.10".parse::<Version>().unwrap() > old);
        assert!("1.36.0".parse::<Version>().is_ok());
    }

    #[test]
    fn refuses_what_it_has_no_flags_for() {
        let message = |text: &str| text.parse::<Version>().unwrap_err().to_string();
        insta::assert_snapshot!(message("1.19.16"), @"Kubernetes 1.19.16 is not supported: flags are known for 1.20 to 1.36 only; choose a version in that range");
        insta::assert_snapshot!(message("1.37.0"), @"Kubernetes 1.37.0 is not supported: flags are known for 1.20 to 1.36 only; choose a version in that range");
        insta::assert_snapshot!(message("1.20"), @r#""1.20" is no Kubernetes version; write it like 1.20.2"#);
        for text in ["", "v1.20.2", "1.20.2-rc.1", "1.20.2.1", "1.020.2", "1.-20.2", "1.99999.0", " 1.20.2"] {
            assert!(message(text).contains("is no Kubernetes version"), "{text}: {}", message(text));
        }
    }

    #[test]
    fn package_versions_may_carry_marks() {
        assert_eq!(Version::containerd("1.6.20~ds1").unwrap(), Version { major: 1, minor: 6, patch: 20 });
        assert_eq!(Version::etcd("3.4.23").unwrap(), Version { major: 3, minor: 4, patch: 23 });
        assert_eq!(Version::etcd("3.6.0+dfsg").unwrap().release(), (3, 6));
        assert!(Version::etcd("3.3.25").unwrap_err().to_string().contains("flags are known for 3.4 to 3.6"));
        assert!(Version::containerd("2.3.0").is_err());
        assert!(Version::containerd("1.6").is_err());
    }
}
