//! Azure: the instance metadata service
//! (<https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service>).
//!
//! Read is "user data" of the machine. "Custom data" is handed over on a disc with a UDF filesystem, once, and is not read.

mod ready;

use std::time::Instant;

use serde::Deserialize;

use super::{Cloud, Facts};
use crate::identity::Told;
use crate::identity::fetch::{AskError, FetchError, Port, Service};
use crate::identity::machine::Machine;

/// What Azure writes into the chassis of its machines, the same for all.
const ASSET_TAG: &str = "7783-7084-3265-9085-8269-3286-77";
const COMPUTE: &str = "/metadata/instance/compute?api-version=2021-02-01&format=json";

/// Azure.
pub struct Azure;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Compute {
    name: String,
    resource_id: Option<String>,
    user_data: Option<String>,
    os_profile: Option<OsProfile>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OsProfile {
    computer_name: Option<String>,
}

impl Cloud for Azure {
    fn name(&self) -> &'static str {
        "Azure"
    }

    fn is_it(&self, machine: &Machine) -> bool {
        machine.firmware.chassis_asset_tag.as_deref() == Some(ASSET_TAG)
    }

    fn ask(&self, service: &Service) -> Result<Told, AskError> {
        let compute: Compute = service.json(COMPUTE, &[("Metadata", "true")])?;
        // The computer name differs from that of the resource in a scale set, where the latter is `vmss_0`.
        let computer_name = compute.os_profile.and_then(|profile| profile.computer_name);
        let user_data = compute.user_data.filter(|data| !data.is_empty());
        let facts = Facts {
            user_data: user_data.map(|data| (data.into_bytes(), service.url(COMPUTE))),
            name: None,
            host_name: computer_name.filter(|name| !name.is_empty()).or(Some(compute.name)),
            provider_id: compute.resource_id.map(|id| format!("azure://{id}")),
        };
        Ok(facts.understood()?)
    }

    fn report_ready(&self, end: Instant) -> Result<(), FetchError> {
        ready::report(&Service::new(ready::WIRE_SERVER, Port::Any, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fetch::testing::{Mock, Route};

    fn mock(body: &str) -> Mock {
        Mock::of(vec![Route::get(COMPUTE, body).with(("Metadata", "true"))])
    }

    #[test]
    fn the_document_is_read() {
        let told = Azure.ask(&mock(include_str!("fixtures/compute.json")).service()).unwrap();
        assert_eq!(told.host_name.as_deref(), Some("w1"));
        assert_eq!(
            told.says.provider_id.as_deref(),
            Some(
                "azure:///subscriptions/8d10da13-8125-4ba9-a717-bf7490507b3d/resourceGroups/harbor/providers/Microsoft.Compute/virtualMachines/harbor-w1"
            )
        );
        // `pod-cidr`, of the user data in base64.
        assert_eq!(told.says.pod_cidr, "10.10.7.0/24".parse().ok());
    }

    #[test]
    fn without_a_computer_name_the_resource_gives_one() {
        assert_eq!(
            Azure.ask(&mock("{\"name\": \"W7\"}").service()).unwrap().host_name.as_deref(),
            Some("w7")
        );
        let error = Azure.ask(&mock("{}").service()).unwrap_err().to_string();
        assert!(error.contains("missing field `name`"), "{error}");
    }
}
