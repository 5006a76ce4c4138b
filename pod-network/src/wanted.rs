//! What there should be, from who the peers are. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::entries::{Hop, Outlet};
use super::{Family, Mac, Mode, Overlay, Own, Peer, Settings, Skipped, Why};

/// A VXLAN device. There is one per family, and only as long as a peer is reached through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Of the pods that it carries and of the addresses between which it does.
    pub family: Family,
    /// VNI and port.
    pub overlay: Overlay,
    /// Outer source address: the node's.
    pub local: IpAddr,
    /// From the node's name.
    pub mac: Mac,
    /// The network address of the node's pod CIDR: what programs of this node that talk to pods elsewhere are
    /// seen as, and with IPv4 the gateway of the peers' routes to this node.
    pub address: IpAddr,
}

/// All that there should be of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// VXLAN devices.
    pub devices: BTreeMap<Family, Device>,
    /// Pod CIDR of a peer to the way there.
    pub routes: BTreeMap<IpNet, Hop>,
    /// Gateway to a peer to the MAC of its VXLAN device: the network address of its pod CIDR with IPv4, the
    /// device's link-local address with IPv6.
    pub neighbours: BTreeMap<(Family, IpAddr), Mac>,
    /// MAC of a peer's VXLAN device to the peer's address.
    pub forwarding: BTreeMap<(Family, Mac), IpAddr>,
    /// Who was left out.
    pub skipped: Vec<Skipped>,
}

impl Wanted {
    /// The order of the peers does not matter, and a peer of this node's own name is this node.
    ///
    /// Of two peers that claim one address or overlapping ranges the one that joined first has it, then the first
    /// by name, so that all nodes choose the same; this node's own come before all.
    pub fn from_peers(own: &Own, settings: &Settings, peers: &[Peer]) -> Wanted {
        let mut making = Making::new(own, settings);
        if settings.mode == Mode::None {
            return making.wanted;
        }
        let mut sorted: Vec<&Peer> = peers.iter().filter(|peer| peer.name != own.name).collect();
        sorted.sort();
        // The same peer heard of twice is no conflict.
        sorted.dedup();
        let mut names = BTreeSet::new();
        for peer in sorted {
            if names.insert(&peer.name) {
                making.peer(peer);
            } else {
                making.skip(peer, None, Why::NameTaken);
            }
        }
        making.wanted
    }
}

/// The wanted state while it is made, with who has what.
struct Making<'a> {
    own: &'a Own,
    settings: &'a Settings,
    wanted: Wanted,
    addresses: BTreeMap<IpAddr, &'a str>,
    ranges: BTreeMap<IpNet, &'a str>,
    macs: BTreeMap<Mac, &'a str>,
}

impl<'a> Making<'a> {
    fn new(own: &'a Own, settings: &'a Settings) -> Making<'a> {
        Making {
            own,
            settings,
            wanted: Wanted::default(),
            addresses: own.addresses.iter().map(|address| (address.addr(), own.name.as_str())).collect(),
            ranges: own.pod_cidrs.iter().map(|range| (range.trunc(), own.name.as_str())).collect(),
            macs: BTreeMap::from([(Mac::of_node(&own.name), own.name.as_str())]),
        }
    }

    /// Also those of a peer that is not reached: no range of a later one may cover them.
    fn claim_addresses(&mut self, peer: &'a Peer) {
        for address in Family::ALL.into_iter().filter_map(|family| address(peer, family)) {
            if self.range_around(address).is_none() {
                self.addresses.entry(address).or_insert(&peer.name);
            }
        }
    }

    /// The range that an address lies in, and whose it is. Ranges do not overlap.
    fn range_around(&self, address: IpAddr) -> Option<(IpNet, &'a str)> {
        let (range, by) = self.ranges.range(..=IpNet::from(address)).next_back()?;
        range.contains(&address).then_some((*range, *by))
    }

    fn skip(&mut self, peer: &Peer, pod_cidr: Option<IpNet>, why: Why) {
        self.wanted.skipped.push(Skipped { peer: peer.name.clone(), pod_cidr, why });
    }

    fn peer(&mut self, peer: &'a Peer) {
        self.claim_addresses(peer);
        if peer.pod_cidrs.is_empty() {
            self.skip(peer, None, Why::NoPodCidr);
        }
        let ranges: BTreeSet<IpNet> = peer.pod_cidrs.iter().map(IpNet::trunc).collect();
        for range in ranges {
            if let Err(why) = self.range(peer, range) {
                self.skip(peer, Some(range), why);
            }
        }
    }

    fn range(&mut self, peer: &'a Peer, range: IpNet) -> Result<(), Why> {
        let family = Family::of(range.addr());
        let (Some(own), Some(own_range)) = self.own.of(family) else {
            return Err(Why::NotOurFamily(family));
        };
        let whole = self.own.cluster_cidrs.iter().find(|whole| Family::of(whole.addr()) == family);
        if let Some(whole) = whole.filter(|whole| !whole.contains(&range)) {
            return Err(Why::OutsideCluster { whole: whole.trunc() });
        }
        let remote = address(peer, family).ok_or(Why::NoAddress(family))?;
        if remote.is_unspecified() || remote.is_loopback() || remote.is_multicast() {
            return Err(Why::UnusableAddress(remote));
        }
        self.free(peer, range, remote)?;
        let on_link = own.trunc().contains(&remote);
        let overlay = match self.settings.mode {
            Mode::Routes { fallback_vxlan: false } if !on_link => {
                return Err(Why::BehindGateway { network: own.trunc() });
            }
            Mode::Routes { .. } => !on_link,
            Mode::Vxlan | Mode::None => true,
        };
        if overlay {
            self.overlay(peer, range, remote, (own.addr(), own_range.network()))?;
        } else {
            let hop = Hop { outlet: Outlet::Link, gateway: remote, source: own.addr() };
            self.wanted.routes.insert(range, hop);
        }
        self.ranges.insert(range, &peer.name);
        Ok(())
    }

    /// Whether nobody else has the address, or addresses of the range.
    fn free(&self, peer: &Peer, range: IpNet, remote: IpAddr) -> Result<(), Why> {
        if let Some(by) = self.addresses.get(&remote)
            && *by != peer.name
        {
            return Err(Why::AddressTaken { address: remote, by: (*by).to_owned() });
        }
        if let Some((taken, by)) = self.range_around(remote) {
            return Err(Why::AddressInRange { address: remote, range: taken, by: by.to_owned() });
        }
        // Ranges that are taken do not overlap, so that only those beside it in order can overlap this one.
        let before = self.ranges.range(..=range).next_back();
        let after = self.ranges.range(range..).next();
        for (taken, by) in before.into_iter().chain(after) {
            if taken.contains(&range.network()) || range.contains(&taken.network()) {
                return Err(Why::RangeTaken { range: *taken, by: (*by).to_owned() });
            }
        }
        let node = self.addresses.range(range.network()..=range.broadcast()).next();
        node.map_or(Ok(()), |(address, _)| Err(Why::CoversNode(*address)))
    }

    fn overlay(
        &mut self,
        peer: &'a Peer,
        range: IpNet,
        remote: IpAddr,
        (local, address): (IpAddr, IpAddr),
    ) -> Result<(), Why> {
        let family = Family::of(local);
        let mac = Mac::of_node(&peer.name);
        let by = *self.macs.entry(mac).or_insert(&peer.name);
        if by != peer.name {
            return Err(Why::MacTaken { by: by.to_owned() });
        }
        let device = Device {
            family,
            overlay: self.settings.overlay,
            local,
            mac: Mac::of_node(&self.own.name),
            address,
        };
        self.wanted.devices.insert(family, device);
        // The kernel refuses an IPv6 gateway that another route leads elsewhere, as the route that is to be
        // replaced does; link-local ones it takes always.
        let gateway = match range.network() {
            IpAddr::V6(_) => IpAddr::V6(mac.link_local()),
            network => network,
        };
        self.wanted.neighbours.insert((family, gateway), mac);
        self.wanted.forwarding.insert((family, mac), remote);
        let hop = Hop { outlet: Outlet::Overlay(family), gateway, source: address };
        self.wanted.routes.insert(range, hop);
        Ok(())
    }
}

/// The first of a family.
fn address(peer: &Peer, family: Family) -> Option<IpAddr> {
    peer.addresses.iter().copied().find(|address| Family::of(*address) == family)
}

#[cfg(test)]
mod tests;
