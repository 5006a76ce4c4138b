//! What is wrong with a file, said in terms of its keys.

use std::fmt;
use std::ops::Range;

/// One thing that is wrong, or deserves a second look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule: a stable name for programs, `unknown-key`.
    pub rule: &'static str,
    /// Whether the file is refused for it.
    pub severity: Severity,
    /// What is wrong, with the offending value in it.
    pub message: String,
    /// What to do.
    pub help: String,
    /// Where; the first is the place to change, the others explain it.
    pub labels: Vec<Label>,
    /// Further values that it is a consequence of, not worth a label.
    pub causes: Vec<KeyPath>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken.
    Warning,
}

/// A place in the file with a few words about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub place: Place,
    /// What is there.
    pub text: String,
}

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A key or its value. A key that is not written stands for its table.
    Path(KeyPath, Part),
    /// Bytes of the file.
    Bytes(Range<usize>),
}

/// Which half of `key = value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Left of the equals sign.
    Key,
    /// Right of it.
    Value,
}

impl Finding {
    /// An error with no place yet.
    pub fn new(rule: &'static str, message: impl Into<String>) -> Self {
        Finding {
            rule,
            severity: Severity::Error,
            message: message.into(),
            help: String::new(),
            labels: Vec::new(),
            causes: Vec::new(),
        }
    }

    /// Names a value that it is a consequence of: if that is wrong already, this is not worth saying.
    pub fn because_of(mut self, path: KeyPath) -> Self {
        self.causes.push(path);
        self
    }

    /// The same as something that the file is not refused for.
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Adds the value of a key.
    pub fn at_value(self, path: KeyPath, text: impl Into<String>) -> Self {
        self.label(Place::Path(path, Part::Value), text)
    }

    /// Adds a key.
    pub fn at_key(self, path: KeyPath, text: impl Into<String>) -> Self {
        self.label(Place::Path(path, Part::Key), text)
    }

    /// Adds a place.
    pub fn label(mut self, place: Place, text: impl Into<String>) -> Self {
        self.labels.push(Label { place, text: text.into() });
        self
    }

    /// Says what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

/// One step from a table or an array to what is in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Key of a table.
    Key(String),
    /// Position in an array, from zero.
    Index(usize),
}

/// Where a value stands in its file: `node[1].pod-cidr`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(Vec<Step>);

impl KeyPath {
    /// The file itself.
    pub fn root() -> Self {
        KeyPath::default()
    }

    /// A key of a table: `KeyPath::of("cluster").key("name")`.
    pub fn of(key: &str) -> Self {
        KeyPath::root().key(key)
    }

    /// A key in this table.
    pub fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()))
    }

    /// An element of this array.
    pub fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    /// The table or array that holds this.
    pub fn parent(&self) -> Option<KeyPath> {
        let (_, parent) = self.0.split_last()?;
        Some(KeyPath(parent.to_vec()))
    }

    /// From the file to the value.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The path of these steps.
    pub fn from_steps(steps: Vec<Step>) -> Self {
        KeyPath(steps)
    }

    fn step(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        KeyPath(steps)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if is_bare(key) && position == 0 => f.write_str(key)?,
                Step::Key(key) if is_bare(key) => write!(f, ".{key}")?,
                Step::Key(key) if position == 0 => write!(f, "{key:?}")?,
                Step::Key(key) => write!(f, ".{key:?}")?,
            }
        }
        Ok(())
    }
}

/// Whether TOML lets the key stand without quotes.
fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_toml_spells_it() {
        let path = KeyPath::of("image").index(0).key("files").key("/etc/httpd.conf");
        assert_eq!(path.to_string(), "image[0].files.\"/etc/httpd.conf\"");
        assert_eq!(path.parent().unwrap().to_string(), "image[0].files");
        assert_eq!(KeyPath::root().parent(), None);
    }
}
