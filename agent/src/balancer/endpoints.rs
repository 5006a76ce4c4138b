//! Follows the endpoints of the Service `kubernetes`: the API servers themselves keep them, so that control
//! planes that were added after this image was made are used too.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kube::{Api, Client};

use super::Balancer;
use crate::api::objects::Endpoints;
use crate::api::{Change, watch};

/// Teaches the balancer for ever. Endpoints that are deleted or empty teach nothing.
pub async fn follow(client: Client, balancer: Arc<Balancer>) {
    let api: Api<Endpoints> = Api::namespaced(client, "default");
    // The field is what RBAC's resourceNames are compared with.
    let fields = Some("metadata.name=kubernetes");
    watch(
        "the API's endpoints",
        api,
        fields,
        |endpoints| addresses(&endpoints),
        |change| match change {
            Change::All(all) => all.into_iter().for_each(|addresses| balancer.learn(addresses)),
            Change::Set(addresses) => balancer.learn(addresses),
            Change::Gone(_) => {}
        },
    )
    .await;
}

/// Every address with its port, sorted: the order in the object is not kept from one version to the next.
fn addresses(endpoints: &Endpoints) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = endpoints
        .subsets
        .iter()
        .flat_map(|subset| {
            let port = subset.ports.first().map(|port| port.port);
            subset.addresses.iter().filter_map(move |address| {
                let ip: IpAddr = address.ip.parse().ok()?;
                Some(SocketAddr::new(ip, port?))
            })
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_every_family_and_nothing_else() {
        let endpoints: Endpoints = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "kubernetes", "namespace": "default", "managedFields": [{ "manager": "x" }] },
            "subsets": [
                { "addresses": [{ "ip": "10.20.0.11" }, { "ip": "10.20.0.10", "nodeName": "cp1" }, { "ip": "x" }],
                  "notReadyAddresses": [{ "ip": "10.20.0.12" }],
                  "ports": [{ "name": "https", "port": 6443, "protocol": "TCP" }] },
                { "addresses": [{ "ip": "fd00::1" }] },
                { "addresses": [{ "ip": "fd00::2" }], "ports": [{ "port": 6443 }] },
            ],
        }))
        .unwrap();
        let text: Vec<String> = addresses(&endpoints).iter().map(ToString::to_string).collect();
        assert_eq!(text, ["10.20.0.10:6443", "10.20.0.11:6443", "[fd00::2]:6443"]);
        assert!(addresses(&Endpoints::default()).is_empty());
    }
}
