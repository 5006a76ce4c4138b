//! The Debian archive, in process: no apt, no dpkg.
//!
//! In the order that the data flows: [`apt_config`] and [`apt_sources`] of the machine or the cluster file
//! say which [`source`]s there are; [`signature`] and [`release`] turn an InRelease into trusted digests;
//! [`index`] reads Packages; [`relation`] and [`resolve`] close over dependencies; [`deb`] unpacks.

pub mod apt_config;
pub mod apt_sources;
pub mod archive;
pub mod deb;
pub mod index;
pub mod keyring;
pub mod relation;
pub mod release;
pub mod resolve;
pub mod signature;
pub mod source;

pub use archive::{Archive, ArchiveError};
pub use source::{Source, SourceError};

/// The upstream part of a package version: without epoch and Debian revision
/// (Debian Policy, section 5.6.12).
pub fn upstream_version(version: &str) -> &str {
    let upstream = version.split_once(':').map_or(version, |(_, rest)| rest);
    upstream.rsplit_once('-').map_or(upstream, |(upstream, _)| upstream)
}

/// The architecture that images are made for.
pub const ARCHITECTURE: &str = "amd64";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_part_of_versions() {
        assert_eq!(upstream_version("1.6.20~ds1-1+deb12u1"), "1.6.20~ds1");
        assert_eq!(upstream_version("1:2.38.1-5-6"), "2.38.1-5");
        assert_eq!(upstream_version("3.4.23"), "3.4.23");
    }
}
