//! Vultr's metadata service (<https://www.vultr.com/metadata/>).

use serde::Deserialize;

use super::{Cloud, Facts};
use crate::identity::Told;
use crate::identity::fetch::{AskError, Service};
use crate::identity::machine::Machine;

const ALL: &str = "/v1.json";

/// Vultr.
pub struct Vultr;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MetaData {
    hostname: Option<String>,
    /// The ID that its API has, and with it its controller manager. `instanceid` is that of an older API.
    instance_v2_id: Option<String>,
}

impl Cloud for Vultr {
    fn name(&self) -> &'static str {
        "Vultr"
    }

    fn is_it(&self, machine: &Machine) -> bool {
        machine.firmware.vendor.as_deref() == Some("Vultr")
    }

    fn ask(&self, service: &Service) -> Result<Told, AskError> {
        let meta: MetaData = service.json(ALL, &[])?;
        let facts = Facts {
            user_data: service.user_data("/latest/user-data", &[])?,
            name: None,
            host_name: meta.hostname,
            provider_id: meta.instance_v2_id.map(|id| format!("vultr://{id}")),
        };
        Ok(facts.understood()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fetch::testing::{Mock, Route};

    #[test]
    fn the_instance_names_the_node_and_user_data_told_the_rest() {
        let all = Route::get(ALL, include_str!("fixtures/v1.json"));
        let told = Vultr
            .ask(
                &Mock::of(vec![all, Route::get("/latest/user-data", "pod-cidr = \"10.10.7.0/24\"")])
                    .service(),
            )
            .unwrap();
        assert_eq!(told.host_name.as_deref(), Some("w1"));
        assert_eq!(told.says.provider_id.as_deref(), Some("vultr://5e7a4d1f-0b7c-4c0e-9c53-0d3b0b1a7a10"));
        assert_eq!(told.says.pod_cidr, "10.10.7.0/24".parse().ok());
    }
}
