//! DigitalOcean's metadata service (<https://docs.digitalocean.com/reference/api/metadata-api/>).

use serde::Deserialize;

use super::{Cloud, Facts};
use crate::identity::Told;
use crate::identity::fetch::{AskError, Service};
use crate::identity::machine::Machine;

const ALL: &str = "/metadata/v1.json";

/// DigitalOcean.
pub struct DigitalOcean;

#[derive(Debug, Deserialize)]
struct Droplet {
    droplet_id: u64,
    hostname: Option<String>,
    user_data: Option<String>,
}

impl Cloud for DigitalOcean {
    fn name(&self) -> &'static str {
        "DigitalOcean"
    }

    fn is_it(&self, machine: &Machine) -> bool {
        machine.firmware.vendor.as_deref() == Some("DigitalOcean")
    }

    fn ask(&self, service: &Service) -> Result<Told, AskError> {
        let droplet: Droplet = service.json(ALL, &[])?;
        let user_data = droplet.user_data.filter(|data| !data.is_empty());
        let facts = Facts {
            user_data: user_data.map(|data| (data.into_bytes(), service.url(ALL))),
            name: None,
            host_name: droplet.hostname,
            provider_id: Some(format!("digitalocean://{}", droplet.droplet_id)),
        };
        Ok(facts.understood()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fetch::testing::{Mock, Route};

    #[test]
    fn the_droplet_names_the_node() {
        let all = Route::get(ALL, include_str!("fixtures/v1.json"));
        let told = DigitalOcean.ask(&Mock::of(vec![all]).service()).unwrap();
        assert_eq!(told.host_name.as_deref(), Some("w1"));
        assert_eq!(told.says.provider_id.as_deref(), Some("digitalocean://421108815"));
        assert_eq!(told.says.pod_cidr, "10.10.7.0/24".parse().ok());
    }
}
