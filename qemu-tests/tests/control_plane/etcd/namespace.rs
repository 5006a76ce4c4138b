//! A network namespace for each machine: etcd compares where a peer calls from with its certificate.

use network_namespaces::Namespace;

use crate::programs::ip;

/// One with an address on a link into the bridge `br0` of this namespace, which must be there.
pub fn of_machine(link: &str, address: &str) -> Namespace {
    let namespace = Namespace::new();
    ip(&format!("link add {link} type veth peer name eth0 netns {}", namespace.path()));
    ip(&format!("link set {link} master br0 up"));
    namespace.ip(&format!("address add {address} dev eth0"));
    namespace.ip("link set eth0 up");
    namespace
}
