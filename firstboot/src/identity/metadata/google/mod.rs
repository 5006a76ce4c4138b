//! Google Cloud: the metadata server of Compute Engine (<https://cloud.google.com/compute/docs/metadata/overview>).

use super::{Cloud, Facts};
use crate::identity::Told;
use crate::identity::fetch::{AskError, Service};
use crate::identity::machine::Machine;

/// Google Cloud.
pub struct Google;

impl Cloud for Google {
    fn name(&self) -> &'static str {
        "Google Cloud"
    }

    fn is_it(&self, machine: &Machine) -> bool {
        matches!(machine.firmware.product.as_deref(), Some("Google Compute Engine" | "Google"))
    }

    fn ask(&self, service: &Service) -> Result<Told, AskError> {
        const NAME: &str = "/computeMetadata/v1/instance/name";
        const ZONE: &str = "/computeMetadata/v1/instance/zone";
        const PROJECT: &str = "/computeMetadata/v1/project/project-id";
        // Without it nothing is answered, so that a page in a browser cannot ask.
        let headers = [("Metadata-Flavor", "Google")];
        let name = service.needed(NAME, service.line(NAME, &headers)?)?;
        let project = service.needed(PROJECT, service.line(PROJECT, &headers)?)?;
        // `projects/123456789/zones/europe-west3-a`
        let zone = service.needed(ZONE, service.line(ZONE, &headers)?)?;
        let zone = zone.rsplit('/').next().unwrap_or_default();
        let facts = Facts {
            user_data: service.user_data("/computeMetadata/v1/instance/attributes/user-data", &headers)?,
            name: None,
            provider_id: Some(format!("gce://{project}/{zone}/{name}")),
            host_name: Some(name),
        };
        Ok(facts.understood()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fetch::testing::{Mock, Route};

    const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");

    fn routes() -> Vec<Route> {
        let get = |path, body: &str| Route::get(path, body).with(FLAVOR);
        vec![
            get("/computeMetadata/v1/instance/name", "w1"),
            get("/computeMetadata/v1/instance/zone", "projects/123456789/zones/europe-west3-a"),
            get("/computeMetadata/v1/project/project-id", "harbor-test"),
        ]
    }

    #[test]
    fn the_instance_names_the_node() {
        let told = Google.ask(&Mock::of(routes()).service()).unwrap();
        assert_eq!(told.host_name.as_deref(), Some("w1"));
        assert_eq!(told.says.provider_id.as_deref(), Some("gce://harbor-test/europe-west3-a/w1"));
    }

    #[test]
    fn user_data_comes_first() {
        let mut all = routes();
        let path = "/computeMetadata/v1/instance/attributes/user-data";
        all.push(Route::get(path, "name = \"w2\"\npod-cidr = \"10.10.7.0/24\"\n").with(FLAVOR));
        let told = Google.ask(&Mock::of(all).service()).unwrap();
        assert_eq!(told.says.name.as_deref(), Some("w2"));
        assert_eq!(told.says.pod_cidr, "10.10.7.0/24".parse().ok());
    }
}
