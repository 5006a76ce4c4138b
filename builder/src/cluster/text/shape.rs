//! What a file may contain: the type's JSON schema, brought into the few forms that TOML files have.
//!
//! The schema comes from the types themselves (schemars reads the same serde attributes that reading
//! does), so a key, its default and its explanation are written once, at the field.

use bootwright_model::parts;
use schemars::JsonSchema;
use serde_json::{Map, Value};

/// Form of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A table with these keys and no others.
    Table(Vec<Key>),
    /// A table with exactly one of these keys.
    OneOf(Vec<Key>),
    /// A table whose keys the person chooses.
    Map(Box<Shape>),
    /// An array; of exactly that many elements if given.
    Array(Box<Shape>, Option<usize>),
    /// A value, or an array with one for each address family.
    PerFamily(Box<Shape>),
    /// A string.
    Text(Format),
    /// One of these strings, each with its explanation.
    Choice(Vec<(String, String)>),
    /// An integer between these, both included.
    Integer(i64, i64),
    /// `true` or `false`.
    Boolean,
}

/// What a string has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Anything.
    Any,
    /// An IPv4 or IPv6 address.
    Address,
    /// An address with a prefix length.
    Cidr,
}

/// A key of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub shape: Shape,
    /// Whether it must be there.
    pub required: bool,
    /// What it is if it is not there; `None` for nothing.
    pub default: Option<Value>,
    /// Its explanation, the doc comment of the field.
    pub explanation: String,
}

impl Shape {
    /// The shape of a type. Panics on a type that uses a form that no file of ours has: a test of
    /// each type keeps that from being found by anyone else.
    pub fn of<T: JsonSchema>() -> Shape {
        let schema = schemars::schema_for!(T).to_value();
        let definitions = schema.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
        Builder { definitions }.shape(&schema)
    }

    /// A value of this shape, for where the file has a wrong one or none.
    pub fn placeholder(&self) -> toml::Value {
        match self {
            Shape::Table(keys) => {
                let required = keys.iter().filter(|key| key.required);
                toml::Value::Table(required.map(|key| (key.name.clone(), key.shape.placeholder())).collect())
            }
            Shape::OneOf(keys) => {
                let first = keys.iter().take(1);
                toml::Value::Table(first.map(|key| (key.name.clone(), key.shape.placeholder())).collect())
            }
            Shape::Map(_) => toml::Value::Table(toml::Table::new()),
            Shape::Array(item, count) => {
                toml::Value::Array(vec![item.placeholder(); count.unwrap_or_default()])
            }
            Shape::PerFamily(item) => item.placeholder(),
            Shape::Text(Format::Any) => "placeholder".into(),
            Shape::Text(Format::Address) => "0.0.0.0".into(),
            Shape::Text(Format::Cidr) => "0.0.0.0/0".into(),
            Shape::Choice(choices) => {
                choices.first().map(|(name, _)| name.as_str()).unwrap_or_default().into()
            }
            Shape::Integer(least, _) => (*least).into(),
            Shape::Boolean => false.into(),
        }
    }

    /// The shape of a file that is put together with others: nothing is required but the names that tell the
    /// elements of a list of tables apart.
    pub fn fragment(self) -> Shape {
        match self {
            Shape::Table(keys) => Shape::Table(
                keys.into_iter()
                    .map(|key| Key { required: false, shape: key.shape.fragment(), ..key })
                    .collect(),
            ),
            Shape::Array(item, count) => {
                let item = match *item {
                    Shape::Table(keys) => Shape::Table(
                        keys.into_iter()
                            .map(|key| Key { required: key.name == parts::NAME, ..key })
                            .collect(),
                    ),
                    other => other,
                };
                Shape::Array(Box::new(item), count)
            }
            other => other,
        }
    }

    /// How to name it to a person: `a string`.
    pub fn noun(&self) -> String {
        match self {
            Shape::Table(_) | Shape::Map(_) | Shape::OneOf(_) => "a table".to_owned(),
            Shape::Array(item, _) => match **item {
                Shape::Table(_) => "a list of tables".to_owned(),
                _ => "a list".to_owned(),
            },
            Shape::PerFamily(item) => item.noun(),
            Shape::Text(Format::Any) => "a string".to_owned(),
            Shape::Text(Format::Address) => "an address".to_owned(),
            Shape::Text(Format::Cidr) => "an address with a prefix length".to_owned(),
            Shape::Choice(choices) => {
                let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                format!("one of {}", names.join(", "))
            }
            Shape::Integer(..) => "an integer".to_owned(),
            Shape::Boolean => "true or false".to_owned(),
        }
    }
}

struct Builder {
    definitions: Map<String, Value>,
}

impl Builder {
    fn shape(&self, schema: &Value) -> Shape {
        let schema = self.resolve(schema);
        if let Some(alternatives) = schema.get("oneOf").and_then(Value::as_array) {
            return self.alternatives(alternatives);
        }
        if let Some(alternatives) = schema.get("anyOf").and_then(Value::as_array) {
            // `PerFamily` of the model: the value, the list, and if it is optional `null`.
            return Shape::PerFamily(Box::new(self.shape(&alternatives[0])));
        }
        if let Some(names) = schema.get("enum").and_then(Value::as_array) {
            let names = names.iter().filter_map(Value::as_str);
            return Shape::Choice(names.map(|name| (name.to_owned(), String::new())).collect());
        }
        match type_of(schema) {
            Some("object") => self.object(schema),
            Some("array") => {
                let item = schema.get("items").map(|item| self.shape(item));
                let count = |name| schema.get(name).and_then(Value::as_u64);
                let exact = count("maxItems").filter(|most| count("minItems") == Some(*most));
                let exact = exact.and_then(|count| usize::try_from(count).ok());
                Shape::Array(Box::new(item.expect("every array of ours has a type of element")), exact)
            }
            Some("string") => Shape::Text(match schema.get("format").and_then(Value::as_str) {
                Some("ip") => Format::Address,
                Some("cidr") => Format::Cidr,
                _ => Format::Any,
            }),
            Some("integer") => integer(schema),
            Some("boolean") => Shape::Boolean,
            _ => unreachable!("a schema form that no file of ours has: {schema}"),
        }
    }

    /// Follows `$ref`, and drops the `null` of an optional value, which TOML has no word for. What has several forms
    /// stays as it is.
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let name = reference.trim_start_matches("#/$defs/");
            return self.resolve(&self.definitions[name]);
        }
        if let Some(alternatives) = schema.get("anyOf").and_then(Value::as_array) {
            let mut real = alternatives.iter().filter(|schema| type_of(schema) != Some("null"));
            if let (Some(real), None) = (real.next(), real.next()) {
                return self.resolve(real);
            }
        }
        schema
    }

    fn object(&self, schema: &Value) -> Shape {
        let required: Vec<&str> = match schema.get("required").and_then(Value::as_array) {
            Some(names) => names.iter().filter_map(Value::as_str).collect(),
            None => Vec::new(),
        };
        match (schema.get("properties").and_then(Value::as_object), schema.get("additionalProperties")) {
            (None, Some(value @ Value::Object(_))) => Shape::Map(Box::new(self.shape(value))),
            (properties, _) => {
                let properties = properties.into_iter().flatten();
                let keys = properties
                    .map(|(name, property)| self.key(name, property, required.contains(&name.as_str())));
                Shape::Table(keys.collect())
            }
        }
    }

    fn key(&self, name: &str, property: &Value, required: bool) -> Key {
        let resolved = self.resolve(property);
        let own = property.get("description").and_then(Value::as_str);
        let explanation = own.or_else(|| resolved.get("description")?.as_str()).unwrap_or_default();
        Key {
            name: name.to_owned(),
            shape: self.shape(property),
            required,
            default: property.get("default").filter(|value| !value.is_null()).cloned(),
            explanation: explanation.to_owned(),
        }
    }

    /// An enum: of plain names, or of tables with one key each.
    fn alternatives(&self, alternatives: &[Value]) -> Shape {
        let explanation =
            |schema: &Value| schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut choices = Vec::new();
        let mut keys = Vec::new();
        for alternative in alternatives {
            if let Some(name) = alternative.get("const").and_then(Value::as_str) {
                choices.push((name.to_owned(), explanation(alternative)));
            }
            let properties = alternative.get("properties").and_then(Value::as_object);
            for (name, property) in properties.into_iter().flatten() {
                let mut key = self.key(name, property, true);
                key.explanation = explanation(alternative);
                keys.push(key);
            }
        }
        if keys.is_empty() { Shape::Choice(choices) } else { Shape::OneOf(keys) }
    }
}

/// The type's name, `null` left out.
fn type_of(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ => None,
    }
}

/// schemars gives the bounds of small integers; those of 32 bits follow from the format.
fn integer(schema: &Value) -> Shape {
    let bound = |name| schema.get(name).and_then(Value::as_i64);
    let (least, most) = match schema.get("format").and_then(Value::as_str) {
        Some("uint32") => (0, i64::from(u32::MAX)),
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        Some("uint64") => (0, i64::MAX),
        _ => (i64::MIN, i64::MAX),
    };
    Shape::Integer(bound("minimum").unwrap_or(least), bound("maximum").unwrap_or(most))
}

#[cfg(test)]
mod tests {
    use bootwright_model::cluster::ClusterFile;
    use bootwright_model::profile::Profile;
    use serde::Deserialize;

    use super::*;

    fn keys(shape: &Shape) -> Vec<&str> {
        match shape {
            Shape::Table(keys) => keys.iter().map(|key| key.name.as_str()).collect(),
            _ => panic!("not a table: {shape:?}"),
        }
    }

    #[test]
    fn a_cluster_file_has_the_sections_of_its_type() {
        let shape = Shape::of::<ClusterFile>();
        assert_eq!(
            keys(&shape),
            [
                "cluster",
                "kubernetes",
                "base",
                "disk",
                "network",
                "cloud",
                "clock",
                "dns",
                "node",
                "image",
                "addon"
            ]
        );
    }

    /// What replaces a wrong value must be readable, or one error would hide all the others.
    #[test]
    fn the_placeholder_of_every_type_can_be_read() {
        ClusterFile::deserialize(Shape::of::<ClusterFile>().placeholder()).unwrap();
        Profile::deserialize(Shape::of::<Profile>().placeholder()).unwrap();
        let Shape::Table(sections) = Shape::of::<ClusterFile>() else { panic!() };
        for section in sections {
            let value = match &section.shape {
                Shape::Array(item, _) => toml::Value::Array(vec![item.placeholder()]),
                shape => shape.placeholder(),
            };
            let mut whole = Shape::of::<ClusterFile>().placeholder();
            whole.as_table_mut().unwrap().insert(section.name, value);
            ClusterFile::deserialize(whole).unwrap();
        }
    }
}
