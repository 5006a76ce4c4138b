//! Values that the formats write in ways of their own.

use std::net::IpAddr;

use bootwright_model::links::{Bond, BondMode, LacpRate, Route, TransmitHashPolicy};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use super::Unclear;

/// Milliseconds between two looks at the carrier of a bond's members, where the document says none: what the kernel's
/// document advises.
const MIIMON: u32 = 100;

/// A list or table that some write as nothing at all: `null`.
pub fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A scalar that some write in quotes and some do not: `100`, `"100"`, `yes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar(pub String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scalar, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text or a number")
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar(String::new()))
            }

            /// As the kernel takes several: `arp_ip_target`.
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
                let mut words = Vec::new();
                while let Some(Scalar(word)) = list.next_element()? {
                    words.push(word);
                }
                Ok(Scalar(words.join(",")))
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Scalar {
    /// A number, of whatever type is wanted.
    pub fn number<T: std::str::FromStr>(&self) -> Result<T, Unclear> {
        self.0.trim().parse().map_err(|_| Unclear(format!("`{}`: a number is expected", self.0)))
    }

    /// What YAML 1.1, ifupdown and people call true.
    pub fn is_on(&self) -> bool {
        ["true", "yes", "on", "1"].contains(&self.0.trim().to_ascii_lowercase().as_str())
    }
}

/// One, or a list of them; ifupdown's lists of one line have spaces in between.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(untagged)]
pub enum Several {
    /// None.
    #[default]
    Nothing,
    /// One line.
    One(String),
    /// A list.
    List(Vec<String>),
}

impl Several {
    /// Each of them.
    pub fn words(&self) -> Vec<&str> {
        match self {
            Several::Nothing => Vec::new(),
            Several::One(line) => line.split_ascii_whitespace().collect(),
            Several::List(list) => list.iter().map(|word| word.trim()).collect(),
        }
    }

    /// Each as an address.
    pub fn addresses(&self) -> Result<Vec<IpAddr>, Unclear> {
        self.words().into_iter().map(address).collect()
    }
}

/// An address.
pub fn address(text: &str) -> Result<IpAddr, Unclear> {
    text.trim().parse().map_err(|_| Unclear(format!("`{text}` is no address")))
}

/// An address with the prefix length that it has itself, or that of a netmask or a number beside it; one that has neither
/// is alone.
pub fn network(text: &str, netmask: Option<&str>) -> Result<IpNet, Unclear> {
    let text = text.trim();
    if text.contains('/') {
        return text.parse().map_err(|_| Unclear(format!("`{text}` is no address with a prefix length")));
    }
    let address = address(text)?;
    let length = match netmask.map(str::trim) {
        None => Some(if address.is_ipv4() { 32 } else { 128 }),
        Some(mask) => match mask.parse::<IpAddr>() {
            Ok(mask) => ipnet::ip_mask_to_prefix(mask).ok().filter(|_| mask.is_ipv4() == address.is_ipv4()),
            Err(_) => mask.trim_start_matches('/').parse().ok(),
        },
    };
    let network = length.and_then(|length| IpNet::new(address, length).ok());
    network.ok_or_else(|| Unclear(format!("`{}` is no netmask of {address}", netmask.unwrap_or_default())))
}

/// The default route through a gateway.
pub fn default_route(gateway: IpAddr, metric: Option<u32>) -> Route {
    let to = match gateway {
        IpAddr::V4(_) => IpNet::new_assert([0, 0, 0, 0].into(), 0),
        IpAddr::V6(_) => IpNet::new_assert([0_u16; 8].into(), 0),
    };
    Route { to, via: Some(gateway), metric, table: None, on_link: false, source: None }
}

/// A bond of these members with the kernel's defaults.
pub fn bond(members: Vec<String>) -> Bond {
    Bond {
        members,
        // The kernel's default, which the formats leave as it is.
        mode: BondMode::BalanceRr,
        miimon: MIIMON,
        lacp_rate: None,
        transmit_hash_policy: None,
        min_links: None,
        primary: None,
        up_delay: None,
        down_delay: None,
    }
}

/// A bond's mode by its name or number.
pub fn bond_mode(text: &str) -> Result<BondMode, Unclear> {
    Ok(match text.trim() {
        "balance-rr" | "0" => BondMode::BalanceRr,
        "active-backup" | "1" => BondMode::ActiveBackup,
        "balance-xor" | "2" => BondMode::BalanceXor,
        "broadcast" | "3" => BondMode::Broadcast,
        "802.3ad" | "4" => BondMode::Lacp,
        "balance-tlb" | "5" => BondMode::BalanceTlb,
        "balance-alb" | "6" => BondMode::BalanceAlb,
        other => return Err(Unclear(format!("`{other}` is no mode of a bond"))),
    })
}

/// How often a partner of LACP sends, by its name or number.
pub fn lacp_rate(text: &str) -> Result<LacpRate, Unclear> {
    match text.trim() {
        "slow" | "0" => Ok(LacpRate::Slow),
        "fast" | "1" => Ok(LacpRate::Fast),
        other => Err(Unclear(format!("`{other}` is no LACP rate: slow or fast"))),
    }
}

/// What decides over which member a packet goes, by its name or number.
pub fn transmit_hash_policy(text: &str) -> Result<TransmitHashPolicy, Unclear> {
    Ok(match text.trim() {
        "layer2" | "0" => TransmitHashPolicy::Layer2,
        "layer3+4" | "1" => TransmitHashPolicy::Layer34,
        "layer2+3" | "2" => TransmitHashPolicy::Layer23,
        "encap2+3" | "3" => TransmitHashPolicy::Encap23,
        "encap3+4" | "4" => TransmitHashPolicy::Encap34,
        other => return Err(Unclear(format!("`{other}` is no transmit hash policy of a bond"))),
    })
}
