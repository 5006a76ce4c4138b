//! The machine's apt sources: `sources.list` in one-line style and `.sources` in deb822 style
//! (sources.list(5)), filtered to the suites of one Debian release.
//!
//! `[trusted=yes]` is ignored on purpose: what goes into an image is signed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use deb822_fast::{Deb822, Paragraph};

use super::ARCHITECTURE;
use super::apt_config::{AptConfig, parse_flag};
use super::source::{Source, SourceError, Trust, wanted_suites};

/// One entry before it is split by address and suite.
#[derive(Debug, Default)]
struct Entry {
    urls: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    architectures: Vec<String>,
    signed_by: Option<String>,
    check_valid_until: Option<bool>,
    check_date: Option<bool>,
    origin: String,
}

/// Reads the sources below `root` for `suite` and its updates and security suites. Other suites and
/// obviously other vendors are left out; whether a suite is Debian's is known once it is fetched.
pub fn read(root: &Path, suite: &str, config: &AptConfig) -> Result<Vec<Source>, SourceError> {
    let mut entries = Vec::new();
    for path in files(root) {
        let text = fs::read_to_string(&path)
            .map_err(|error| SourceError::File { path: path.clone(), reason: error.to_string() })?;
        match path.extension().is_some_and(|extension| extension == "sources") {
            true => entries.extend(deb822(&text, &path)?),
            false => entries.extend(one_line(&text, &path)?),
        }
    }
    let found: BTreeSet<&str> = entries.iter().flat_map(|e| e.suites.iter().map(String::as_str)).collect();
    let found: Vec<&str> = found.into_iter().collect();
    let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    let mut sources: Vec<Source> = Vec::new();
    for entry in &entries {
        for source in split(entry, root, &wanted_suites(suite), config)? {
            let same = sources.iter_mut().find(|s| (&s.url, &s.suite) == (&source.url, &source.suite));
            match same {
                Some(known) => merge(&mut known.components, source.components),
                None => sources.push(source),
            }
        }
    }
    if sources.iter().any(|source| source.suite == suite) {
        Ok(sources)
    } else {
        Err(SourceError::NoSuite { suite: suite.to_owned(), found })
    }
}

/// Keyrings that apt trusts for sources without `signed-by`.
pub fn trusted_keyrings(root: &Path) -> Vec<PathBuf> {
    let mut keyrings = folder(&root.join("etc/apt/trusted.gpg.d"), &["gpg", "asc"]);
    let single = root.join("etc/apt/trusted.gpg");
    if single.is_file() {
        keyrings.insert(0, single);
    }
    keyrings
}

fn files(root: &Path) -> Vec<PathBuf> {
    let single = root.join("etc/apt/sources.list");
    let mut files: Vec<PathBuf> = single.is_file().then_some(single).into_iter().collect();
    files.extend(folder(&root.join("etc/apt/sources.list.d"), &["list", "sources"]));
    files
}

fn folder(path: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let wanted = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| extensions.contains(&extension)) && path.is_file()
    };
    let mut files: Vec<PathBuf> = entries.filter(wanted).collect();
    files.sort();
    files
}

fn one_line(text: &str, path: &Path) -> Result<Vec<Entry>, SourceError> {
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        let Some(rest) = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '['])) else {
            continue;
        };
        let rest = rest.trim_start();
        if rest.starts_with("cdrom:") {
            continue;
        }
        let origin = format!("{}:{}", path.display(), index + 1);
        let mut entry = Entry { origin, ..Entry::default() };
        let rest = match rest.strip_prefix('[') {
            None => rest,
            Some(options) => {
                let (options, rest) = options.split_once(']').ok_or_else(|| SourceError::File {
                    path: path.to_owned(),
                    reason: format!("line {}: the options have no closing bracket", index + 1),
                })?;
                for option in options.split_whitespace() {
                    entry.option(option);
                }
                rest
            }
        };
        let mut words = rest.split_whitespace().map(str::to_owned);
        entry.urls.extend(words.next());
        entry.suites.extend(words.next());
        entry.components.extend(words);
        entries.push(entry);
    }
    Ok(entries)
}

impl Entry {
    /// An option of the one-line style, `name=value`.
    fn option(&mut self, option: &str) {
        let Some((name, value)) = option.split_once('=') else { return };
        match name.trim_end_matches(['+', '-']) {
            "arch" => self.architectures = value.split(',').map(str::to_owned).collect(),
            "signed-by" => self.signed_by = Some(value.replace(',', " ")),
            "check-valid-until" => self.check_valid_until = parse_flag(value),
            "check-date" => self.check_date = parse_flag(value),
            _ => {}
        }
    }
}

fn deb822(text: &str, path: &Path) -> Result<Vec<Entry>, SourceError> {
    // Comments may stand between the fields of a paragraph, which the format of package indexes lacks.
    let plain: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut document = plain.join("\n");
    document.push('\n');
    let document: Deb822 = document
        .parse()
        .map_err(|error| SourceError::File { path: path.to_owned(), reason: format!("{error}") })?;
    let words = |paragraph: &Paragraph, name: &str| -> Vec<String> {
        paragraph.get(name).unwrap_or("").split_whitespace().map(str::to_owned).collect()
    };
    let mut entries = Vec::new();
    for paragraph in document.iter() {
        let enabled = paragraph.get("Enabled").and_then(|value| parse_flag(value.trim())).unwrap_or(true);
        if !enabled || !words(paragraph, "Types").iter().any(|kind| kind == "deb") {
            continue;
        }
        let flag = |name: &str| paragraph.get(name).and_then(|value| parse_flag(value.trim()));
        entries.push(Entry {
            urls: words(paragraph, "URIs"),
            suites: words(paragraph, "Suites"),
            components: words(paragraph, "Components"),
            architectures: words(paragraph, "Architectures"),
            signed_by: paragraph.get("Signed-By").map(str::to_owned),
            check_valid_until: flag("Check-Valid-Until"),
            check_date: flag("Check-Date"),
            origin: path.display().to_string(),
        });
    }
    Ok(entries)
}

/// The sources of one entry that are for the wanted suites.
fn split(
    entry: &Entry,
    root: &Path,
    wanted: &[String],
    config: &AptConfig,
) -> Result<Vec<Source>, SourceError> {
    let ours = |suite: &String| wanted.contains(suite);
    // Debian's archive has `main` everywhere; vendors who reuse its suite names mostly have not.
    let for_us = entry.architectures.is_empty() || entry.architectures.iter().any(|a| a == ARCHITECTURE);
    let has_main = entry.components.iter().any(|component| component == "main");
    if !for_us || !has_main || !entry.suites.iter().any(ours) {
        return Ok(Vec::new());
    }
    let trust = trust(entry, root)?;
    let check = |own: Option<bool>, name| own.or_else(|| config.flag(name)).unwrap_or(true);
    let mut sources = Vec::new();
    for url in &entry.urls {
        for url in addresses(url, root)? {
            for suite in entry.suites.iter().filter(|suite| ours(suite)) {
                sources.push(Source {
                    url: url.trim_end_matches('/').to_owned(),
                    suite: suite.clone(),
                    components: entry.components.clone(),
                    trust: trust.clone(),
                    check_valid_until: check(entry.check_valid_until, "Acquire::Check-Valid-Until"),
                    check_date: check(entry.check_date, "Acquire::Check-Date"),
                    origin: entry.origin.clone(),
                    from_machine: true,
                    optional: false,
                });
            }
        }
    }
    Ok(sources)
}

/// The addresses behind one URI. Debian's cloud images have `mirror+file:` (apt-transport-mirror(1)): a
/// file with an address per line, of which the first is taken, so that a build asks one mirror only.
fn addresses(uri: &str, root: &Path) -> Result<Vec<String>, SourceError> {
    let uri = uri.replace("$(ARCH)", ARCHITECTURE);
    let Some(list) = uri.strip_prefix("mirror+file:") else {
        let known = ["http://", "https://", "file:"].iter().any(|scheme| uri.starts_with(scheme));
        return Ok(known.then_some(uri).into_iter().collect());
    };
    let path = below(root, list.strip_prefix("//").unwrap_or(list));
    let text = fs::read_to_string(&path)
        .map_err(|error| SourceError::File { path: path.clone(), reason: error.to_string() })?;
    let mut lines = text.lines().map(|line| line.split('#').next().unwrap_or("").trim());
    let first = lines.find_map(|line| line.split_whitespace().next());
    Ok(first.map(str::to_owned).into_iter().collect())
}

fn trust(entry: &Entry, root: &Path) -> Result<Trust, SourceError> {
    let mut trust = Trust { keyrings: Vec::new(), embedded: None, fingerprints: Vec::new() };
    let signed_by = entry.signed_by.as_deref().unwrap_or("").trim();
    if signed_by.contains("-----BEGIN PGP PUBLIC KEY BLOCK-----") {
        // An empty line of the block is written as a dot (deb822(5)).
        let lines = signed_by.lines().map(str::trim).map(|line| if line == "." { "" } else { line });
        trust.embedded = Some(lines.collect::<Vec<_>>().join("\n"));
        return Ok(trust);
    }
    for word in signed_by.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty()) {
        if word.starts_with('/') {
            let path = below(root, word);
            if !path.is_file() {
                let reason = format!("signed-by names {}, which does not exist", path.display());
                return Err(SourceError::File { path: PathBuf::from(&entry.origin), reason });
            }
            trust.keyrings.push(path);
        } else {
            trust.fingerprints.push(word.to_ascii_uppercase());
        }
    }
    if trust.keyrings.is_empty() {
        trust.keyrings = trusted_keyrings(root);
    }
    if trust.keyrings.is_empty() {
        return Err(SourceError::NoKeyring { path: root.join("etc/apt/trusted.gpg.d") });
    }
    Ok(trust)
}

/// An absolute path of the machine whose files lie below `root`.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn merge(known: &mut Vec<String>, more: Vec<String>) {
    for component in more {
        if !known.contains(&component) {
            known.push(component);
        }
    }
}

#[cfg(test)]
#[path = "apt_sources_tests.rs"]
mod tests;
