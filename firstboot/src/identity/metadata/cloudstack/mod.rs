//! CloudStack: its virtual router, which is the DHCP server, has the metadata
//! (<https://docs.cloudstack.apache.org/en/latest/adminguide/virtual_machines/user-data.html>).

use std::net::SocketAddrV4;

use super::{Cloud, Facts};
use crate::identity::Told;
use crate::identity::fetch::{AskError, Service};
use crate::identity::machine::Machine;
use crate::network::dhcp::lease::Lease;

/// CloudStack.
pub struct CloudStack;

impl Cloud for CloudStack {
    fn name(&self) -> &'static str {
        "CloudStack"
    }

    fn is_it(&self, machine: &Machine) -> bool {
        machine.firmware.product.as_deref().is_some_and(|product| product.starts_with("CloudStack"))
    }

    fn service(&self, lease: &Lease) -> SocketAddrV4 {
        SocketAddrV4::new(lease.server, 80)
    }

    fn ask(&self, service: &Service) -> Result<Told, AskError> {
        const NAME: &str = "/latest/meta-data/local-hostname";
        let facts = Facts {
            user_data: service.user_data("/latest/user-data", &[])?,
            name: None,
            host_name: service.line(NAME, &[])?,
            provider_id: None,
        };
        Ok(facts.understood()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fetch::testing::{Mock, Route};

    #[test]
    fn the_router_names_the_node() {
        let name = Route::get("/latest/meta-data/local-hostname", "w1\n");
        let told = CloudStack.ask(&Mock::of(vec![name]).service()).unwrap();
        assert_eq!((told.host_name.as_deref(), told.says.provider_id), (Some("w1"), None));
    }
}
