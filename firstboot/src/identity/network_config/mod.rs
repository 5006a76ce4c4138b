//! What clouds hand over to describe a machine's network, turned into links: network-config of cloud-init (version 1, and
//! version 2, which is netplan's) and OpenStack's `network_data.json`.
//!
//! Keys that say nothing about links here are passed over, as the formats grow. A kind of link that cannot be made is an
//! error: a machine that went on without would be hard to reach, and nobody would know why.

mod network_data;
mod v1;
mod v2;
mod values;

use bootwright_model::links::Link;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::document;

pub use network_data::links as from_network_data;

/// A description that is not understood: a place, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unclear(String);

impl Unclear {
    fn new(what: impl Into<String>) -> Unclear {
        Unclear(what.into())
    }

    /// Of the link called `name`.
    fn of(name: &str) -> impl Fn(Unclear) -> Unclear {
        move |Unclear(what)| Unclear(format!("{name}: {what}"))
    }
}

/// The document may be wrapped, as it is in cloud-init's own configuration.
#[derive(Debug, Deserialize)]
struct Wrapped<T> {
    network: Option<T>,
}

/// The links of a network-config; none of an empty one.
///
/// # Errors
/// It is no such document, or something in it cannot be done.
pub fn links(text: &str) -> Result<Vec<Link>, Unclear> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    match read::<Version>(text)?.version {
        Some(1) => v1::links(read(text)?),
        Some(2) => v2::links(read(text)?),
        Some(version) => Err(Unclear(format!("version {version}: versions 1 and 2 are known"))),
        None => Err(Unclear::new("there is no version: write version: 1 or version: 2")),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Version {
    version: Option<u8>,
}

/// The document, or what it is wrapped in.
fn read<T: DeserializeOwned>(text: &str) -> Result<T, Unclear> {
    match document::yaml::<Wrapped<T>>(text).map_err(Unclear)?.network {
        Some(inner) => Ok(inner),
        None => document::yaml(text).map_err(Unclear),
    }
}

#[cfg(test)]
mod tests;
