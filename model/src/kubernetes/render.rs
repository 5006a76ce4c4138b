//! Builders that leave out what the version at hand does not know.

use std::fmt::Display;

use serde_json::{Map, Value, json};

use super::gates::Gate;
use super::version::Version;
use super::{Component, ConfigFile, FEATURE_GATES, NodeContext};

/// Command-line flags of one program.
pub(super) struct Arguments {
    version: Version,
    list: Vec<String>,
}

impl Arguments {
    /// `version` is the program's own: Kubernetes', etcd's or containerd's.
    pub(super) fn new(version: Version) -> Arguments {
        Arguments { version, list: Vec::new() }
    }

    /// A flag that every supported release knows; `--name=value`, as a boolean flag takes no other form.
    pub(super) fn set(mut self, flag: &str, value: impl Display) -> Arguments {
        self.list.push(format!("{flag}={value}"));
        self
    }

    /// Flags as they are.
    pub(super) fn append(mut self, flags: impl IntoIterator<Item = String>) -> Arguments {
        self.list.extend(flags);
        self
    }

    /// A flag that only some releases know.
    pub(super) fn gated(self, gate: &Gate, value: impl Display) -> Arguments {
        if gate.open(self.version) { self.set(gate.option, value) } else { self }
    }

    pub(super) fn with_files(self, files: Vec<ConfigFile>) -> Component {
        Component { arguments: self.list, files }
    }
}

/// Opens the gate of two address families in one cluster, for programs that are configured by flags.
pub(super) fn dual_stack(arguments: Arguments, node: &NodeContext) -> Arguments {
    match node.dual_stack_gate() {
        Some(gate) => arguments.set(&format!("--{FEATURE_GATES}"), format!("{gate}=true")),
        None => arguments,
    }
}

/// A configuration file of a Kubernetes component. Written as JSON, which every YAML reader takes, so
/// that no second serialiser is needed in first boot.
pub(super) struct Document {
    version: Version,
    fields: Map<String, Value>,
}

impl Document {
    pub(super) fn new(version: Version, api_version: &str, kind: &str) -> Document {
        Document { version, fields: Map::new() }.set("apiVersion", api_version).set("kind", kind)
    }

    /// A field that every supported release knows.
    pub(super) fn set(mut self, field: &str, value: impl Into<Value>) -> Document {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    /// A field that only some releases know.
    pub(super) fn gated(self, gate: &Gate, value: impl Into<Value>) -> Document {
        if gate.open(self.version) { self.set(gate.option, value) } else { self }
    }

    /// Opens the gate of two address families in one cluster.
    pub(super) fn dual_stack(self, node: &NodeContext) -> Document {
        match node.dual_stack_gate() {
            Some(gate) => self.set("featureGates", json!({ gate: true })),
            None => self,
        }
    }

    /// The file, readable by all: it holds no secret.
    pub(super) fn file(self, path: String) -> ConfigFile {
        ConfigFile { path, contents: text(Value::Object(self.fields)), mode: 0o644 }
    }
}

/// Indented JSON with sorted keys. serde_json keeps the order of insertion instead if any crate of the
/// same build asks for that, and the same input must give the same bytes in every build.
pub(super) fn text(mut value: Value) -> String {
    value.sort_all_objects();
    format!("{value:#}\n")
}
