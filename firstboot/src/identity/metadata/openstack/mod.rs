//! OpenStack's metadata service (<https://docs.openstack.org/nova/latest/user/metadata.html#metadata-service>), which has the
//! same documents as the config drive. A machine that has the drive is not made to ask.

use std::collections::BTreeMap;

use super::Cloud;
use crate::identity::Told;
use crate::identity::config_drive::{self, ConfigDrive};
use crate::identity::fetch::{AskError, Service, Why};
use crate::identity::machine::Machine;
use crate::identity::source::Source;

const NEXT: &str = "correct the server's user data and rebuild it; report it if OpenStack itself wrote this";

/// OpenStack, and clouds that are made with it.
pub struct OpenStack;

impl Cloud for OpenStack {
    fn name(&self) -> &'static str {
        "OpenStack"
    }

    fn is_it(&self, machine: &Machine) -> bool {
        let firmware = &machine.firmware;
        let nova = matches!(firmware.product.as_deref(), Some("OpenStack Nova" | "OpenStack Compute"));
        let branded = matches!(
            firmware.chassis_asset_tag.as_deref(),
            Some("OpenTelekomCloud" | "HUAWEICLOUD" | "SAP CCloud VM" | "Samsung Cloud Platform")
        );
        (nova || branded) && !ConfigDrive.evidence(machine)
    }

    fn ask(&self, service: &Service) -> Result<Told, AskError> {
        let mut files = BTreeMap::new();
        for file in config_drive::FILES {
            if let Some(bytes) = service.get(&format!("/{file}"), &[])? {
                files.insert(file, bytes);
            }
        }
        if !files.contains_key(config_drive::META_DATA) {
            return Err(service.error(&format!("/{}", config_drive::META_DATA), Why::Missing).into());
        }
        Ok(config_drive::says(&files, &service.to_string(), NEXT)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fetch::testing::{Mock, Route};

    #[test]
    fn the_documents_are_those_of_the_drive() {
        let route = |path: &str, text: &str| Route::get(&format!("/openstack/latest/{path}"), text);
        let meta = route(
            "meta_data.json",
            include_str!("../../../../../examples/seeds/config-2/openstack/latest/meta_data.json"),
        );
        let network = route(
            "network_data.json",
            include_str!("../../../../../examples/seeds/config-2/openstack/latest/network_data.json"),
        );
        let told = OpenStack.ask(&Mock::of(vec![meta, network]).service()).unwrap();
        assert_eq!(told.host_name.as_deref(), Some("cp1"));
        assert_eq!(told.says.links[0].addresses, ["10.0.2.15/24".parse().unwrap()]);
        let error = OpenStack.ask(&Mock::of(Vec::new()).service()).unwrap_err().to_string();
        assert!(error.contains("/openstack/latest/meta_data.json: there is no such thing"), "{error}");
    }
}
