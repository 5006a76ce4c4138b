//! What a machine is made of.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv6Net;

use super::{Accelerator, Firmware, switch};

/// What ends a machine besides its own power button.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// It is killed when the thread that started it ends, however that ends.
    #[default]
    Bound,
    /// It goes on without us.
    Detached,
}

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Name in QEMU's process title.
    pub name: String,
    /// Folder of the machine's files; made if it does not exist.
    pub folder: PathBuf,
    /// Raw disk image; it is copied, not changed. The disk has the sectors that the image was built for.
    pub image: PathBuf,
    /// Size that the copy is grown to, bytes; a hole, so that it takes no space until it is used.
    pub disk_bytes: u64,
    /// Virtual processors.
    pub cpus: u8,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Firmware.
    pub firmware: Firmware,
    /// Accelerator.
    pub accelerator: Accelerator,
    /// MAC address of the only network interface.
    pub mac: String,
    /// What the interface is plugged into.
    pub network: Network,
    /// What ends it.
    pub lifetime: Lifetime,
    /// Further arguments of QEMU: another disk, another card. Paths are relative to the folder.
    pub arguments: Vec<String>,
}

/// What a machine's network interface is plugged into.
#[derive(Debug, Clone)]
pub enum Network {
    /// QEMU's user-mode network, for a machine that is alone.
    User {
        /// Address that the guest gives itself; loopback ports are forwarded to it.
        address: Ipv4Addr,
        /// Prefix length of the network that the address is in.
        prefix_length: u8,
        /// What its router advertises, for guests to make addresses of; without it there is no IPv6.
        advertised: Option<Ipv6Net>,
        /// TCP ports of the guest to forward.
        ports: Vec<u16>,
    },
    /// A port of a switch of ours.
    Switch(switch::Port),
}

impl Network {
    /// TCP ports of the guest that the machine's own network forwards.
    pub fn ports(&self) -> &[u16] {
        match self {
            Network::User { ports, .. } => ports,
            Network::Switch(_) => &[],
        }
    }
}

#[cfg(test)]
impl Spec {
    /// A small machine in `folder`, with an image that nothing boots from.
    pub(super) fn example(folder: &std::path::Path) -> Spec {
        let image = folder.join("image");
        std::fs::write(&image, [0; 1024]).unwrap();
        Spec {
            name: "test".to_owned(),
            folder: folder.join("machine"),
            image,
            disk_bytes: 1 << 20,
            cpus: 1,
            memory_mib: 64,
            firmware: Firmware::Bios,
            accelerator: Accelerator::Tcg,
            mac: "52:54:00:00:00:01".to_owned(),
            network: Network::User {
                address: Ipv4Addr::new(10, 0, 2, 15),
                prefix_length: 24,
                advertised: None,
                ports: vec![6443, 30080],
            },
            lifetime: Lifetime::Bound,
            arguments: Vec::new(),
        }
    }
}
