//! The links that this machine asks for addresses on: written by PID 1, kept up by a service of each family.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bootwright_model::links::Link;
use ipnet::Ipv4Net;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::keep::{KeepError, failed};
use crate::network::dhcp::acquire::Card;
use crate::network::links;
use crate::network::netlink::Netlink;
use crate::network::resolvers::{self, Said};
use crate::report::under;

/// What is held on a link, and where it is written down.
pub trait Holding: Serialize + DeserializeOwned {
    /// The file of the node's own address.
    const OWN: &'static str;
    /// The folder with a file for each further link. It is there if any link of the machine asks: the service is started
    /// if it is.
    const FURTHER: &'static str;

    /// The source of what is said of resolvers on the link with a number.
    fn resolvers(number: usize) -> String;
}

/// One link, and what came of asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kept<H> {
    /// Its place among them. What is said on several links is put together in this order.
    pub number: usize,
    /// It has the node's own address.
    pub own: bool,
    /// Name of the link in the kernel; empty if it was not there at the start.
    pub link: String,
    /// As it is described, by no more than what a lease leaves open: with the most that its MTU may be, and the metric of
    /// the routes that come with the address.
    #[serde(default)]
    pub described: Link,
    /// Destinations of described IPv4 routes that have the metric of the lease's, on any link: those of the lease to the same
    /// would take their place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub described_to: Vec<Ipv4Net>,
    /// What is held, unless nobody has given anything yet.
    pub held: Option<H>,
}

impl<H: Holding> Kept<H> {
    /// Reads all, in their order; none if all addresses are from elsewhere.
    pub fn all(root: &Path) -> io::Result<Vec<Kept<H>>> {
        let mut paths = vec![under(root, H::OWN)];
        match fs::read_dir(under(root, H::FURTHER)) {
            Ok(entries) => {
                for entry in entries {
                    paths.push(entry?.path());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // A file that is about to be replaced has another end.
        paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
        let mut all = Vec::new();
        for path in paths {
            all.extend(read(&path)?);
        }
        all.sort_by_key(|kept: &Kept<H>| kept.number);
        Ok(all)
    }

    /// Reads that of the node's own address; none if it is from elsewhere.
    pub fn own(root: &Path) -> io::Result<Option<Kept<H>>> {
        read(&under(root, H::OWN))
    }

    /// Writes it, whole or not at all. The folder of all is there afterwards.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        fs::create_dir_all(under(root, H::FURTHER))?;
        crate::files::replace(&self.path(root), &serde_json::to_vec(self)?, 0o644)
    }

    /// Takes what was said of resolvers on this link out of `/etc/resolv.conf`.
    pub fn forget_resolvers(&self, root: &Path, of_cluster: &[IpAddr]) -> io::Result<()> {
        resolvers::say(root, &H::resolvers(self.number), &Said::default(), of_cluster)
    }

    fn path(&self, root: &Path) -> PathBuf {
        match (self.own, self.described.name.as_str()) {
            (true, _) => under(root, H::OWN),
            // The only card of the machine.
            (false, "") => under(root, H::FURTHER).join("card.json"),
            // Described links have names, each its own, which are names of files.
            (false, name) => under(root, H::FURTHER).join(format!("{name}.json")),
        }
    }

    /// What the link is called, for a person.
    pub fn name(&self) -> &str {
        match self.link.as_str() {
            "" => &self.described.name,
            name => name,
        }
    }

    /// The link as it is now: by its description, as a card may have another name when it comes back, and another card its
    /// own; by its name if nobody describes it.
    pub fn present(&mut self, root: &Path) -> Result<Card, KeepError> {
        let card = match self.described.name.is_empty() {
            // It was any card, and another one is not meant.
            true => card(&self.link)?,
            false => {
                let link = links::find(root, &self.described).map_err(KeepError::Missing)?;
                Card::of(&link).ok_or_else(|| KeepError::Link(link.name.clone()))?
            }
        };
        self.link.clone_from(&card.name);
        Ok(card)
    }
}

/// The link of this name as it is now.
fn card(name: &str) -> Result<Card, KeepError> {
    let links =
        Netlink::open().and_then(|mut netlink| netlink.links()).map_err(failed("links cannot be listed"))?;
    let link = links.into_iter().find(|link| link.name == name);
    link.and_then(|link| Card::of(&link)).ok_or_else(|| KeepError::Link(name.to_owned()))
}

fn read<H: Holding>(path: &Path) -> io::Result<Option<Kept<H>>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
