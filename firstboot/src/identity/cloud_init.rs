//! The three documents that describe a machine to cloud-init and to what does as it does: user data, metadata, and its network.
//! Where they are kept and how the latter two are written differs; what they say and which comes first does not.

use bootwright_model::links::Link;
use serde::Deserialize;

use super::network_config::{self, Unclear};
use super::source::SourceError;
use super::{Told, document};

/// A document of the three.
#[derive(Debug)]
pub struct Document<'a> {
    /// It may be packed, as [`document::text`] has it.
    pub bytes: &'a [u8],
    /// Where it was found: `meta-data on /dev/sr0`.
    pub place: String,
    /// What to do about a mistake in it, an imperative.
    pub next: &'static str,
}

impl Document<'_> {
    /// A mistake in it.
    pub fn mistake(&self, message: impl ToString) -> SourceError {
        SourceError::Mistake { document: self.place.clone(), message: message.to_string(), next: self.next }
    }

    fn text(&self) -> Result<String, SourceError> {
        document::text(self.bytes).map_err(|error| self.mistake(error))
    }
}

/// Those that there are.
#[derive(Debug, Default)]
pub struct Documents<'a> {
    /// A `node.toml`, or what is for others.
    pub user_data: Option<Document<'a>>,
    /// What the cloud or hypervisor says of the machine.
    pub meta_data: Option<Document<'a>>,
    /// Its network.
    pub network: Option<Document<'a>>,
}

/// How metadata and network are written.
pub struct Formats {
    /// The host name that metadata has; the error is one line.
    pub host_name: fn(&str) -> Result<Option<String>, String>,
    /// The links that are described.
    pub links: fn(&str) -> Result<Vec<Link>, Unclear>,
}

/// cloud-init's own: metadata in YAML or JSON, and network-config.
pub const CLOUD_INIT: Formats = Formats { host_name, links: network_config::links };

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct MetaData {
    local_hostname: Option<String>,
    hostname: Option<String>,
}

fn host_name(text: &str) -> Result<Option<String>, String> {
    let meta: Option<MetaData> = document::yaml(text)?;
    let meta = meta.unwrap_or_default();
    Ok(meta.local_hostname.or(meta.hostname))
}

impl Documents<'_> {
    /// What they say: the node.toml comes first, as it was written for this, and what it gives is not looked for in the others.
    ///
    /// # Errors
    /// A mistake in one of them.
    pub fn say(&self, formats: &Formats) -> Result<Told, SourceError> {
        let mut told = Told::default();
        if let Some(document) = &self.user_data {
            told = document::user_data(document.bytes, &document.place, document.next)?;
        }
        let is_named = told.says.name.is_some() || told.host_name.is_some();
        if let Some(document) = self.meta_data.as_ref().filter(|_| !is_named) {
            let text = document.text()?;
            let name = (formats.host_name)(&text).map_err(|error| document.mistake(error))?;
            told.host_name = name.as_deref().and_then(document::first_label);
        }
        if let Some(document) = self.network.as_ref().filter(|_| told.says.links.is_empty()) {
            let text = document.text()?;
            told.says.links = (formats.links)(&text).map_err(|error| document.mistake(error))?;
        }
        Ok(told)
    }
}
