//! What is known of each link that is followed, and what to say when it is otherwise than before.

use ipnet::IpNet;

use crate::network::netlink::Link;

/// A link in one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Followed {
    /// By its description.
    name: String,
    /// The node's own address is on it.
    pub is_nodes: bool,
    /// Addresses that it is to have.
    pub addresses: Vec<IpNet>,
    seen: Option<Seen>,
}

/// What the kernel says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    index: u32,
    name: String,
    carrier: bool,
    carriers: u32,
}

/// What has become of a link since the look before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    /// There is none any more.
    Gone,
    /// There is one. It may be another than before.
    There,
    /// The cable is out, or the other end is off.
    Lost,
    /// The carrier is there again.
    Back,
    /// It was gone between the two looks.
    Blinked,
}

impl Became {
    /// Neighbours and switches may have forgotten where its addresses are.
    pub fn is_new_to_neighbours(self) -> bool {
        matches!(self, Became::There | Became::Back | Became::Blinked)
    }
}

impl Followed {
    /// As `links` have it, if it is there.
    pub fn new(
        name: &str,
        is_nodes: bool,
        addresses: Vec<IpNet>,
        links: &[Link],
        index: Option<u32>,
    ) -> Followed {
        let found = links.iter().find(|link| Some(link.index) == index);
        let seen = found.map(|link| Seen {
            index: link.index,
            name: link.name.clone(),
            carrier: link.up && link.carrier,
            carriers: link.carriers,
        });
        Followed { name: name.to_owned(), is_nodes, addresses, seen }
    }

    /// `eth0`, or `lan (eth0)` if it is described by another name than the kernel's.
    pub fn label(&self) -> String {
        match &self.seen {
            Some(seen) if self.name.is_empty() => seen.name.clone(),
            Some(seen) if seen.name != self.name => format!("{} ({})", self.name, seen.name),
            None if self.name.is_empty() => "the only link".to_owned(),
            _ => self.name.clone(),
        }
    }

    /// Whether it is described by this name.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name
    }

    /// Index in the kernel, while it is there.
    pub fn index(&self) -> Option<u32> {
        self.seen.as_ref().map(|seen| seen.index)
    }

    /// It can send and receive.
    pub fn has_carrier(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.carrier)
    }

    /// What it has become since `before`.
    pub fn since(&self, before: &Followed) -> Option<Became> {
        match (&before.seen, &self.seen) {
            (None, None) => None,
            (Some(_), None) => Some(Became::Gone),
            (None, Some(_)) => Some(Became::There),
            (Some(before), Some(now)) if before.index != now.index => Some(Became::There),
            (Some(before), Some(now)) => match (before.carrier, now.carrier) {
                (true, false) => Some(Became::Lost),
                (false, true) => Some(Became::Back),
                (true, true) => (before.carriers != now.carriers).then_some(Became::Blinked),
                (false, false) => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link with this index, carrier, and number of carriers.
    fn followed(seen: Option<(u32, bool, u32)>) -> Followed {
        let links = seen.map(|(index, carrier, carriers)| Link {
            index,
            name: "eth0".into(),
            up: true,
            carrier,
            carriers,
            ..Link::default()
        });
        let index = links.as_ref().map(|link| link.index);
        Followed::new("lan", true, Vec::new(), links.as_slice(), index)
    }

    #[test]
    fn what_has_become_of_a_link_is_told_by_two_looks() {
        let (none, cut) = (followed(None), followed(Some((2, false, 1))));
        let (works, again) = (followed(Some((2, true, 1))), followed(Some((2, true, 2))));
        let other = followed(Some((3, true, 1)));
        let cases = [
            (&none, &none, None),
            (&none, &cut, Some(Became::There)),
            (&works, &none, Some(Became::Gone)),
            (&works, &other, Some(Became::There)),
            (&works, &cut, Some(Became::Lost)),
            (&cut, &works, Some(Became::Back)),
            (&works, &again, Some(Became::Blinked)),
            (&works, &works, None),
            (&cut, &cut, None),
        ];
        for (before, now, became) in cases {
            assert_eq!(now.since(before), became, "{before:?}, {now:?}");
        }
    }

    #[test]
    fn a_link_is_called_as_it_is_described_and_as_the_kernel_calls_it() {
        assert_eq!(followed(Some((2, true, 1))).label(), "lan (eth0)");
        assert_eq!(followed(None).label(), "lan");
        let links = [Link { index: 2, name: "eth0".into(), ..Link::default() }];
        for name in ["eth0", ""] {
            assert_eq!(Followed::new(name, false, Vec::new(), &links, Some(2)).label(), "eth0");
        }
    }

    #[test]
    fn a_link_that_is_set_down_has_no_carrier() {
        let link = Link { index: 2, up: false, carrier: true, ..Link::default() };
        assert!(!Followed::new("lan", true, Vec::new(), &[link], Some(2)).has_carrier());
    }
}
