//! What there is of ours in the kernel.

use std::collections::BTreeMap;

use super::device::{self, Link, PresentDevice};
use super::entries::{Entry, Indices, Outlet, ROUTE_PROTOCOL, read_forwarding, read_neighbour, read_route};
use super::wire::addresses::family_number;
use super::wire::{Socket, WireError};
use super::{Family, PodsError, offload};

/// What there is of ours, and the link that it stands on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// What the node's link is good for.
    pub(super) link: Link,
    /// The node's link and our devices.
    pub(super) indices: Indices,
    /// VXLAN devices.
    pub(super) devices: BTreeMap<Family, PresentDevice>,
    /// Neighbours and forwarding entries of our devices, routes with our protocol.
    pub(super) entries: Vec<Entry>,
}

impl Present {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing of ours.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.devices.is_empty()
    }

    pub(super) fn read(socket: &mut Socket, link: &str) -> Result<Present, PodsError> {
        let show = |what: &str| {
            let what = what.to_owned();
            move |source| PodsError::Show { what, source }
        };
        let mut present = Present::default();
        let shown = device::show(socket, link).map_err(show(link))?;
        let shown = shown.ok_or_else(|| PodsError::NoLink { link: link.to_owned() })?;
        let offload = offload::is_safe_on(link).map_err(|error| show(link)(error.into()))?;
        present.link = Link { mtu: shown.mtu, offload };
        present.indices.insert(Outlet::Link, shown.index);
        for family in Family::ALL {
            let name = device::name(family);
            let Some(found) = device::present(socket, family).map_err(show(name))? else { continue };
            if found.shown.overlay.is_none() {
                return Err(PodsError::NameTaken { name, kind: found.shown.kind });
            }
            let index = found.shown.index;
            present.indices.insert(Outlet::Overlay(family), index);
            present.devices.insert(family, found);
            present.entries.extend(neighbours(socket, family, index).map_err(show("neighbours"))?);
            present.entries.extend(forwarding(socket, family, index).map_err(show("forwarding entries"))?);
        }
        for family in Family::ALL {
            let found = routes(socket, family, &present.indices);
            present.entries.extend(found.map_err(show(&format!("its {family} routes")))?);
        }
        Ok(present)
    }
}

fn neighbours(socket: &mut Socket, family: Family, index: u32) -> Result<Vec<Entry>, WireError> {
    socket.dump(
        libc::RTM_NEWNEIGH,
        |messages| {
            messages.begin(libc::RTM_GETNEIGH, libc::NLM_F_DUMP as u16);
            messages.fixed(&[number(family), 0, 0, 0]);
            messages.fixed(&[0; 8]);
            // In the fixed part the kernel wants no index here...
            messages.number(libc::NDA_IFINDEX, index);
        },
        |payload| read_neighbour(payload, family, index),
    )
}

fn forwarding(socket: &mut Socket, family: Family, index: u32) -> Result<Vec<Entry>, WireError> {
    socket.dump(
        libc::RTM_NEWNEIGH,
        |messages| {
            messages.begin(libc::RTM_GETNEIGH, libc::NLM_F_DUMP as u16);
            messages.fixed(&[libc::AF_BRIDGE as u8, 0, 0, 0]);
            // ... and here it does.
            messages.fixed(&index.to_ne_bytes());
            messages.fixed(&[0; 4]);
        },
        |payload| read_forwarding(payload, family, index),
    )
}

/// The kernel sorts the routes of others out.
fn routes(socket: &mut Socket, family: Family, indices: &Indices) -> Result<Vec<Entry>, WireError> {
    socket.dump(
        libc::RTM_NEWROUTE,
        |messages| {
            messages.begin(libc::RTM_GETROUTE, libc::NLM_F_DUMP as u16);
            messages.fixed(&[number(family), 0, 0, 0]);
            messages.fixed(&[libc::RT_TABLE_MAIN, ROUTE_PROTOCOL, 0, 0]);
            messages.fixed(&[0; 4]);
        },
        |payload| read_route(payload, indices),
    )
}

fn number(family: Family) -> u8 {
    match family {
        Family::V4 => family_number([0; 4].into()),
        Family::V6 => family_number([0; 16].into()),
    }
}
