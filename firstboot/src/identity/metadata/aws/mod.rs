//! AWS: the instance metadata service of EC2, version 2
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>).
//!
//! A token is asked for first. Its packet may make as many hops as the instance's "hop limit" says; the machine itself
//! needs one, so that the smallest limit does. What EC2 calls a machine by itself (`ip-10-0-0-5`) is no name for a node, and
//! the tag `Name` is often that of many machines: a name is given by user data or by the tag `bootwright.node`, which the
//! service has if "instance tags in metadata" are enabled.

use super::{Cloud, Facts};
use crate::identity::Told;
use crate::identity::fetch::{AskError, Service};
use crate::identity::machine::Machine;

/// Seconds that a token is good for: longer than all requests take.
const TOKEN_SECONDS: &str = "300";

/// AWS.
pub struct Aws;

impl Cloud for Aws {
    fn name(&self) -> &'static str {
        "AWS"
    }

    fn is_it(&self, machine: &Machine) -> bool {
        let firmware = &machine.firmware;
        let ec2 = |text: &Option<String>| text.as_deref() == Some("Amazon EC2");
        // Machines on Xen say it in their UUID, which is their serial number, too: one UUID in 4096 begins so.
        let of_xen = firmware.uuid.as_ref().is_some_and(|uuid| {
            let serial = firmware.serial.as_ref();
            uuid.starts_with("ec2") && serial.is_some_and(|serial| serial.eq_ignore_ascii_case(uuid))
        });
        ec2(&firmware.vendor) || ec2(&firmware.bios_vendor) || of_xen
    }

    fn ask(&self, service: &Service) -> Result<Told, AskError> {
        const TOKEN: &str = "/latest/api/token";
        const INSTANCE: &str = "/latest/meta-data/instance-id";
        const ZONE: &str = "/latest/meta-data/placement/availability-zone";
        let token = service.put(TOKEN, &[("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS)])?;
        let token = String::from_utf8_lossy(&service.needed(TOKEN, token)?).into_owned();
        let headers = [("X-aws-ec2-metadata-token", token.as_str())];
        let instance = service.needed(INSTANCE, service.line(INSTANCE, &headers)?)?;
        let zone = service.needed(ZONE, service.line(ZONE, &headers)?)?;
        let facts = Facts {
            user_data: service.user_data("/latest/user-data", &headers)?,
            name: service.line("/latest/meta-data/tags/instance/bootwright.node", &headers)?,
            host_name: None,
            provider_id: Some(format!("aws:///{zone}/{instance}")),
        };
        Ok(facts.understood()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fetch::testing::{Mock, Route};

    const TOKEN: (&str, &str) = ("X-aws-ec2-metadata-token", "AQAEAF==");

    fn routes() -> Vec<Route> {
        let get = |path, body: &str| Route::get(path, body).with(TOKEN);
        vec![
            Route::put("/latest/api/token", TOKEN.1).with(("X-aws-ec2-metadata-token-ttl-seconds", "300")),
            get("/latest/meta-data/instance-id", "i-0a1b2c3d4e5f60718"),
            get("/latest/meta-data/placement/availability-zone", "eu-central-1b"),
        ]
    }

    #[test]
    fn a_token_is_asked_for_and_shown() {
        let mut all = routes();
        all.push(Route::get("/latest/user-data", "name = \"w1\"\n").with(TOKEN));
        let told = Aws.ask(&Mock::of(all).service()).unwrap();
        assert_eq!(told.says.name.as_deref(), Some("w1"));
        assert_eq!(told.says.provider_id.as_deref(), Some("aws:///eu-central-1b/i-0a1b2c3d4e5f60718"));
    }

    #[test]
    fn a_tag_names_the_node_if_user_data_does_not() {
        let mut all = routes();
        all.push(Route::get("/latest/meta-data/tags/instance/bootwright.node", "w2").with(TOKEN));
        assert_eq!(Aws.ask(&Mock::of(all).service()).unwrap().says.name.as_deref(), Some("w2"));
        assert_eq!(Aws.ask(&Mock::of(routes()).service()).unwrap().says.name, None);
    }

    #[test]
    fn a_service_that_is_switched_off_is_told() {
        let off = Route::put("/latest/api/token", "").status(403);
        let error = Aws.ask(&Mock::of(vec![off]).service()).unwrap_err().to_string();
        assert!(error.ends_with("/latest/api/token: the answer is 403 Forbidden"), "{error}");
    }
}
