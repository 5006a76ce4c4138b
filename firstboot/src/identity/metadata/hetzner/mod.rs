//! Hetzner Cloud's metadata service (<https://docs.hetzner.cloud/reference/cloud#server-metadata>).

use serde::Deserialize;

use super::{Cloud, Facts};
use crate::identity::fetch::{AskError, Service, Why};
use crate::identity::machine::Machine;
use crate::identity::{Told, document};

const METADATA: &str = "/hetzner/v1/metadata";

/// Hetzner Cloud.
pub struct Hetzner;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MetaData {
    hostname: Option<String>,
    instance_id: Option<u64>,
}

impl Cloud for Hetzner {
    fn name(&self) -> &'static str {
        "Hetzner Cloud"
    }

    fn is_it(&self, machine: &Machine) -> bool {
        machine.firmware.vendor.as_deref() == Some("Hetzner")
    }

    fn ask(&self, service: &Service) -> Result<Told, AskError> {
        let unreadable = |message: String| service.error(METADATA, Why::Unreadable(message));
        let bytes = service.needed(METADATA, service.get(METADATA, &[])?)?;
        let text = document::text(&bytes).map_err(|error| unreadable(error.to_string()))?;
        let meta: MetaData = document::yaml(&text).map_err(unreadable)?;
        let facts = Facts {
            user_data: service.user_data("/hetzner/v1/userdata", &[])?,
            name: None,
            host_name: meta.hostname,
            provider_id: meta.instance_id.map(|id| format!("hcloud://{id}")),
        };
        Ok(facts.understood()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fetch::testing::{Mock, Route};

    fn metadata() -> Route {
        Route::get(METADATA, include_str!("fixtures/metadata.yaml"))
    }

    #[test]
    fn the_server_names_the_node() {
        let told = Hetzner.ask(&Mock::of(vec![metadata()]).service()).unwrap();
        assert_eq!(told.host_name.as_deref(), Some("w1"));
        assert_eq!(told.says.provider_id.as_deref(), Some("hcloud://42471108"));
    }

    #[test]
    fn user_data_comes_first_and_a_mistake_in_it_has_its_place() {
        let with = |text: &str| {
            Hetzner.ask(&Mock::of(vec![metadata(), Route::get("/hetzner/v1/userdata", text)]).service())
        };
        assert_eq!(with("name = \"w2\"").unwrap().says.name.as_deref(), Some("w2"));
        // What `hcloud server create` was given for another image.
        assert_eq!(with("#cloud-config\nusers: []\n").unwrap().host_name.as_deref(), Some("w1"));
        let error = with("\nnahme = \"w2\"").unwrap_err().to_string();
        assert!(error.contains("/hetzner/v1/userdata), line 2, column 1: unknown field `nahme`"), "{error}");
    }

    #[test]
    fn a_page_of_something_else_is_told() {
        let error =
            Hetzner.ask(&Mock::of(vec![Route::get(METADATA, "<html>")]).service()).unwrap_err().to_string();
        assert!(error.contains(METADATA) && error.contains("cannot be read"), "{error}");
    }
}
