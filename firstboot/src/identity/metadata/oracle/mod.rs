//! Oracle Cloud: the instance metadata service, version 2
//! (<https://docs.oracle.com/en-us/iaas/Content/Compute/Tasks/gettingmetadata.htm>).

use serde::Deserialize;

use super::{Cloud, Facts};
use crate::identity::Told;
use crate::identity::fetch::{AskError, Service};
use crate::identity::machine::Machine;

const INSTANCE: &str = "/opc/v2/instance/";

/// Oracle Cloud.
pub struct Oracle;

#[derive(Debug, Deserialize)]
struct Instance {
    id: String,
    hostname: Option<String>,
    #[serde(default)]
    metadata: MetaData,
}

#[derive(Debug, Default, Deserialize)]
struct MetaData {
    user_data: Option<String>,
}

impl Cloud for Oracle {
    fn name(&self) -> &'static str {
        "Oracle Cloud"
    }

    fn is_it(&self, machine: &Machine) -> bool {
        machine.firmware.chassis_asset_tag.as_deref() == Some("OracleCloud.com")
    }

    fn ask(&self, service: &Service) -> Result<Told, AskError> {
        let instance: Instance = service.json(INSTANCE, &[("Authorization", "Bearer Oracle")])?;
        let facts = Facts {
            user_data: instance.metadata.user_data.map(|data| (data.into_bytes(), service.url(INSTANCE))),
            name: None,
            host_name: instance.hostname,
            provider_id: Some(format!("oci://{}", instance.id)),
        };
        Ok(facts.understood()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fetch::testing::{Mock, Route};

    #[test]
    fn the_instance_names_the_node() {
        let instance = Route::get(INSTANCE, include_str!("fixtures/instance.json"));
        let told =
            Oracle.ask(&Mock::of(vec![instance.with(("Authorization", "Bearer Oracle"))]).service()).unwrap();
        assert_eq!(told.host_name.as_deref(), Some("w1"));
        assert_eq!(
            told.says.provider_id.as_deref(),
            Some("oci://ocid1.instance.oc1.eu-frankfurt-1.exampleuniqueid")
        );
        assert_eq!(told.says.pod_cidr, "10.10.7.0/24".parse().ok());
    }
}
