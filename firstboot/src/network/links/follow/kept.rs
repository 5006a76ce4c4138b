//! What the stage **network** knew, for the service that follows the links.

use std::io;
use std::path::Path;

use bootwright_model::layout;
use serde::{Deserialize, Serialize};

use super::super::{Configured, Wanted};
use crate::report::under;

/// The description that the stage brought about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kept {
    /// The links as they are to be; absent if the address is lent on a card that nobody describes, as the service `dhcp`
    /// follows that.
    pub wanted: Option<Wanted>,
}

impl Kept {
    /// Of links that were set up. A card that nobody named, as it was the only one, is known by its MAC address from
    /// now on: others may be plugged in.
    pub fn of(mut wanted: Wanted, configured: &Configured) -> Kept {
        let mac = Some(configured.mac.clone()).filter(|mac| !mac.is_empty());
        match &mut wanted.links[..] {
            [] => wanted.mac = wanted.mac.or(mac),
            [card] if card.name.is_empty() && card.driver.is_none() && card.path.is_none() => {
                card.mac = card.mac.take().or(mac);
            }
            _ => {}
        }
        Kept { wanted: Some(wanted) }
    }

    /// Reads it.
    pub fn read(root: &Path) -> io::Result<Kept> {
        Ok(serde_json::from_slice(&std::fs::read(under(root, layout::LINKS))?)?)
    }

    /// Writes it, whole or not at all.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        crate::files::replace(&under(root, layout::LINKS), &serde_json::to_vec(self)?, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::plan::tests::wanted;
    use super::*;

    fn configured() -> Configured {
        let mac = "52:54:00:00:00:0a".to_owned();
        let (problems, asking, asking_ipv6) = (Vec::new(), Vec::new(), Vec::new());
        let (link, online) = ("eth0".into(), None);
        Configured { link, mac, mtu: 1500, online, changes: 3, problems, asking, asking_ipv6 }
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let root = tempfile::tempdir().unwrap();
        let text = "[[link]]\nname = 'a'\naddresses = ['10.20.0.10/24']\nbond = { members = ['b'], mode = '802.3ad' }\n[[link]]\nname = 'b'\nroute = [{ to = '0.0.0.0/0', via = '10.20.0.1' }]";
        for kept in [Kept { wanted: None }, Kept::of(wanted(text), &configured())] {
            kept.write(root.path()).unwrap();
            assert_eq!(Kept::read(root.path()).unwrap(), kept);
        }
        std::fs::write(root.path().join("run/bootwright/links.json"), "{}").unwrap();
        assert_eq!(Kept::read(root.path()).unwrap().wanted, None);
        std::fs::write(root.path().join("run/bootwright/links.json"), "{").unwrap();
        assert!(Kept::read(root.path()).is_err());
    }

    #[test]
    fn the_only_card_is_known_by_its_mac_address_from_then_on() {
        let any = Wanted { mac: None, links: Vec::new(), ..wanted("[[link]]\nname = 'a'") };
        let kept = Kept::of(any.clone(), &configured()).wanted.unwrap();
        assert_eq!(kept.mac.as_deref(), Some("52:54:00:00:00:0a"));
        let given = Wanted { mac: Some("52:54:00:00:00:01".into()), ..any };
        assert_eq!(Kept::of(given.clone(), &configured()).wanted, Some(given));

        let nameless = wanted("[[link]]\nname = ''\nmtu = 1400");
        let kept = Kept::of(nameless, &configured()).wanted.unwrap();
        assert_eq!(kept.links[0].mac.as_deref(), Some("52:54:00:00:00:0a"));
        for text in ["[[link]]\nname = 'a'", "[[link]]\nname = ''\ndriver = 'igb'"] {
            assert_eq!(Kept::of(wanted(text), &configured()).wanted, Some(wanted(text)), "{text}");
        }
    }
}
