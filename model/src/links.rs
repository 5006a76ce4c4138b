//! A node's links as somebody describes them: the cluster file, the seed, and what the formats of clouds
//! (`network-config`, `network_data.json`) are turned into. Words of iproute2 and the kernel's bonding, bridge and VLAN
//! documents.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// `[[link]]`: one link, a card that is there or one that is made (`vlan`, `bond` or `bridge`).
///
/// A card is found by `mac`, `driver` and `path`, all that are given, else by its name in the kernel; it keeps that name.
/// Other links refer to this one by `name`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Link {
    /// What it is called here; the name of the device if it is made, at most 15 bytes.
    pub name: String,
    /// MAC address: of the card that is meant, or of the device that is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Driver of the card that is meant: `virtio_net`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Where the card that is meant is plugged in, the end of its folder below `/sys/devices`: `0000:03:00.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Addresses with the prefix length of their network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<schema::Cidr>"))]
    pub addresses: Vec<IpNet>,
    /// Ask a DHCPv4 server (RFC 2131).
    pub dhcp4: bool,
    /// What is taken of a DHCPv4 lease.
    #[serde(skip_serializing_if = "DhcpOverrides::is_default")]
    pub dhcp4_overrides: DhcpOverrides,
    /// Ask a DHCPv6 server (RFC 8415).
    pub dhcp6: bool,
    /// Take addresses and routes from router advertisements (RFC 4862). What the kernel does if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_ra: Option<bool>,
    /// Bytes; that of the cluster file's `[network]` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Metric of routes that have none of their own, those of DHCP among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Routes through this link.
    #[serde(rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Routing rules. They belong to no link in the kernel, and are written beside the routes that they choose.
    #[serde(rename = "rule", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Resolvers, before those of DHCP and of the cluster file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<IpAddr>,
    /// Domains that short names are looked up in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// The node is online without it: nothing waits for it.
    pub optional: bool,
    /// A VLAN of another link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vlan>,
    /// Several links as one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bond: Option<Bond>,
    /// A switch of several links.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Bridge>,
}

impl Link {
    /// Whether it is a card without addresses, routes and rules, known by nothing but its MAC address or name. Alone it
    /// describes what every machine has, and the name is the one that another system gives it: clouds hand that over for
    /// machines whose address their DHCP server lends.
    pub fn is_plain_card(&self) -> bool {
        let is_made = self.vlan.is_some() || self.bond.is_some() || self.bridge.is_some();
        let has_traffic = !(self.addresses.is_empty() && self.routes.is_empty() && self.rules.is_empty());
        // Another card would be taken if these were passed over.
        let is_found_elsehow = self.driver.is_some() || self.path.is_some();
        !is_made && !has_traffic && !is_found_elsehow
    }
}

/// `[link.dhcp4-overrides]`: what a lease brings beside its address. The names are netplan's; its `route-metric` is the
/// link's `metric`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DhcpOverrides {
    /// Its routes, the default route among them.
    pub use_routes: bool,
    /// Its resolvers and search domains.
    pub use_dns: bool,
    /// Its MTU, if that is less than the link's.
    pub use_mtu: bool,
    /// Its NTP servers.
    pub use_ntp: bool,
}

impl Default for DhcpOverrides {
    fn default() -> DhcpOverrides {
        DhcpOverrides { use_routes: true, use_dns: true, use_mtu: true, use_ntp: true }
    }
}

impl DhcpOverrides {
    fn is_default(&self) -> bool {
        *self == DhcpOverrides::default()
    }
}

/// `[[link.route]]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Route {
    /// Where to: `0.0.0.0/0` and `::/0` are default routes.
    #[cfg_attr(feature = "schema", schemars(with = "schema::Cidr"))]
    pub to: IpNet,
    /// Next hop; on the link itself if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// The smallest counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Routing table, by number; the main table if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The next hop is on the link although no address says so.
    #[serde(default)]
    pub on_link: bool,
    /// Address that packets of this route have as their source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
}

/// `[[link.rule]]`: packets that fit look into a table (ip-rule(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rule {
    /// Source of the packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema::Cidr>"))]
    pub from: Option<IpNet>,
    /// Destination of the packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema::Cidr>"))]
    pub to: Option<IpNet>,
    /// Firewall mark of the packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// Routing table, by number.
    pub table: u32,
    /// Rules are tried from the smallest; before the main table's 32766. The kernel chooses if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
}

/// `[link.vlan]` (IEEE 802.1Q).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Vlan {
    /// 1 to 4094.
    pub id: u16,
    /// Name of the link that carries it.
    pub link: String,
}

/// `[link.bond]` (the kernel's `networking/bonding`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bond {
    /// Names of its links.
    pub members: Vec<String>,
    /// Who sends when.
    #[serde(default)]
    pub mode: BondMode,
    /// Milliseconds between two looks at the carrier of members.
    #[serde(default = "default_miimon")]
    pub miimon: u32,
    /// With `802.3ad`: how often the partner is to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacp_rate: Option<LacpRate>,
    /// With `802.3ad` and `balance-xor`: what decides over which member a packet goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transmit_hash_policy: Option<TransmitHashPolicy>,
    /// With `802.3ad`: so many members must work, or the bond has no carrier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_links: Option<u32>,
    /// With `active-backup`: the member that is used while it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// Milliseconds that a member works before it is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_delay: Option<u32>,
    /// Milliseconds that a member does not work before it is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_delay: Option<u32>,
}

/// `mode` of the kernel's bonding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BondMode {
    /// 0: one after the other.
    BalanceRr,
    /// 1: one, and another when that one fails. Needs nothing of the switch.
    #[default]
    ActiveBackup,
    /// 2: by a hash of the packet.
    BalanceXor,
    /// 3: on all.
    Broadcast,
    /// 4: LACP.
    #[serde(rename = "802.3ad")]
    Lacp,
    /// 5: by load, outgoing.
    BalanceTlb,
    /// 6: by load, both ways.
    BalanceAlb,
}

/// `lacp_rate`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LacpRate {
    /// Every 30 seconds.
    Slow,
    /// Every second.
    Fast,
}

/// `xmit_hash_policy`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TransmitHashPolicy {
    /// MAC addresses.
    #[serde(rename = "layer2")]
    Layer2,
    /// MAC and IP addresses.
    #[serde(rename = "layer2+3")]
    Layer23,
    /// IP addresses and ports.
    #[serde(rename = "layer3+4")]
    Layer34,
    /// As `layer2+3`, of what is inside a tunnel.
    #[serde(rename = "encap2+3")]
    Encap23,
    /// As `layer3+4`, of what is inside a tunnel.
    #[serde(rename = "encap3+4")]
    Encap34,
}

/// `[link.bridge]` (the kernel's `networking/bridge`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bridge {
    /// Names of its links.
    pub members: Vec<String>,
    /// Spanning tree protocol.
    #[serde(default)]
    pub stp: bool,
    /// With `stp`: seconds until a member forwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_delay: Option<u32>,
}

/// Milliseconds: what the kernel's document advises. Without it a bond does not notice that a member has failed.
fn default_miimon() -> u32 {
    100
}

/// The form of a network in a schema, for which its own type has none.
#[cfg(feature = "schema")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    pub struct Cidr;

    impl JsonSchema for Cidr {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "Cidr".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({ "type": "string", "format": "cidr" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_card_says_nothing_but_that_it_is_there() {
        let is_plain = |text: &str| toml::from_str::<Link>(text).unwrap().is_plain_card();
        for plain in ["", "name = 'ens3'\nmac = '52:54:00:00:00:01'\ndhcp4 = true\nmtu = 1450"] {
            assert!(is_plain(plain), "{plain}");
        }
        for other in [
            "addresses = ['10.20.0.10/24']",
            "route = [{ to = '0.0.0.0/0', via = '10.20.0.1' }]",
            "rule = [{ mark = 1, table = 100 }]",
            "driver = 'igb'",
            "path = '0000:03:00.0'",
            "vlan = { id = 2, link = 'eth0' }",
            "bond = { members = [] }",
            "bridge = { members = [] }",
        ] {
            assert!(!is_plain(other), "{other}");
        }
    }
}
