//! Scaleway's metadata service (<https://www.scaleway.com/en/developers/api/instance/user-data>).

use std::net::{Ipv4Addr, SocketAddrV4};

use serde::Deserialize;

use super::{Cloud, Facts};
use crate::identity::Told;
use crate::identity::fetch::{AskError, Port, Service};
use crate::identity::machine::Machine;
use crate::network::dhcp::lease::Lease;

const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 42, 42), 80);
const SERVER: &str = "/conf?format=json";

/// Scaleway.
pub struct Scaleway;

#[derive(Debug, Deserialize)]
struct Server {
    id: String,
    hostname: Option<String>,
    zone: Option<String>,
}

impl Cloud for Scaleway {
    fn name(&self) -> &'static str {
        "Scaleway"
    }

    fn is_it(&self, machine: &Machine) -> bool {
        machine.firmware.vendor.as_deref() == Some("Scaleway")
    }

    fn service(&self, _: &Lease) -> SocketAddrV4 {
        SERVICE
    }

    /// User data is for programs of root alone.
    fn port(&self) -> Port {
        Port::Privileged
    }

    fn ask(&self, service: &Service) -> Result<Told, AskError> {
        let server: Server = service.json(SERVER, &[])?;
        let facts = Facts {
            user_data: service.user_data("/user_data/cloud-init", &[])?,
            name: None,
            host_name: server.hostname,
            provider_id: server.zone.map(|zone| format!("scaleway://instance/{zone}/{}", server.id)),
        };
        Ok(facts.understood()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fetch::testing::{Mock, Route};

    #[test]
    fn the_server_names_the_node() {
        let server = Route::get(SERVER, include_str!("fixtures/conf.json"));
        let data = Route::get("/user_data/cloud-init", "pod-cidr = \"10.10.7.0/24\"");
        let told = Scaleway.ask(&Mock::of(vec![server, data]).service()).unwrap();
        assert_eq!(told.host_name.as_deref(), Some("w1"));
        assert_eq!(
            told.says.provider_id.as_deref(),
            Some("scaleway://instance/fr-par-1/8b1f3f6e-2d5f-4d8e-9d0f-6a4a1a1b7c15")
        );
        assert_eq!(told.says.pod_cidr, "10.10.7.0/24".parse().ok());
    }
}
