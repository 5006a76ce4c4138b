//! Waiting for cards that are not there yet, as their drivers probe in the background: by what the machine's buses say of
//! its cards, and where they leave it open by the clock.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::request;
use super::present::cards;
use super::{LINK_PATIENCE, LinkError};
use crate::network::netlink::LinkChanges;
use crate::report::under;

/// Between two cards, where no bus says that there is another; by then most are there.
const QUIET: Duration = Duration::from_secs(2);
/// Between two links of one card, which has several ports.
const PORTS: Duration = Duration::from_millis(200);

/// Buses whose devices say what they are: the folder, the file, and how its words begin for an Ethernet card. The sources
/// are the PCI Code and ID Assignment Specification (class 02, subclasses 00 and 80, "other", which cards are that can be of
/// InfiniBand too), the Virtio specification (section 5), and `HV_NIC_GUID` of the kernel's linux/hyperv.h; a Xen device has
/// a type.
const CARDS: [(&str, &str, &str); 5] = [
    ("/sys/bus/pci/devices", "class", "0x0200"),
    ("/sys/bus/pci/devices", "class", "0x0280"),
    ("/sys/bus/virtio/devices", "device", "0x0001"),
    ("/sys/bus/vmbus/devices", "class_id", "{f8615163-df3e-46c5-913f-f2d2f965ed0e}"),
    ("/sys/bus/xen/devices", "devtype", "vif"),
];
/// Its hubs are looked through one after the other, and nobody says when the last one was.
const USB: &str = "/sys/bus/usb/devices";
const LINKS: &str = "/sys/class/net";

/// Waits until a link with one of `macs` is there, at most as long as a slow driver takes.
pub fn wait_for_any(root: &Path, macs: &[String]) -> Result<(), LinkError> {
    wait(root, macs, LINK_PATIENCE)
}

/// Waits until a link with one of `macs` is there, or no link has come, gone or changed for a while, at most as long as a
/// slow driver takes: a machine that is none of the inventory's is not to wait for its cards at every boot.
pub fn wait_until_settled(root: &Path, macs: &[String]) -> Result<(), LinkError> {
    wait(root, macs, QUIET)
}

/// At most `quiet` from one change to the next where a card may be there that no bus says anything of.
fn wait(root: &Path, macs: &[String], quiet: Duration) -> Result<(), LinkError> {
    let mut changes = LinkChanges::open().map_err(|source| request("listen for links", source))?;
    let latest = Instant::now() + LINK_PATIENCE;
    let mut has_come = false;
    loop {
        let ours = cards(root)?;
        let is_there = ours.iter().any(|card| macs.iter().any(|mac| card.mac.eq_ignore_ascii_case(mac)));
        if is_there || Instant::now() >= latest {
            return Ok(());
        }
        let Some(patience) = awaited(root).patience(quiet, has_come) else { return Ok(()) };
        let end = latest.min(Instant::now() + patience);
        if !changes.wait(end).map_err(|source| request("listen for links", source))? {
            return Ok(());
        }
        has_come = true;
    }
}

/// What is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// Every card that a bus has is a link already.
    Nothing,
    /// There may be one more, and nobody says so.
    Perhaps,
    /// The link of a card that has a driver.
    Card,
}

impl Awaited {
    /// How long the next change is waited for, if at all; `has_come`: there was one already.
    fn patience(self, quiet: Duration, has_come: bool) -> Option<Duration> {
        match self {
            Awaited::Nothing => has_come.then_some(PORTS),
            Awaited::Perhaps => Some(quiet),
            Awaited::Card => Some(LINK_PATIENCE),
        }
    }
}

fn awaited(root: &Path) -> Awaited {
    let device = |link: PathBuf| link.join("device").canonicalize().ok();
    let links: Vec<PathBuf> = devices(root, LINKS).filter_map(device).collect();
    // A card of virtio is a device of two buses, and its link is one of the second.
    let has_link = |card: &&PathBuf| links.iter().any(|link| link.starts_with(card));
    let cards = on_buses(root);
    let silent: Vec<&PathBuf> = cards.iter().filter(|card| !has_link(card)).collect();
    if silent.iter().any(|card| card.join("driver").exists()) {
        Awaited::Card
    } else if cards.is_empty() || !silent.is_empty() || devices(root, USB).next().is_some() {
        // Without any card the bus may be one that is not known here; one without a driver will have none.
        Awaited::Perhaps
    } else {
        Awaited::Nothing
    }
}

/// The Ethernet cards by the buses' word, each by its place among all devices.
fn on_buses(root: &Path) -> Vec<PathBuf> {
    let on_bus = |(bus, file, word): &(&str, &str, &str)| {
        let is_card =
            |device: &PathBuf| fs::read_to_string(device.join(file)).is_ok_and(|said| said.starts_with(word));
        let cards = devices(root, bus).filter(is_card).filter_map(|card| card.canonicalize().ok());
        cards.collect::<Vec<_>>()
    };
    CARDS.iter().flat_map(on_bus).collect()
}

fn devices(root: &Path, folder: &str) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(under(root, folder)).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A machine's `/sys`, with a bus of PCI.
    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new() -> Sys {
            Sys(tempfile::tempdir().unwrap())
        }

        /// A device, and its entry on a bus.
        fn device(&self, bus: &str, path: &str, file: &str, says: &str) {
            let device = under(self.0.path(), "/sys/devices").join(path);
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join(file), format!("{says}\n")).unwrap();
            self.link(&format!("/sys/bus/{bus}/devices"), &device);
        }

        /// The link of the device at a path.
        fn card(&self, path: &str) {
            let device = under(self.0.path(), "/sys/devices").join(path);
            let link = device.join("net").join(path.replace('/', "-"));
            fs::create_dir_all(&link).unwrap();
            symlink(&device, link.join("device")).unwrap();
            self.link(LINKS, &link);
        }

        fn link(&self, folder: &str, to: &Path) {
            let folder = under(self.0.path(), folder);
            fs::create_dir_all(&folder).unwrap();
            symlink(to, folder.join(to.file_name().unwrap())).unwrap();
        }

        fn awaited(&self) -> Awaited {
            awaited(self.0.path())
        }

        /// A driver has the device at a path.
        fn bind(&self, path: &str) {
            let driver = under(self.0.path(), "/sys/bus/pci/drivers/one");
            fs::create_dir_all(&driver).unwrap();
            symlink(driver, under(self.0.path(), "/sys/devices").join(path).join("driver")).unwrap();
        }
    }

    #[test]
    fn a_card_without_a_link_is_still_to_come() {
        let sys = Sys::new();
        assert_eq!(sys.awaited(), Awaited::Perhaps, "no bus says anything");
        // A disk, and a card of virtio, whose link is not the card's own.
        sys.device("pci", "pci0/0000:00:02.0", "class", "0x010000");
        sys.bind("pci0/0000:00:02.0");
        sys.device("pci", "pci0/0000:00:03.0", "class", "0x020000");
        sys.device("virtio", "pci0/0000:00:03.0/virtio1", "device", "0x0001");
        assert_eq!(sys.awaited(), Awaited::Perhaps, "no driver");
        sys.bind("pci0/0000:00:03.0");
        assert_eq!(sys.awaited(), Awaited::Card);
        sys.card("pci0/0000:00:03.0/virtio1");
        assert_eq!(sys.awaited(), Awaited::Nothing);
        // Another, and the link of something that is no card.
        sys.device("pci", "pci0/0000:00:04.0", "class", "0x028000");
        sys.bind("pci0/0000:00:04.0");
        sys.card("pci0/0000:00:02.0");
        assert_eq!(sys.awaited(), Awaited::Card, "the second has no link");
        sys.card("pci0/0000:00:04.0");
        assert_eq!(sys.awaited(), Awaited::Nothing);
        fs::create_dir_all(under(sys.0.path(), USB).join("usb1")).unwrap();
        assert_eq!(sys.awaited(), Awaited::Perhaps, "a bus whose devices come one by one");
    }

    #[test]
    fn nobody_is_waited_for_who_cannot_come() {
        let patience = |awaited: Awaited, has_come| awaited.patience(QUIET, has_come);
        assert_eq!(patience(Awaited::Nothing, false), None);
        assert_eq!(patience(Awaited::Nothing, true), Some(PORTS), "a card of two ports");
        assert_eq!(patience(Awaited::Perhaps, false), Some(QUIET));
        assert_eq!(patience(Awaited::Card, false), Some(LINK_PATIENCE));
    }

    #[test]
    fn hypervisors_buses_say_which_devices_are_cards() {
        for (bus, file, says) in
            [("vmbus", "class_id", "{f8615163-df3e-46c5-913f-f2d2f965ed0e}"), ("xen", "devtype", "vif")]
        {
            let sys = Sys::new();
            sys.device(bus, "one", file, says);
            sys.bind("one");
            assert_eq!(sys.awaited(), Awaited::Card, "{bus}");
            sys.card("one");
            assert_eq!(sys.awaited(), Awaited::Nothing, "{bus}");
        }
    }
}
