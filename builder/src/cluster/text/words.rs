//! Findings about the form of a value, in words.

use std::net::IpAddr;

use bootwright_model::families::Family;
use ipnet::IpNet;
use toml::de::DeValue;

use super::finding::{Finding, KeyPath};
use super::shape::{Key, Shape};

pub fn missing(key: &Key, path: &KeyPath) -> Finding {
    let first_line = key.explanation.lines().next().unwrap_or_default();
    match &key.shape {
        Shape::Table(_) => {
            Finding::new("missing-key", format!("there is no [{}] section", path.key(&key.name)))
                .at_value(path.clone(), "in this file")
                .help(format!("add one; `bootwright reference` explains its keys ({first_line})"))
        }
        shape => Finding::new("missing-key", format!("`{}` is missing", path.key(&key.name)))
            .at_value(path.clone(), "in this table")
            .help(format!("add `{} = …`, {}: {first_line}", key.name, shape.noun())),
    }
}

pub fn wrong_type(shape: &Shape, value: &DeValue<'_>, path: &KeyPath) -> Finding {
    let found = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    let help = match (shape, value) {
        (Shape::Array(item, _), DeValue::Table(_)) if matches!(**item, Shape::Table(_)) => {
            format!("write `[[{path}]]` with two brackets: there can be several")
        }
        (Shape::Table(_), DeValue::Array(_)) => format!("write `[{path}]` with single brackets, once"),
        (Shape::Array(..), DeValue::String(_)) => "put it in brackets: `[\"…\"]`".to_owned(),
        (
            Shape::Text(_) | Shape::Choice(_),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_),
        ) => "put it in double quotes".to_owned(),
        (Shape::Integer(..) | Shape::Boolean, DeValue::String(_)) => "leave the quotes out".to_owned(),
        (shape, _) => format!("write {}", shape.noun()),
    };
    Finding::new("type", format!("`{path}` is {found}, and must be {}", shape.noun()))
        .at_value(path.clone(), found)
        .help(help)
}

pub fn not_an_address(text: &str, path: &KeyPath) -> Option<Finding> {
    if text.parse::<IpAddr>().is_ok() {
        return None;
    }
    let help = match text.split_once('/') {
        Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
            format!("leave the prefix length out: \"{address}\"")
        }
        _ => "write an IPv4 or IPv6 address such as \"10.0.2.15\"; names are not looked up".to_owned(),
    };
    let finding = Finding::new("address", format!("\"{text}\" is not an address"));
    Some(finding.at_value(path.clone(), "not an address").help(help))
}

pub fn not_a_cidr(text: &str, path: &KeyPath) -> Option<Finding> {
    if text.parse::<IpNet>().is_ok() {
        return None;
    }
    let help = cidr_advice(text);
    let finding = Finding::new("cidr", format!("\"{text}\" is not an address with a prefix length"));
    Some(finding.at_value(path.clone(), "not address/prefix").help(help))
}

/// A list that is not one value, or one of each address family.
pub fn not_per_family(values: &[toml::Value], path: &KeyPath) -> Option<Finding> {
    let family = |value: &toml::Value| {
        let text = value.as_str()?;
        let address = text.parse().or_else(|_| text.parse().map(|network: IpNet| network.addr()));
        address.ok().map(Family::of)
    };
    let finding = match values {
        [] => Finding::new("per-family", format!("`{path}` is an empty list"))
            .at_value(path.clone(), "no value")
            .help("write one value, or one IPv4 and one IPv6 value"),
        [_] => return None,
        [first, second] => {
            let both = family(first).filter(|one| family(second) == Some(*one))?;
            Finding::new("per-family", format!("`{path}` has two values of {both}"))
                .at_value(path.index(1), format!("{both} again"))
                .at_value(path.index(0), both.to_string())
                .help("write one value, or one IPv4 and one IPv6 value; the first is of the cluster's primary family")
        }
        [_, _, more @ ..] => Finding::new("per-family", format!("`{path}` has {} values", values.len()))
            .at_value(path.index(values.len() - more.len()), "one too many")
            .help("write one value, or one IPv4 and one IPv6 value"),
    };
    Some(finding)
}

/// What to write instead of a text that is no address with a prefix length.
pub fn cidr_advice(text: &str) -> String {
    if text.parse::<IpAddr>().is_ok() {
        return format!("add the prefix length of its network: \"{text}/…\"");
    }
    let family = match text.split_once('/').and_then(|(address, _)| address.parse().ok()) {
        Some(IpAddr::V4(_)) => ("IPv4", 32),
        Some(IpAddr::V6(_)) => ("IPv6", 128),
        None => {
            return "write an address and a prefix length, such as \"10.0.2.15/24\" or \"fd00::/64\""
                .to_owned();
        }
    };
    let (name, longest) = family;
    format!("the address is good; the prefix length of an {name} address is a number from 0 to {longest}")
}
