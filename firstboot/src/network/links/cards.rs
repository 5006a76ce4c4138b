//! Which of the machine's cards a description means.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bootwright_model::families::PerFamily;
use bootwright_model::links::Link as Described;
use ipnet::IpNet;
use netlink_packet_route::link::InfoKind;

use super::error::request;
use super::{LINK_PATIENCE, LinkError, autoconf, device};
use crate::network::netlink::{Link, LinkChanges, Netlink};
use crate::report::under;

/// What a card that is down gets before it is set up. One that does not take it keeps its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Before {
    /// Bytes. Many drivers begin anew when the MTU of a card that runs is changed, and the carrier is gone for seconds.
    pub mtu: Option<u16>,
    /// Whether it takes addresses and routes from router advertisements, which may come at once.
    pub accept_ra: Option<bool>,
}

/// The cards that are up now.
#[derive(Debug, Default)]
pub struct SetUp {
    /// As they were before.
    pub cards: Vec<Link>,
    /// What could not be set up.
    pub refused: Vec<LinkError>,
}

/// Sets up the cards that may get an address that nobody has given, with the loopback link: that with a MAC address, else
/// all. Waits for the first of them, as long as a slow driver takes.
///
/// # Errors
/// There is none, or none can be set up.
pub fn set_up(root: &Path, mac: Option<&str>, before: Before) -> Result<SetUp, LinkError> {
    let mut changes = LinkChanges::open().map_err(|source| request("listen for links", source))?;
    let mut netlink = Netlink::open().map_err(|source| request("open a netlink socket", source))?;
    let end = Instant::now() + LINK_PATIENCE;
    loop {
        let links = netlink.links().map_err(|source| request("list the links", source))?;
        let meant: Vec<Link> = askable(&links, mac).cloned().collect();
        if !meant.is_empty() {
            let loopback = links.iter().find(|link| link.name == "lo" && !link.up);
            let refused = loopback.and_then(|lo| netlink.set_up(lo.index, true).err());
            let mut up = each_up(meant, |card| {
                if let Some(mtu) = before.mtu {
                    let _ = netlink.set_mtu(card.index, mtu.into());
                }
                if let Some(accept) = before.accept_ra {
                    let _ = autoconf::accept_ra(root, &card.name, accept, None);
                }
                netlink.set_up(card.index, true).inspect_err(|_| {
                    let _ = netlink.set_mtu(card.index, card.mtu);
                })
            })?;
            up.refused.extend(refused.map(|source| request("set lo up", source)));
            return Ok(up);
        }
        if !changes.wait(end).map_err(|source| request("listen for links", source))? {
            let seen = seen(candidates(&links));
            return Err(match mac {
                Some(mac) => LinkError::NoLink { wanted: format!("the MAC address {mac}"), seen },
                None => LinkError::None { seen },
            });
        }
    }
}

/// Sets up those that are down: one that cannot be, as its firmware is missing or its hardware is broken, holds up no other.
fn each_up(cards: Vec<Link>, mut set_up: impl FnMut(&Link) -> io::Result<()>) -> Result<SetUp, LinkError> {
    let mut done = SetUp::default();
    for card in cards {
        let up = if card.up { Ok(()) } else { set_up(&card) };
        match up {
            Ok(()) => done.cards.push(card),
            Err(source) => done.refused.push(request(&format!("set {} up", card.name), source)),
        }
    }
    match done.cards.is_empty() && !done.refused.is_empty() {
        true => Err(done.refused.remove(0)),
        false => Ok(done),
    }
}

/// Cards that somebody can lend an address to: all, or the one with a MAC address. Not a card that another link has taken
/// for its own: Azure's fast card of a machine is a member of the slow one, with the same MAC.
fn askable<'a>(links: &'a [Link], mac: Option<&'a str>) -> impl Iterator<Item = &'a Link> {
    let has_mac = move |link: &Link| {
        mac.is_none_or(|mac| link.own_mac().is_some_and(|own| own.eq_ignore_ascii_case(mac)))
    };
    candidates(links).filter(move |link| link.master.is_none() && has_mac(link))
}

/// Sets a card down that was down before [`set_up`], and gives it the MTU that it had; fine if it is gone.
pub fn set_down(link: &Link) -> Result<(), LinkError> {
    let down = Netlink::open().and_then(|mut netlink| {
        netlink.set_up(link.index, false)?;
        netlink.set_mtu(link.index, link.mtu)
    });
    match down {
        Err(source) if source.raw_os_error() != Some(libc::ENODEV) => {
            Err(request(&format!("set {} down", link.name), source))
        }
        _ => Ok(()),
    }
}

/// Gives the link `name` with an index an MTU, bytes. The kernel does nothing if it has that. What it has then, and why not the
/// other if it did not take that: it keeps its own unless more than `most` bytes would be lost on the way.
///
/// # Errors
/// It has more than `most`, and does not take less.
pub fn set_mtu(
    index: u32,
    name: &str,
    mtu: u16,
    most: Option<u16>,
) -> Result<(u32, Option<LinkError>), LinkError> {
    let failed = |source| request(&format!("give {name} an MTU of {mtu} bytes"), source);
    let mut netlink = Netlink::open().map_err(failed)?;
    let Err(source) = netlink.set_mtu(index, mtu.into()) else { return Ok((mtu.into(), None)) };
    let links = netlink.links().map_err(failed)?;
    match links.iter().find(|link| link.index == index) {
        Some(link) if most.is_none_or(|most| link.mtu <= u32::from(most)) => {
            Ok((link.mtu, Some(failed(source))))
        }
        _ => Err(failed(source)),
    }
}

/// The link that is described, card or made, as it is now.
///
/// # Errors
/// It is not there, or it is not said which one it is.
pub fn find(root: &Path, described: &Described) -> Result<Link, LinkError> {
    let mut netlink = Netlink::open().map_err(|source| request("open a netlink socket", source))?;
    let links = netlink.links().map_err(|source| request("list the links", source))?;
    if device::wanted(described, None).is_none() {
        return choose(root, &links, described, None).cloned();
    }
    let found = links.iter().find(|link| link.name == described.name).cloned();
    found.ok_or_else(|| LinkError::NoLink {
        wanted: format!("the name {}", described.name),
        seen: seen(candidates(&links)),
    })
}

/// The card that `described` means. One that is described by nothing, not even a name, is the only one.
pub(super) fn choose<'a>(
    root: &Path,
    links: &'a [Link],
    described: &Described,
    address: Option<PerFamily<IpNet>>,
) -> Result<&'a Link, LinkError> {
    let mut fitting = candidates(links).filter(|link| fits(root, link, described));
    match (fitting.next(), fitting.next()) {
        (Some(link), None) => Ok(link),
        // Two links with one MAC: the first, which the kernel found first.
        (Some(link), Some(_)) if described.mac.is_some() => Ok(link),
        (Some(_), Some(_)) if is_any(described) => {
            Err(LinkError::Ambiguous { address, seen: seen(candidates(links)) })
        }
        (Some(first), Some(second)) => Err(LinkError::Several {
            wanted: known_by(described),
            fitting: seen([first, second].into_iter().chain(fitting)),
        }),
        (None, _) if is_any(described) => Err(LinkError::None { seen: seen(candidates(links)) }),
        (None, _) => Err(LinkError::NoLink { wanted: known_by(described), seen: seen(candidates(links)) }),
    }
}

fn is_any(described: &Described) -> bool {
    described.name.is_empty() && !has_evidence(described)
}

fn has_evidence(described: &Described) -> bool {
    described.mac.is_some() || described.driver.is_some() || described.path.is_some()
}

fn fits(root: &Path, link: &Link, described: &Described) -> bool {
    if !has_evidence(described) {
        return described.name.is_empty() || described.name == link.name;
    }
    let device = under(root, "/sys/class/net").join(&link.name).join("device");
    let mac = |mac: &String| link.own_mac().is_some_and(|own| own.eq_ignore_ascii_case(mac));
    described.mac.as_ref().is_none_or(mac)
        && described.driver.as_ref().is_none_or(|driver| driver_of(&device).as_ref() == Some(driver))
        && described.path.as_ref().is_none_or(|path| is_at(&device, path))
}

fn driver_of(device: &Path) -> Option<String> {
    let driver = std::fs::read_link(device.join("driver")).ok()?;
    Some(driver.file_name()?.to_string_lossy().into_owned())
}

/// Whether the card's folder below /sys/devices ends so. What lies on a bus of its own (`virtio0`, a port of a USB
/// card) is named by where that bus is plugged in, too.
fn is_at(device: &Path, path: &str) -> bool {
    let Ok(folder) = std::fs::read_link(device) else { return false };
    let wanted = PathBuf::from(path.trim_matches('/'));
    folder.ends_with(&wanted) || folder.parent().is_some_and(|bus| bus.ends_with(&wanted))
}

/// Cards, not what is made of them, by us or by Kubernetes: bridges and the ends of pods are Ethernet links too, when
/// the stage runs again on a node with pods. A card of a container is one end of a veth pair.
pub(super) fn candidates(links: &[Link]) -> impl Iterator<Item = &Link> {
    let made = ["cni", "veth", "docker", "kube-", "vxlan", "flannel", "dummy"];
    links.iter().filter(move |link| {
        link.ethernet
            && link.mac.is_some()
            && matches!(link.kind, None | Some(InfoKind::Veth))
            && !made.iter().any(|prefix| link.name.starts_with(prefix))
    })
}

fn seen<'a>(links: impl Iterator<Item = &'a Link>) -> String {
    let links: Vec<String> =
        links.map(|link| format!("{} {}", link.name, link.own_mac().unwrap_or("-"))).collect();
    if links.is_empty() { "no link but loopback".to_owned() } else { links.join(", ") }
}

fn known_by(described: &Described) -> String {
    if !has_evidence(described) {
        return format!("the name {}", described.name);
    }
    let by = [("MAC address", &described.mac), ("driver", &described.driver), ("path", &described.path)];
    let by = by.into_iter().filter_map(|(what, value)| Some(format!("the {what} {}", value.as_ref()?)));
    by.collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, mac: &str) -> Link {
        Link { name: name.into(), mac: Some(mac.into()), ethernet: true, ..Link::default() }
    }

    fn chosen(root: &Path, described: &Described) -> Result<String, String> {
        let links = [link("eth0", "52:54:00:00:00:01"), link("eth1", "52:54:00:00:00:02")];
        let found = choose(root, &links, described, "10.20.0.10/24".parse().ok());
        found.map(|link| link.name.clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_unknown_mac_is_told_with_what_is_there() {
        let described = Described { mac: Some("52:54:00:00:00:0a".into()), ..Described::default() };
        insta::assert_snapshot!(
            chosen(Path::new("/nowhere"), &described).unwrap_err(),
            @"no link has the MAC address 52:54:00:00:00:0a; this machine has eth0 52:54:00:00:00:01, eth1 52:54:00:00:00:02"
        );
    }

    #[test]
    fn a_member_of_a_bond_is_found_by_its_own_mac() {
        let bonded =
            Link { permanent_mac: Some("52:54:00:00:00:02".into()), ..link("eth1", "52:54:00:00:00:01") };
        let bond = Link { kind: Some(InfoKind::Bond), ..link("bond0", "52:54:00:00:00:01") };
        let links = [bond, link("eth0", "52:54:00:00:00:01"), bonded];
        for (mac, name) in [("52:54:00:00:00:01", "eth0"), ("52:54:00:00:00:02", "eth1")] {
            let described = Described { mac: Some(mac.into()), ..Described::default() };
            let found = choose(Path::new("/"), &links, &described, "10.20.0.10/24".parse().ok());
            assert_eq!(found.unwrap().name, name);
        }
    }

    #[test]
    fn a_card_that_belongs_to_another_is_not_asked() {
        let slow = Link { index: 1, ..link("eth0", "52:54:00:00:00:01") };
        let fast = Link { index: 2, master: Some(1), ..link("eth1", "52:54:00:00:00:01") };
        let other = Link { index: 3, ..link("eth2", "52:54:00:00:00:0A") };
        let links = [fast, slow, other];
        let asked = |mac| askable(&links, mac).map(|link| link.index).collect::<Vec<_>>();
        assert_eq!(asked(None), [1, 3]);
        assert_eq!(asked(Some("52:54:00:00:00:01")), [1]);
        assert_eq!(asked(Some("52:54:00:00:00:0a")), [3]);
    }

    #[test]
    fn a_card_that_cannot_be_set_up_holds_up_no_other() {
        let cards = || vec![link("eth0", "52:54:00:00:00:01"), link("eth1", "52:54:00:00:00:02")];
        let broken = |name: &'static str| {
            move |card: &Link| match card.name.contains(name) {
                true => Err(io::Error::other("no firmware")),
                false => Ok(()),
            }
        };
        let done = each_up(cards(), broken("eth0")).unwrap();
        assert_eq!((done.cards.len(), done.cards[0].name.as_str(), done.refused.len()), (1, "eth1", 1));
        assert_eq!(done.refused[0].to_string(), "the kernel did not set eth0 up");
        assert!(each_up(cards(), broken("eth")).is_err());
        let up = cards().into_iter().map(|card| Link { up: true, ..card }).collect();
        assert_eq!(each_up(up, broken("eth")).unwrap().cards.len(), 2, "nothing is to be done");
    }

    #[test]
    fn cards_are_told_apart_by_name_driver_and_place() {
        let root = tempfile::tempdir().unwrap();
        let (net, devices) = (root.path().join("sys/class/net"), root.path().join("sys/devices"));
        for (name, place, driver) in [
            ("eth0", "pci0000:00/0000:00:03.0/virtio1", "virtio_net"),
            ("eth1", "pci0000:00/0000:03:00.0", "igb"),
        ] {
            std::fs::create_dir_all(devices.join(place)).unwrap();
            std::fs::create_dir_all(net.join(name)).unwrap();
            std::os::unix::fs::symlink(devices.join(place), net.join(name).join("device")).unwrap();
            let driver = Path::new("../../../../bus/pci/drivers").join(driver);
            std::os::unix::fs::symlink(driver, devices.join(place).join("driver")).unwrap();
        }
        let by = |name: &str, driver: Option<&str>, path: Option<&str>| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            let described = Described {
                name: name.into(),
                driver: text(driver),
                path: text(path),
                ..Described::default()
            };
            chosen(root.path(), &described)
        };
        assert_eq!(by("eth1", None, None).unwrap(), "eth1");
        // A name of our own, as there is something else to know it by.
        assert_eq!(by("lan", Some("igb"), None).unwrap(), "eth1");
        assert_eq!(by("lan", None, Some("0000:00:03.0")).unwrap(), "eth0");
        assert_eq!(by("lan", None, Some("0000:00:03.0/virtio1")).unwrap(), "eth0");
        let neither = by("lan", Some("igb"), Some("0000:00:03.0")).unwrap_err();
        assert!(neither.contains("the driver igb and the path 0000:00:03.0"), "{neither}");
        assert!(by("lan", None, Some("3:00.0")).is_err(), "half of a name is none");
        assert!(by("eth7", None, None).unwrap_err().contains("the name eth7"));
    }
}
