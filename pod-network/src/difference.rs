//! What leads from what there is to what is wanted, and in which order. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::device::Lack;
use super::entries::{Change, Entry, Hop, Outlet, metric};
use super::wanted::Device;
use super::{Family, Mac, Present, Wanted};

/// Changes, in the order that they are made in: devices; then per kind what is new or other, so that no packet is
/// sent to somebody unknown; then what is no longer wanted, the other way round. A peer that got another address or
/// range is reached all the time by the old way or by the new one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Devices that cannot become what is wanted: they go first, with all that leads through them.
    pub(super) recreate: Vec<(Family, u32)>,
    /// New devices.
    pub(super) create: Vec<Device>,
    /// What devices lack that stay.
    pub(super) give: Vec<(Family, u32, Lack)>,
    /// Neighbours, forwarding entries, routes.
    pub(super) set: Vec<Change>,
    /// Routes, forwarding entries, neighbours.
    pub(super) remove: Vec<Change>,
    /// Addresses that devices no longer need, after no route names them as its source.
    pub(super) addresses: Vec<(u32, IpNet)>,
    /// Devices that nothing leads through any more.
    pub(super) delete: Vec<(Family, u32)>,
}

impl Difference {
    /// From what there is to what is wanted.
    pub fn between(wanted: &Wanted, present: &Present) -> Difference {
        let mut difference = Difference::default();
        difference.devices(wanted, present);
        let before = Before::of(present, &difference);
        let (added, gone) = before.neighbours(wanted);
        let (forwarded, not_forwarded) = before.forwarding(wanted);
        let (routed, not_routed) = before.routes(wanted);
        difference.set = [added, forwarded, routed].concat();
        difference.remove = [not_routed, not_forwarded, gone].concat();
        difference
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Difference::default()
    }

    /// The entries that are added or replaced, in order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.set.iter().map(Change::entry)
    }

    fn devices(&mut self, wanted: &Wanted, present: &Present) {
        for family in Family::ALL {
            match (wanted.devices.get(&family), present.devices.get(&family)) {
                (None, None) => {}
                (Some(device), None) => self.create.push(*device),
                (None, Some(there)) => self.delete.push((family, there.shown.index)),
                (Some(device), Some(there)) => {
                    let index = there.shown.index;
                    let Some(lack) = there.lack(device, &present.link) else {
                        self.recreate.push((family, index));
                        self.create.push(*device);
                        continue;
                    };
                    if !lack.is_nothing() {
                        self.give.push((family, index, lack));
                    }
                    let needed = IpNet::from(device.address);
                    let other = there.addresses.iter().filter(|address| **address != needed);
                    self.addresses.extend(other.map(|address| (index, *address)));
                }
            }
        }
    }
}

/// The entries there are, by key, without those that go with a device.
#[derive(Default)]
struct Before {
    neighbours: BTreeMap<(Family, IpAddr), Mac>,
    /// One MAC can lead to several places, if somebody else has been at it.
    forwarding: BTreeMap<(Family, Mac), Vec<IpAddr>>,
    routes: BTreeMap<(IpNet, u32), Option<Hop>>,
}

impl Before {
    fn of(present: &Present, difference: &Difference) -> Before {
        let has = |list: &[(Family, u32)], family| list.iter().any(|(one, _)| *one == family);
        // Before anything is set.
        let gone_first = |family| has(&difference.recreate, family);
        let gone = |family| gone_first(family) || has(&difference.delete, family);
        let mut before = Before::default();
        for entry in &present.entries {
            match *entry {
                Entry::Neighbour { device, address, mac } if !gone(device) => {
                    before.neighbours.insert((device, address), mac);
                }
                Entry::Forwarding { device, mac, remote } if !gone(device) => {
                    before.forwarding.entry((device, mac)).or_default().push(remote);
                }
                Entry::Route { hop: Some(Hop { outlet: Outlet::Overlay(device), .. }), .. }
                    if gone_first(device) => {}
                Entry::Route { destination, metric, hop } => {
                    before.routes.insert((destination, metric), hop);
                }
                _ => {}
            }
        }
        before
    }

    fn neighbours(&self, wanted: &Wanted) -> (Vec<Change>, Vec<Change>) {
        let entry = |(device, address), mac| Entry::Neighbour { device, address, mac };
        let lacking = wanted.neighbours.iter().filter(|(key, mac)| self.neighbours.get(key) != Some(mac));
        let set = lacking.map(|(key, mac)| Change::Replace(entry(*key, *mac)));
        let unwanted = self.neighbours.iter().filter(|(key, _)| !wanted.neighbours.contains_key(key));
        let remove = unwanted.map(|(key, mac)| Change::Remove(entry(*key, *mac)));
        (set.collect(), remove.collect())
    }

    fn forwarding(&self, wanted: &Wanted) -> (Vec<Change>, Vec<Change>) {
        let entry = |(device, mac), remote| Entry::Forwarding { device, mac, remote };
        let none = Vec::new();
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        for (key, remote) in &wanted.forwarding {
            let there = self.forwarding.get(key).unwrap_or(&none);
            // To replace takes the place of the first.
            let replaced = usize::from(!there.contains(remote));
            if replaced == 1 {
                set.push(Change::Replace(entry(*key, *remote)));
            }
            let others = there.iter().filter(|other| *other != remote).skip(replaced);
            remove.extend(others.map(|other| Change::Remove(entry(*key, *other))));
        }
        for (key, remotes) in self.forwarding.iter().filter(|(key, _)| !wanted.forwarding.contains_key(key)) {
            remove.extend(remotes.iter().map(|remote| Change::Remove(entry(*key, *remote))));
        }
        (set, remove)
    }

    fn routes(&self, wanted: &Wanted) -> (Vec<Change>, Vec<Change>) {
        let mut set = Vec::new();
        for (destination, hop) in &wanted.routes {
            let key = (*destination, metric(*destination));
            let entry = Entry::Route { destination: key.0, metric: key.1, hop: Some(*hop) };
            match self.routes.get(&key) {
                Some(Some(there)) if there == hop => {}
                Some(_) => set.push(Change::Replace(entry)),
                None => set.push(Change::Add(entry)),
            }
        }
        let kept = |(destination, number): &(IpNet, u32)| {
            wanted.routes.contains_key(destination) && *number == metric(*destination)
        };
        let unwanted = self.routes.keys().filter(|key| !kept(key));
        let remove = unwanted.map(|(destination, metric)| {
            Change::Remove(Entry::Route { destination: *destination, metric: *metric, hop: None })
        });
        (set, remove.collect())
    }
}

#[cfg(test)]
mod tests;
