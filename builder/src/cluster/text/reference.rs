//! The reference of a file, from its shape: every key with its form, its default and its explanation,
//! as Markdown.

use std::fmt::Write;

use schemars::JsonSchema;
use serde_json::Value;

use super::shape::{Key, Shape};

/// The reference of a file that is read as `T`.
pub fn reference<T: JsonSchema>() -> String {
    let mut out = String::new();
    if let Shape::Table(keys) = Shape::of::<T>() {
        let (sections, plain): (Vec<&Key>, Vec<&Key>) = keys.iter().partition(|key| section(key).is_some());
        for key in plain {
            item(&mut out, key);
        }
        for key in sections {
            write_section(&mut out, key, &key.name);
        }
    }
    out
}

/// The keys of a section with its header, if it is one.
fn section(key: &Key) -> Option<(bool, &[Key])> {
    match &key.shape {
        Shape::Table(keys) => Some((false, keys)),
        Shape::Array(item, _) => match &**item {
            Shape::Table(keys) => Some((true, keys)),
            _ => None,
        },
        _ => None,
    }
}

fn write_section(out: &mut String, key: &Key, path: &str) {
    let Some((several, keys)) = section(key) else { return };
    let header = if several { format!("[[{path}]]") } else { format!("[{path}]") };
    let required = if key.required { " (required)" } else { "" };
    // Writing to a string cannot fail.
    let _ = write!(out, "\n## `{header}`{required}\n\n{}\n\n", key.explanation);
    let (sections, plain): (Vec<&Key>, Vec<&Key>) = keys.iter().partition(|key| section(key).is_some());
    for key in plain {
        item(out, key);
    }
    for key in sections {
        write_section(out, key, &format!("{path}.{}", key.name));
    }
}

fn item(out: &mut String, key: &Key) {
    let need = match (&key.default, key.required) {
        (_, true) => ", required".to_owned(),
        (Some(default), false) if !is_empty(default) => format!(", default `{}`", toml_text(default)),
        (_, false) => String::new(),
    };
    let explanation = key.explanation.replace('\n', "\n  ");
    let _ = writeln!(out, "- `{}` ({}{need}): {explanation}", key.name, form(&key.shape));
    let choices = match &key.shape {
        Shape::Choice(choices) => {
            choices.iter().map(|(name, text)| (format!("\"{name}\""), text.as_str())).collect()
        }
        Shape::OneOf(keys) => {
            keys.iter().map(|key| (format!("{} = …", key.name), key.explanation.as_str())).collect()
        }
        _ => Vec::new(),
    };
    for (name, text) in choices {
        let _ = writeln!(out, "  - `{name}`: {}", text.replace('\n', "\n    "));
    }
}

fn form(shape: &Shape) -> String {
    match shape {
        Shape::Choice(_) => "one of".to_owned(),
        Shape::OneOf(_) => "a table with one of".to_owned(),
        Shape::Array(item, None) => format!("list of {}", plural(item)),
        Shape::Array(item, Some(count)) => format!("list of {count} {}", plural(item)),
        Shape::Map(item) => format!("table of {}", plural(item)),
        Shape::PerFamily(item) => format!("{}, or a list with one of each family", item.noun()),
        other => other.noun(),
    }
}

fn plural(shape: &Shape) -> &'static str {
    match shape {
        Shape::Text(super::shape::Format::Address) => "addresses",
        Shape::Text(super::shape::Format::Cidr) => "addresses with prefix lengths",
        Shape::Text(_) | Shape::Choice(_) => "strings",
        Shape::Integer(..) => "integers",
        Shape::Boolean => "booleans",
        Shape::Array(..) | Shape::PerFamily(_) => "lists",
        Shape::Table(_) | Shape::Map(_) | Shape::OneOf(_) => "tables",
    }
}

/// A default as TOML spells it. JSON's strings, numbers and lists of them are spelt the same.
fn toml_text(value: &Value) -> String {
    value.to_string()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(table) => table.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use bootwright_model::cluster::ClusterFile;
    use bootwright_model::profile::Profile;

    use super::*;

    #[test]
    fn the_cluster_file() {
        insta::assert_snapshot!(reference::<ClusterFile>());
    }

    /// A key without an explanation, or with one for programmers, is of no use to its reader.
    #[test]
    fn every_key_is_explained() {
        for text in [reference::<ClusterFile>(), reference::<Profile>()] {
            for line in text.lines() {
                assert!(!line.ends_with(": "), "{line}");
            }
        }
        assert!(!reference::<ClusterFile>().contains("crate::"));
    }
}
