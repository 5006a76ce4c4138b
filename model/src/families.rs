//! Values of which a cluster has one for each of its address families.
//!
//! A cluster speaks IPv4, IPv6 or both ("dual-stack", KEP-563:
//! <https://kubernetes.io/docs/concepts/services-networking/dual-stack/>). Whatever follows from that, ranges, addresses,
//! gateways, is a [`PerFamily`]: written as one value, or as a list with one of each family, of which the first
//! is of the primary family. Kubernetes' own flags spell it as [`PerFamily`]'s `Display` does: `10.10.0.0/16,fd00::/56`.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::de::value::{I64Deserializer, SeqAccessDeserializer, StrDeserializer, U64Deserializer};
use serde::de::{self, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// That of an address.
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// What there can be one of for each family.
pub trait OfFamily: Copy + fmt::Display {
    /// The family that the value itself tells. `None`: it is of the family that another value in its place is of.
    fn family(&self) -> Option<Family>;

    /// How a value is written: JSON schema's `type` and `format`, as `builder/src/cluster/text` checks it.
    #[cfg(feature = "schema")]
    fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema;
}

impl OfFamily for IpAddr {
    fn family(&self) -> Option<Family> {
        Some(Family::of(*self))
    }

    #[cfg(feature = "schema")]
    fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<IpAddr>()
    }
}

impl OfFamily for IpNet {
    fn family(&self) -> Option<Family> {
        Some(Family::of(self.addr()))
    }

    #[cfg(feature = "schema")]
    fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "cidr" })
    }
}

/// A prefix length, of the range in the same place.
impl OfFamily for u8 {
    fn family(&self) -> Option<Family> {
        None
    }

    #[cfg(feature = "schema")]
    fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<u8>()
    }
}

/// One value, or one of each family. The first is of the primary family: what has room for one value only takes that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PerFamily<T> {
    first: T,
    second: Option<T>,
}

/// A list that is not one value, or one of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FamilyError {
    /// An empty list.
    #[error("an empty list; write one value, or one of each address family")]
    None,
    /// More values than there are families.
    #[error("more than two values; write one, or one of each address family")]
    TooMany,
    /// Two values of one family.
    #[error("two values of {0}; write one of each address family")]
    Twice(Family),
}

impl<T: OfFamily> PerFamily<T> {
    /// Of one family.
    pub fn one(value: T) -> PerFamily<T> {
        PerFamily { first: value, second: None }
    }

    /// Of as many as there are values: one, or one of each.
    pub fn new(values: impl IntoIterator<Item = T>) -> Result<PerFamily<T>, FamilyError> {
        let mut values = values.into_iter();
        let first = values.next().ok_or(FamilyError::None)?;
        let second = values.next();
        if values.next().is_some() {
            return Err(FamilyError::TooMany);
        }
        match second.and_then(|second| second.family()) {
            Some(family) if first.family() == Some(family) => Err(FamilyError::Twice(family)),
            _ => Ok(PerFamily { first, second }),
        }
    }

    /// The first.
    pub fn primary(&self) -> T {
        self.first
    }

    /// All, the primary one first.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<T> {
        [Some(self.first), self.second].into_iter().flatten()
    }

    /// One or two.
    pub fn count(&self) -> usize {
        self.iter().count()
    }

    /// That of a family.
    pub fn of(&self, family: Family) -> Option<T> {
        self.iter().find(|value| value.family() == Some(family))
    }

    /// The families in the order of the values.
    pub fn families(&self) -> impl Iterator<Item = Family> + use<T> {
        self.iter().filter_map(|value| value.family())
    }

    /// What follows from each, of the same family.
    pub fn map<U>(&self, each: impl Fn(T) -> U) -> PerFamily<U> {
        PerFamily { first: each(self.first), second: self.second.map(each) }
    }

    /// The same for what may fail.
    pub fn try_map<U, E>(&self, each: impl Fn(T) -> Result<U, E>) -> Result<PerFamily<U>, E> {
        Ok(PerFamily { first: each(self.first)?, second: self.second.map(each).transpose()? })
    }

    /// The same values, with that of the first family of `order` in front.
    pub fn ordered_as<U: OfFamily>(&self, order: &PerFamily<U>) -> PerFamily<T> {
        match self.second {
            Some(second) if second.family() == order.first.family() => {
                PerFamily { first: second, second: Some(self.first) }
            }
            _ => *self,
        }
    }

    /// Whether there is a value of each family of `other`, and of no further one.
    pub fn same_families<U: OfFamily>(&self, other: &PerFamily<U>) -> bool {
        self.count() == other.count() && self.families().all(|family| other.of(family).is_some())
    }
}

impl PerFamily<IpNet> {
    /// The address of the primary family: the one that nodes reach each other at.
    pub fn addr(&self) -> IpAddr {
        self.first.addr()
    }

    /// The addresses without prefix lengths.
    pub fn addrs(&self) -> PerFamily<IpAddr> {
        self.map(|network| network.addr())
    }

    /// The networks around the addresses.
    pub fn trunc(&self) -> PerFamily<IpNet> {
        self.map(|network| network.trunc())
    }

    /// Whether one of them contains the address.
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.iter().any(|network| network.contains(address))
    }
}

impl PerFamily<IpAddr> {
    /// Whether the address is one of them.
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.iter().any(|one| one == *address)
    }
}

impl<T: OfFamily> From<T> for PerFamily<T> {
    fn from(value: T) -> PerFamily<T> {
        PerFamily::one(value)
    }
}

/// `a,b` as in Kubernetes' flags; `a, b` with `{:#}`, for people.
impl<T: OfFamily> fmt::Display for PerFamily<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        match self.second {
            Some(second) if f.alternate() => write!(f, ", {second}"),
            Some(second) => write!(f, ",{second}"),
            None => Ok(()),
        }
    }
}

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError<E: std::error::Error + 'static> {
    /// A part of it.
    #[error(transparent)]
    Value(E),
    /// All of it.
    #[error(transparent)]
    Families(#[from] FamilyError),
}

/// As it is displayed.
impl<T: OfFamily + FromStr<Err: std::error::Error + 'static>> FromStr for PerFamily<T> {
    type Err = ParseError<T::Err>;

    fn from_str(text: &str) -> Result<PerFamily<T>, Self::Err> {
        let values: Result<Vec<T>, _> = text.split(',').map(|part| part.trim().parse()).collect();
        Ok(PerFamily::new(values.map_err(ParseError::Value)?)?)
    }
}

/// A single value as itself, so that a cluster of one family is written as it always was.
impl<T: OfFamily + Serialize> Serialize for PerFamily<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.second {
            None => self.first.serialize(serializer),
            Some(second) => serializer.collect_seq([self.first, second]),
        }
    }
}

/// Of a value, or of a list.
impl<'de, T: OfFamily + Deserialize<'de>> Deserialize<'de> for PerFamily<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PerFamily<T>, D::Error> {
        deserializer.deserialize_any(OneOrList(PhantomData))
    }
}

struct OneOrList<T>(PhantomData<T>);

impl<'de, T: OfFamily + Deserialize<'de>> Visitor<'de> for OneOrList<T> {
    type Value = PerFamily<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, or a list with one of each address family")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<PerFamily<T>, E> {
        let deserializer: StrDeserializer<'_, E> = text.into_deserializer();
        T::deserialize(deserializer).map(PerFamily::one)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<PerFamily<T>, E> {
        let deserializer: U64Deserializer<E> = number.into_deserializer();
        T::deserialize(deserializer).map(PerFamily::one)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<PerFamily<T>, E> {
        let deserializer: I64Deserializer<E> = number.into_deserializer();
        T::deserialize(deserializer).map(PerFamily::one)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<PerFamily<T>, A::Error> {
        let values: Vec<T> = Vec::deserialize(SeqAccessDeserializer::new(list))?;
        PerFamily::new(values).map_err(de::Error::custom)
    }
}

/// `anyOf` a value and a list of one or two: the one form of that kind that our files have.
#[cfg(feature = "schema")]
impl<T: OfFamily> schemars::JsonSchema for PerFamily<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PerFamily".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let item = T::schema(generator);
        schemars::json_schema!({
            "anyOf": [item, { "type": "array", "items": item, "minItems": 1, "maxItems": 2 }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> PerFamily<IpNet> {
        text.parse().unwrap()
    }

    #[test]
    fn a_single_value_is_written_as_itself_and_both_as_a_list() {
        for (text, json) in [
            ("10.10.0.0/16", r#""10.10.0.0/16""#),
            ("fd00:10::/56,10.10.0.0/16", r#"["fd00:10::/56","10.10.0.0/16"]"#),
        ] {
            let both = ranges(text);
            assert_eq!(serde_json::to_string(&both).unwrap(), json);
            assert_eq!(serde_json::from_str::<PerFamily<IpNet>>(json).unwrap(), both);
            assert_eq!(both.to_string(), text);
            assert_eq!(format!("{both:#}"), text.replace(',', ", "));
        }
        let bits: PerFamily<u8> = serde_json::from_str("[24, 64]").unwrap();
        assert_eq!((bits.count(), bits.primary()), (2, 24));
        assert_eq!(serde_json::from_str::<PerFamily<u8>>("24").unwrap(), PerFamily::one(24));
        assert_eq!(ranges("10.0.0.0/8"), serde_json::from_str(r#"["10.0.0.0/8"]"#).unwrap());
    }

    #[test]
    fn what_is_not_one_of_each_family_is_refused_with_the_reason() {
        let refused = |json: &str| serde_json::from_str::<PerFamily<IpNet>>(json).unwrap_err().to_string();
        assert!(refused("[]").starts_with("an empty list"));
        assert!(refused(r#"["10.0.0.0/8", "fd00::/8", "11.0.0.0/8"]"#).starts_with("more than two"));
        assert!(refused(r#"["10.0.0.0/8", "11.0.0.0/8"]"#).starts_with("two values of IPv4"));
        assert!(refused("true").contains("a list with one of each address family"));
        assert!(refused(r#""10.0.0.0""#).contains("invalid"));
        assert!(serde_json::from_str::<PerFamily<u8>>("256").is_err());
        assert!(serde_json::from_str::<PerFamily<u8>>("-1").is_err());
    }

    #[test]
    fn a_file_that_a_person_wrote_is_read_with_the_place_of_a_mistake() {
        #[derive(Debug, Deserialize)]
        struct Seed {
            #[serde(rename = "address")]
            _address: Option<PerFamily<IpNet>>,
        }
        let seed = |text: &str| toml::from_str::<Seed>(text);
        assert!(seed("address = ['10.0.2.15/24', 'fd00::15/64']").is_ok());
        let error = seed("\naddress = ['10.0.2.15/24', '10.0.2.16/24']").unwrap_err();
        assert!(error.message().contains("two values of IPv4"), "{error}");
        assert_eq!(error.span().unwrap().start, 11, "{error}");
    }

    #[test]
    fn families_are_found_compared_and_put_in_order() {
        let (four, six, both) = (ranges("10.0.0.1/8"), ranges("fd00::1/64"), ranges("10.0.0.1/8,fd00::1/64"));
        assert_eq!(both.of(Family::V6), Some(six.primary()));
        assert_eq!(four.of(Family::V6), None);
        assert!(both.same_families(&ranges("fd00::1/64,10.0.0.1/8")));
        assert!(!both.same_families(&four) && !four.same_families(&six) && !four.same_families(&both));
        let turned = both.ordered_as(&six);
        assert_eq!(turned.to_string(), "fd00::1/64,10.0.0.1/8");
        assert_eq!(turned.ordered_as(&four), both);
        assert_eq!(four.ordered_as(&six), four);
        assert_eq!(turned.addr(), six.addr());
        assert!(both.trunc().contains(&"fd00::2".parse().unwrap()));
        assert!(!both.addrs().contains(&"fd00::2".parse().unwrap()));
    }
}
