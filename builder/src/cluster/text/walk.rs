//! Walks a document against a shape: values out, findings about keys and types, spans of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::{Finding, KeyPath, Part, Place};
use super::shape::{Format, Key, Shape};
use super::words::{missing, not_a_cidr, not_an_address, not_per_family, wrong_type};

/// Similarity above which a key is taken for a misspelling (Jaro-Winkler, 0 to 1). Below it a
/// suggestion confuses more than it helps.
const SIMILAR: f64 = 0.8;

/// Where a key and its value stand.
#[derive(Debug, Clone)]
struct Spans {
    key: Range<usize>,
    value: Range<usize>,
}

/// State of the walk.
pub struct Walk {
    /// What was found.
    pub findings: Vec<Finding>,
    spans: BTreeMap<KeyPath, Spans>,
    /// Paths whose values are placeholders.
    placeholders: BTreeSet<KeyPath>,
    /// Bytes around syntax errors: what stands there is a guess of the parser.
    broken: Vec<Range<usize>>,
    /// Every key of every table, to say where a misplaced one belongs.
    sections: Vec<(String, String)>,
}

impl Walk {
    /// A walk over a document, parts of which the parser guessed.
    pub fn new(guessed: Vec<Range<usize>>) -> Self {
        Walk {
            findings: Vec::new(),
            spans: BTreeMap::new(),
            placeholders: BTreeSet::new(),
            broken: guessed,
            sections: Vec::new(),
        }
    }

    /// The whole file as a value that can be deserialised.
    pub fn file(&mut self, shape: &Shape, document: &Spanned<DeTable<'_>>) -> toml::Value {
        let root = KeyPath::root();
        self.spans.insert(root.clone(), Spans { key: 0..0, value: 0..0 });
        match shape {
            Shape::Table(keys) => {
                self.sections = sections(keys);
                self.table(keys, document.get_ref(), &root)
            }
            other => other.placeholder(),
        }
    }

    /// Where a key or its value stands; what is not written stands for the table that it would be in.
    pub fn span(&self, path: &KeyPath, part: Part) -> Range<usize> {
        let mut path = path.clone();
        loop {
            if let Some(spans) = self.spans.get(&path) {
                return match part {
                    Part::Key => spans.key.clone(),
                    Part::Value => spans.value.clone(),
                };
            }
            match path.parent() {
                Some(parent) => path = parent,
                None => return 0..0,
            }
        }
    }

    /// Whether a finding says something about a value that the file does not have.
    pub fn rests_on_a_placeholder(&self, finding: &Finding) -> bool {
        let labels = finding.labels.iter().filter_map(|label| match &label.place {
            Place::Bytes(_) => None,
            Place::Path(path, _) => Some(path),
        });
        labels.chain(&finding.causes).any(|path| self.is_placeholder(path))
    }

    /// Whether the value, or what it lies in, is a placeholder.
    fn is_placeholder(&self, path: &KeyPath) -> bool {
        let mut path = Some(path.clone());
        while let Some(current) = path {
            if self.placeholders.contains(&current) {
                return true;
            }
            path = current.parent();
        }
        false
    }

    /// The value, or `None` if it is wrong, which has been recorded then.
    fn value(&mut self, shape: &Shape, value: &Spanned<DeValue<'_>>, path: &KeyPath) -> Option<toml::Value> {
        if self.is_broken(&value.span()) && !matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_))
        {
            self.placeholders.insert(path.clone());
            return None;
        }
        let found = match (shape, value.get_ref()) {
            (Shape::Table(keys), DeValue::Table(table)) => Some(self.table(keys, table, path)),
            (Shape::OneOf(keys), DeValue::Table(table)) => self.one_of(keys, table, path),
            (Shape::Map(item), DeValue::Table(table)) => Some(self.map(item, table, path)),
            (Shape::Array(item, count), DeValue::Array(array)) => {
                let values: Vec<_> = array.iter().enumerate().collect();
                self.array(item, *count, &values, path)
            }
            (Shape::PerFamily(item), DeValue::Array(array)) => self.per_family(item, array, path),
            (Shape::PerFamily(item), _) => return self.value(item, value, path),
            (Shape::Text(format), DeValue::String(text)) => self.text(*format, text, path),
            (Shape::Choice(choices), DeValue::String(text)) => self.choice(choices, text, path),
            (Shape::Integer(least, most), DeValue::Integer(_)) => self.integer(*least, *most, value, path),
            (Shape::Boolean, DeValue::Boolean(value)) => Some((*value).into()),
            (shape, other) => {
                self.wrong(path, wrong_type(shape, other, path));
                None
            }
        };
        if found.is_none() {
            self.placeholders.insert(path.clone());
        }
        found
    }

    fn table(&mut self, keys: &[Key], table: &DeTable<'_>, path: &KeyPath) -> toml::Value {
        let mut values = toml::Table::new();
        let mut meant = BTreeSet::new();
        for (name, value) in table {
            let own = self.record(path, name, value);
            match keys.iter().find(|key| key.name == name.get_ref().as_ref()) {
                Some(key) => {
                    if let Some(value) = self.value(&key.shape, value, &own) {
                        values.insert(key.name.clone(), value);
                    }
                }
                None => {
                    let open = keys.iter().filter(|key| !table.contains_key(key.name.as_str()));
                    meant.extend(self.unknown(keys, open, name.get_ref(), &own, path));
                }
            }
        }
        for key in keys.iter().filter(|key| key.required) {
            if values.contains_key(&key.name) {
                continue;
            }
            let own = path.key(&key.name);
            if !table.contains_key(key.name.as_str()) {
                if self.broken.is_empty() && !meant.contains(&key.name) {
                    self.findings.push(missing(key, path));
                }
                self.placeholders.insert(own);
            }
            values.insert(key.name.clone(), key.shape.placeholder());
        }
        // A key that was misspelt, or that the parser may have lost, is not known to have its default.
        let lost =
            keys.iter().filter(|key| !self.broken.is_empty() && !table.contains_key(key.name.as_str()));
        let unsure = lost.map(|key| &key.name).chain(&meant);
        self.placeholders.extend(unsure.map(|name| path.key(name)));
        toml::Value::Table(values)
    }

    fn one_of(&mut self, keys: &[Key], table: &DeTable<'_>, path: &KeyPath) -> Option<toml::Value> {
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        if table.len() != 1 {
            let finding =
                Finding::new("one-of", format!("`{path}` needs exactly one key, and has {}", table.len()))
                    .at_value(path.clone(), "here")
                    .help(format!("write one of {}", names.join(", ")));
            self.wrong(path, finding);
            return None;
        }
        let optional: Vec<Key> = keys.iter().cloned().map(|key| Key { required: false, ..key }).collect();
        match self.table(&optional, table, path) {
            toml::Value::Table(table) if table.len() == 1 => Some(toml::Value::Table(table)),
            _ => None,
        }
    }

    fn map(&mut self, item: &Shape, table: &DeTable<'_>, path: &KeyPath) -> toml::Value {
        let mut values = toml::Table::new();
        for (name, value) in table {
            let own = self.record(path, name, value);
            let value = self.value(item, value, &own).unwrap_or_else(|| item.placeholder());
            values.insert(name.get_ref().clone().into_owned(), value);
        }
        toml::Value::Table(values)
    }

    /// A wrong element leaves a placeholder behind, so that the others keep their positions.
    fn array(
        &mut self,
        item: &Shape,
        count: Option<usize>,
        values: &[(usize, &Spanned<DeValue<'_>>)],
        path: &KeyPath,
    ) -> Option<toml::Value> {
        if let Some(count) = count.filter(|count| *count != values.len()) {
            let finding = Finding::new("length", format!("`{path}` has {} elements", values.len()))
                .at_value(path.clone(), "here")
                .help(format!("write exactly {count}"));
            self.wrong(path, finding);
            return None;
        }
        let mut all = Vec::with_capacity(values.len());
        for (index, value) in values {
            let own = path.index(*index);
            self.spans.insert(own.clone(), Spans { key: value.span(), value: value.span() });
            all.push(self.value(item, value, &own).unwrap_or_else(|| item.placeholder()));
        }
        Some(toml::Value::Array(all))
    }

    /// One value of each address family. Where one of them is wrong there is nothing to compare the others with.
    fn per_family(
        &mut self,
        item: &Shape,
        values: &[Spanned<DeValue<'_>>],
        path: &KeyPath,
    ) -> Option<toml::Value> {
        let all: Vec<_> = values.iter().enumerate().collect();
        let toml::Value::Array(values) = self.array(item, None, &all, path)? else { return None };
        if (0..values.len()).any(|index| self.placeholders.contains(&path.index(index))) {
            return None;
        }
        if let Some(finding) = not_per_family(&values, path) {
            self.wrong(path, finding);
            return None;
        }
        Some(toml::Value::Array(values))
    }

    fn text(&mut self, format: Format, text: &str, path: &KeyPath) -> Option<toml::Value> {
        let finding = match format {
            Format::Any => None,
            Format::Address => not_an_address(text, path),
            Format::Cidr => not_a_cidr(text, path),
        };
        match finding {
            None => Some(text.into()),
            Some(finding) => {
                self.wrong(path, finding);
                None
            }
        }
    }

    fn choice(&mut self, choices: &[(String, String)], text: &str, path: &KeyPath) -> Option<toml::Value> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| name.as_str()).collect();
        if names.contains(&text) {
            return Some(text.into());
        }
        let help = match similar(text, names.iter().copied()) {
            Some(name) => format!("write \"{name}\"; there are {}", names.join(", ")),
            None => format!("write one of {}", names.join(", ")),
        };
        let finding = Finding::new("choice", format!("`{path}` cannot be \"{text}\""))
            .at_value(path.clone(), "not one of the choices")
            .help(help);
        self.wrong(path, finding);
        None
    }

    fn integer(
        &mut self,
        least: i64,
        most: i64,
        value: &Spanned<DeValue<'_>>,
        path: &KeyPath,
    ) -> Option<toml::Value> {
        let integer = value.get_ref().as_integer()?;
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        if let Some(number) = number.filter(|number| (least..=most).contains(number)) {
            return Some(number.into());
        }
        let finding = Finding::new("number", format!("{integer} is not a possible `{path}`"))
            .at_value(path.clone(), "out of range")
            .help(format!("write a number between {least} and {most}"));
        self.wrong(path, finding);
        None
    }

    /// Notes where a key stands.
    fn record(
        &mut self,
        path: &KeyPath,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> KeyPath {
        let own = path.key(name.get_ref());
        self.spans.insert(own.clone(), Spans { key: name.span(), value: value.span() });
        own
    }

    /// Records an unknown key; returns the key that was probably meant.
    fn unknown<'a>(
        &mut self,
        keys: &[Key],
        open: impl Iterator<Item = &'a Key>,
        name: &str,
        own: &KeyPath,
        path: &KeyPath,
    ) -> Option<String> {
        let meant = similar(name, open.map(|key| key.name.as_str()));
        let elsewhere = self.sections.iter().find(|(_, key)| key == name).map(|(section, _)| section);
        let help = match (&meant, elsewhere) {
            (_, Some(section)) => format!("it belongs to {section}"),
            (Some(meant), None) => format!("did you mean `{meant}`?"),
            (None, None) => {
                let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
                format!("the keys here are {}", names.join(", "))
            }
        };
        let place = if *path == KeyPath::root() { String::new() } else { format!(" in `{path}`") };
        let finding = Finding::new("unknown-key", format!("there is no key `{name}`{place}"))
            .at_key(own.clone(), "unknown key")
            .help(help);
        self.wrong(own, finding);
        meant
    }

    /// Records a finding, unless the parser only guessed what stands there.
    fn wrong(&mut self, path: &KeyPath, finding: Finding) {
        if !self.is_broken(&self.span(path, Part::Value)) && !self.is_broken(&self.span(path, Part::Key)) {
            self.findings.push(finding);
        }
        self.placeholders.insert(path.clone());
    }

    fn is_broken(&self, span: &Range<usize>) -> bool {
        self.broken.iter().any(|line| span.start <= line.end && line.start <= span.end)
    }
}

/// The most similar of `names`, if it is similar enough to be what was meant.
pub fn similar<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let name = name.to_lowercase().replace('_', "-");
    names
        .map(|candidate| (strsim::jaro_winkler(&name, candidate), candidate))
        .filter(|(score, _)| *score >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

/// `([cluster], endpoint)`, `([[node]], mac)`, … of all sections.
fn sections(keys: &[Key]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for key in keys {
        let (header, inner) = match &key.shape {
            Shape::Table(inner) => (format!("[{}]", key.name), inner),
            Shape::Array(item, _) => match &**item {
                Shape::Table(inner) => (format!("[[{}]]", key.name), inner),
                _ => continue,
            },
            _ => continue,
        };
        all.extend(inner.iter().map(|inner| (header.clone(), inner.name.clone())));
    }
    all
}
