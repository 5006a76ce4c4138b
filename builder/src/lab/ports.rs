//! Ports of the host's loopback that lead to those of a guest.

use std::net::{Ipv4Addr, TcpListener};

use super::Error;

/// A guest's TCP port and the port of the host's loopback that leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Forward {
    /// Port in the guest.
    pub guest: u16,
    /// Port on 127.0.0.1.
    pub host: u16,
}

/// Picks free ports of 127.0.0.1. They are all held until all are picked, so that they differ.
pub(super) fn free(guests: &[u16]) -> Result<Vec<Forward>, Error> {
    let mut held = Vec::new();
    let mut forwards = Vec::new();
    for &guest in guests {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .map_err(Error::file("bind a port of", "127.0.0.1"))?;
        let address = listener.local_addr().map_err(Error::file("bind a port of", "127.0.0.1"))?;
        forwards.push(Forward { guest, host: address.port() });
        held.push(listener);
    }
    Ok(forwards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_of_the_guest_gets_one_of_its_own() {
        let forwards = free(&[6443, 30080]).unwrap();
        assert_eq!(forwards.iter().map(|forward| forward.guest).collect::<Vec<_>>(), [6443, 30080]);
        assert_ne!(forwards[0].host, forwards[1].host);
    }
}
