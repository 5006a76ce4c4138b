//! VXLAN devices: how one is made, changed and read.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bootwright_model::vxlan::overhead_bytes;
use ipnet::IpNet;

use super::wanted::Device;
use super::wire::addresses::{ADDRESS_BYTES, begin_address};
use super::wire::attributes::{Attributes, address, half, text, word};
use super::wire::constants::{IFLA_INFO_DATA, IFLA_INFO_KIND, NLA_F_NESTED, vxlan};
use super::wire::{Messages, Socket, WireError};
use super::{Family, Mac, Overlay, offload};

/// `struct ifinfomsg`.
const LINK_BYTES: usize = 16;
const UP: u32 = libc::IFF_UP as u32;

/// The device of a family.
pub fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "vxlan-pods4",
        Family::V6 => "vxlan-pods6",
    }
}

/// MTU of the device, bytes, on a link of this one.
pub fn mtu(family: Family, link: u32) -> u32 {
    link.saturating_sub(overhead_bytes(family).into())
}

/// A link, as the kernel shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Its index.
    pub index: u32,
    /// Set up by an administrator.
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// Its MAC.
    pub mac: Option<Mac>,
    /// `vxlan`; empty for hardware.
    pub kind: String,
    /// Of VXLAN: VNI, port, outer source address, and whether it learns.
    pub overlay: Option<(Overlay, Option<IpAddr>, bool)>,
}

/// What our devices take from the node's link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    /// Bytes.
    pub mtu: u32,
    /// Whether they may leave checksums to it; see [`offload`].
    pub offload: bool,
}

/// A device of ours that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentDevice {
    /// The link.
    pub shown: Shown,
    /// Its addresses but the link-local ones, which the kernel makes.
    pub addresses: BTreeSet<IpNet>,
    /// See [`offload`].
    pub checksum_offload: bool,
}

/// What a device lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lack {
    /// Another MTU, bytes.
    pub mtu: Option<u32>,
    /// Another MAC.
    pub mac: Option<Mac>,
    /// An address.
    pub address: Option<IpAddr>,
    /// To have checksum offload on or off.
    pub offload: Option<bool>,
    /// To be up.
    pub up: bool,
}

impl Lack {
    /// What a new one lacks, which has MTU, MAC and checksum offload already. `offload`: see [`offload`].
    pub fn of_new(device: &Device, offload: bool) -> Lack {
        let offload = (!offload).then_some(false);
        Lack { address: Some(device.address), offload, up: true, ..Lack::default() }
    }

    /// Whether it is nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Lack::default()
    }
}

impl PresentDevice {
    /// What it lacks. None: it cannot become what is wanted, since these parameters cannot be changed.
    pub fn lack(&self, wanted: &Device, link: &Link) -> Option<Lack> {
        if self.shown.overlay != Some((wanted.overlay, Some(wanted.local), false)) {
            return None;
        }
        let mtu = mtu(wanted.family, link.mtu);
        Some(Lack {
            mtu: (self.shown.mtu != mtu).then_some(mtu),
            mac: (self.shown.mac != Some(wanted.mac)).then_some(wanted.mac),
            address: (!self.addresses.contains(&IpNet::from(wanted.address))).then_some(wanted.address),
            offload: (self.checksum_offload != link.offload).then_some(link.offload),
            up: !self.shown.up,
        })
    }
}

/// Asks for a link by name; none if there is none.
pub fn show(socket: &mut Socket, name: &str) -> Result<Option<Shown>, WireError> {
    let answer = socket.get(
        |messages| {
            begin_link(messages, libc::RTM_GETLINK, 0, 0, 0);
            messages.text(libc::IFLA_IFNAME, name);
        },
        read_link,
    );
    match answer {
        Ok(Some(shown)) => Ok(Some(shown)),
        Ok(None) => Err(WireError::Malformed("a link without an index")),
        Err(error) if error.refusal() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A device and its addresses; none if there is none.
pub fn present(socket: &mut Socket, family: Family) -> Result<Option<PresentDevice>, WireError> {
    let Some(shown) = show(socket, name(family))? else { return Ok(None) };
    let index = shown.index;
    let addresses = socket.dump(
        libc::RTM_NEWADDR,
        |messages| {
            messages.begin(libc::RTM_GETADDR, libc::NLM_F_DUMP as u16);
            messages.fixed(&[0; 4]);
            messages.fixed(&index.to_ne_bytes());
        },
        |payload| read_address(payload, index),
    )?;
    // Of a link of another kind nothing else is asked.
    let checksum_offload = shown.overlay.is_some() && offload::is_on(name(family))?;
    Ok(Some(PresentDevice { shown, addresses: addresses.into_iter().collect(), checksum_offload }))
}

/// Makes a device, which is down.
pub fn create(socket: &mut Socket, device: &Device, link_mtu: u32) -> Result<(), WireError> {
    socket.request(|messages| {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        begin_link(messages, libc::RTM_NEWLINK, flags, 0, 0);
        messages.text(libc::IFLA_IFNAME, name(device.family));
        messages.attribute(libc::IFLA_ADDRESS, &device.mac.0);
        messages.number(libc::IFLA_MTU, mtu(device.family, link_mtu));
        let info = messages.nest(libc::IFLA_LINKINFO | NLA_F_NESTED);
        messages.attribute(IFLA_INFO_KIND, b"vxlan");
        let data = messages.nest(IFLA_INFO_DATA | NLA_F_NESTED);
        messages.number(vxlan::ID, device.overlay.vni);
        let local = if device.local.is_ipv4() { vxlan::LOCAL } else { vxlan::LOCAL6 };
        messages.address(local, device.local);
        messages.attribute(vxlan::PORT, &device.overlay.port.to_be_bytes());
        // All peers are known: what comes in changes nothing.
        messages.attribute(vxlan::LEARNING, &[0]);
        messages.end_nest(data);
        messages.end_nest(info);
    })
}

/// Gives a device what it lacks; up comes last.
pub fn give(socket: &mut Socket, family: Family, index: u32, lack: &Lack) -> Result<(), WireError> {
    if let Some(on) = lack.offload {
        offload::set(name(family), on)?;
    }
    if lack.mtu.is_some() || lack.mac.is_some() {
        socket.request(|messages| {
            begin_link(messages, libc::RTM_NEWLINK, 0, index, 0);
            if let Some(mtu) = lack.mtu {
                messages.number(libc::IFLA_MTU, mtu);
            }
            if let Some(mac) = lack.mac {
                messages.attribute(libc::IFLA_ADDRESS, &mac.0);
            }
        })?;
    }
    if let Some(address) = lack.address {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        socket.request(|messages| {
            begin_address(messages, libc::RTM_NEWADDR, flags, index, address.into());
        })?;
    }
    if lack.up {
        socket.request(|messages| begin_link(messages, libc::RTM_NEWLINK, 0, index, UP))?;
    }
    Ok(())
}

/// Removes a device, and with it all that leads through it.
pub fn delete(socket: &mut Socket, index: u32) -> Result<(), WireError> {
    socket.request(|messages| begin_link(messages, libc::RTM_DELLINK, 0, index, 0))
}

/// Takes an address from a device.
pub fn remove_address(socket: &mut Socket, index: u32, address: IpNet) -> Result<(), WireError> {
    socket.request(|messages| begin_address(messages, libc::RTM_DELADDR, 0, index, address))
}

fn begin_link(messages: &mut Messages, kind: u16, flags: u16, index: u32, up: u32) {
    messages.begin(kind, flags);
    messages.fixed(&[0; 4]);
    messages.fixed(&index.to_ne_bytes());
    // Flags, and which of them are meant.
    messages.fixed(&up.to_ne_bytes());
    messages.fixed(&up.to_ne_bytes());
}

fn read_link(payload: &[u8]) -> Option<Shown> {
    let up = word(payload, 8)? & UP != 0;
    let mut shown = Shown { index: word(payload, 4)?, up, ..Shown::default() };
    for (kind, value) in Attributes::after(payload, LINK_BYTES) {
        match kind {
            libc::IFLA_MTU => shown.mtu = word(value, 0)?,
            libc::IFLA_ADDRESS => shown.mac = value.try_into().ok().map(Mac),
            libc::IFLA_LINKINFO => {
                for (kind, value) in Attributes::after(value, 0) {
                    match kind {
                        IFLA_INFO_KIND => shown.kind = text(value),
                        IFLA_INFO_DATA if shown.kind == "vxlan" => shown.overlay = Some(read_overlay(value)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(shown)
}

fn read_overlay(data: &[u8]) -> (Overlay, Option<IpAddr>, bool) {
    let (mut overlay, mut local, mut learns) = (Overlay { vni: 0, port: 0 }, None, false);
    for (kind, value) in Attributes::after(data, 0) {
        match kind {
            vxlan::ID => overlay.vni = word(value, 0).unwrap_or(0),
            vxlan::PORT => overlay.port = half(value, 0).map_or(0, u16::from_be),
            vxlan::LOCAL | vxlan::LOCAL6 => local = address(value),
            vxlan::LEARNING => learns = value != [0],
            _ => {}
        }
    }
    (overlay, local, learns)
}

fn read_address(payload: &[u8], index: u32) -> Option<IpNet> {
    let prefix_length = *payload.get(1)?;
    let link_local = *payload.get(3)? == libc::RT_SCOPE_LINK;
    if word(payload, 4)? != index || link_local {
        return None;
    }
    let (mut local, mut other) = (None, None);
    for (kind, value) in Attributes::after(payload, ADDRESS_BYTES) {
        match kind {
            libc::IFA_LOCAL => local = address(value),
            libc::IFA_ADDRESS => other = address(value),
            _ => {}
        }
    }
    // IPv6 has the second only, unless there is somebody at the other end.
    IpNet::new(local.or(other)?, prefix_length).ok()
}
