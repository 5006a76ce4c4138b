//! Alibaba Cloud: the metadata of ECS instances, in its security-hardened mode
//! (<https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata>).
//!
//! Its controller manager has names without a scheme (`cn-hangzhou.i-abc`), which are no `spec.providerID` as Kubernetes
//! describes it: where it runs, the node's is written down.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{Cloud, Facts};
use crate::identity::Told;
use crate::identity::fetch::{AskError, Service};
use crate::identity::machine::Machine;
use crate::network::dhcp::lease::Lease;

const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 200), 80);
/// Seconds that a token is good for: longer than all requests take.
const TOKEN_SECONDS: &str = "300";

/// Alibaba Cloud.
pub struct Alibaba;

impl Cloud for Alibaba {
    fn name(&self) -> &'static str {
        "Alibaba Cloud"
    }

    fn is_it(&self, machine: &Machine) -> bool {
        machine.firmware.product.as_deref() == Some("Alibaba Cloud ECS")
    }

    fn service(&self, _: &Lease) -> SocketAddrV4 {
        SERVICE
    }

    fn ask(&self, service: &Service) -> Result<Told, AskError> {
        const TOKEN: &str = "/latest/api/token";
        const HOST_NAME: &str = "/latest/meta-data/hostname";
        let token = service.put(TOKEN, &[("X-aliyun-ecs-metadata-token-ttl-seconds", TOKEN_SECONDS)])?;
        let token = String::from_utf8_lossy(&service.needed(TOKEN, token)?).into_owned();
        let headers = [("X-aliyun-ecs-metadata-token", token.as_str())];
        let facts = Facts {
            user_data: service.user_data("/latest/user-data", &headers)?,
            name: None,
            host_name: service.line(HOST_NAME, &headers)?,
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
    fn the_instance_names_the_node_whatever_its_capitals() {
        let token = ("X-aliyun-ecs-metadata-token", "AQAEAF==");
        let routes = vec![
            Route::put("/latest/api/token", token.1).with(("X-aliyun-ecs-metadata-token-ttl-seconds", "300")),
            Route::get("/latest/meta-data/hostname", "iZbp1abcZ").with(token),
            Route::get("/latest/user-data", "pod-cidr = \"10.10.7.0/24\"").with(token),
        ];
        let told = Alibaba.ask(&Mock::of(routes).service()).unwrap();
        assert_eq!(told.host_name.as_deref(), Some("izbp1abcz"));
        assert_eq!(told.says.pod_cidr, "10.10.7.0/24".parse().ok());
    }
}
