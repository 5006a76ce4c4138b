//! The cards that the machine has, as signs of who it is.

use std::path::Path;

use super::LinkError;
use super::cards::candidates;
use super::error::request;
use crate::network::netlink::{Link, Netlink};
use crate::report::under;

/// A card, by what its MAC address says of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Card {
    /// The one that the card was made with, if the kernel knows it; lower case with colons.
    pub mac: String,
    /// The card was made with it. Another was drawn by lot, which a driver does whose card has none, or set by somebody.
    pub permanent: bool,
    /// It hangs on USB: what was plugged in, or how a management controller shows itself to the machine that it manages.
    pub usb: bool,
}

/// This machine's cards.
pub fn cards(root: &Path) -> Result<Vec<Card>, LinkError> {
    let mut netlink = Netlink::open().map_err(|source| request("open a netlink socket", source))?;
    let links = netlink.links().map_err(|source| request("list the links", source))?;
    Ok(candidates(&links).filter_map(|link| card(root, link)).collect())
}

fn card(root: &Path, link: &Link) -> Option<Card> {
    let device = under(root, "/sys/class/net").join(&link.name).join("device");
    // Of what the driver serves: that of a virtio card is virtio, and of a USB card usb.
    let bus = std::fs::read_link(device.join("subsystem")).unwrap_or_default();
    Some(Card {
        mac: link.own_mac()?.to_owned(),
        permanent: link.permanent_mac.is_some(),
        usb: bus.file_name().is_some_and(|bus| bus == "usb"),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_card_is_on_the_bus_that_the_kernel_says() {
        let root = tempfile::tempdir().unwrap();
        for (name, bus) in [("eth0", "virtio"), ("usb0", "usb")] {
            let device = root.path().join("sys/class/net").join(name).join("device");
            fs::create_dir_all(&device).unwrap();
            symlink(format!("../../../../bus/{bus}"), device.join("subsystem")).unwrap();
        }
        let link = |name: &str, permanent: Option<&str>| Link {
            name: name.to_owned(),
            mac: Some("52:54:00:00:00:01".to_owned()),
            permanent_mac: permanent.map(str::to_owned),
            ..Link::default()
        };
        let card = |name, permanent| card(root.path(), &link(name, permanent)).unwrap();
        let own = Some("52:54:00:00:00:02");
        let expected =
            |mac: &str, permanent, usb| Card { mac: format!("52:54:00:00:00:{mac}"), permanent, usb };
        assert_eq!(card("eth0", own), expected("02", true, false));
        assert_eq!(card("usb0", own), expected("02", true, true));
        assert_eq!(card("eth1", None), expected("01", false, false), "nothing is known of it");
    }
}
