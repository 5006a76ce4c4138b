//! What of the machine's apt configuration concerns us (apt.conf(5)): date checks and the proxy.
//!
//! Read by ourselves and not through `apt-config`, so that another root can be read and a machine
//! without apt works the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Options as apt names them, in lower case with `::` between the levels; the last value of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AptConfig {
    values: BTreeMap<String, String>,
}

impl AptConfig {
    /// Reads `etc/apt/apt.conf.d/*` and `etc/apt/apt.conf` below `root`, in apt's order. Unreadable
    /// files are as absent: the archive is verified without them.
    pub fn read(root: &Path) -> AptConfig {
        let mut config = AptConfig::default();
        let folder = root.join("etc/apt/apt.conf.d");
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.retain(|path| is_part(path));
        files.sort();
        files.push(root.join("etc/apt/apt.conf"));
        for file in files {
            if let Ok(text) = fs::read_to_string(file) {
                config.parse(&text);
            }
        }
        config
    }

    /// The last value of an option.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    /// A switch as apt reads it; `None` if absent or neither.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(parse_flag)
    }

    fn parse(&mut self, text: &str) {
        let mut scopes: Vec<String> = Vec::new();
        let mut words: Vec<String> = Vec::new();
        for token in tokens(text) {
            match token {
                Token::Word(word) => words.push(word),
                Token::Open => {
                    scopes.push(words.drain(..).next().unwrap_or_default());
                }
                Token::Close => {
                    scopes.pop();
                    words.clear();
                }
                Token::End => {
                    if let [name, value] = words.as_slice() {
                        let path = scopes.iter().chain([name]).filter(|part| !part.is_empty());
                        let path: Vec<&str> = path.map(String::as_str).collect();
                        self.values.insert(path.join("::").to_ascii_lowercase(), value.clone());
                    }
                    words.clear();
                }
            }
        }
    }
}

/// `yes`, `true`, `with`, `on`, `enable`, `1` and their opposites.
pub fn parse_flag(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" | "with" | "on" | "enable" | "1" => Some(true),
        "no" | "false" | "without" | "off" | "disable" | "0" => Some(false),
        _ => None,
    }
}

/// apt reads files whose names have no extension or `.conf`, of letters, digits, `_`, `-` and `.`.
fn is_part(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    plain && !name.starts_with('.') && (!name.contains('.') || name.ends_with(".conf"))
}

enum Token {
    Word(String),
    Open,
    Close,
    End,
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '{' => {
                tokens.push(Token::Open);
                1
            }
            '}' => {
                tokens.push(Token::Close);
                1
            }
            ';' => {
                tokens.push(Token::End);
                1
            }
            '"' => {
                let end = rest[1..].find('"').unwrap_or(rest.len() - 1);
                tokens.push(Token::Word(rest[1..=end].to_owned()));
                (end + 2).min(rest.len())
            }
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            _ if first.is_whitespace() => first.len_utf8(),
            _ => {
                let ends = |c: char| c.is_whitespace() || "{};\"".contains(c);
                let end = rest.find(ends).unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..end].to_owned()));
                end
            }
        };
        rest = &rest[length..];
    }
    tokens
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> AptConfig {
        let mut config = AptConfig::default();
        config.parse(text);
        config
    }

    #[test]
    fn nested_and_flat_forms_mean_the_same() {
        for text in [
            "Acquire::Check-Valid-Until \"false\";",
            "Acquire { Check-Valid-Until no; };",
            "// comment\nAcquire\n{\n  # one\n  /* two */ Check-Valid-Until \"0\";\n}\n",
            "Acquire::Check-Valid-Until true; ACQUIRE::check-valid-until \"off\";",
        ] {
            assert_eq!(parsed(text).flag("Acquire::Check-Valid-Until"), Some(false), "{text}");
        }
        assert_eq!(parsed("").flag("Acquire::Check-Valid-Until"), None);
    }

    #[test]
    fn a_proxy_is_read_and_lists_are_passed_over() {
        let text = r#"APT::NeverAutoRemove { "^firmware-linux.*"; };
            DPkg::Post-Invoke {"rm -f /var/cache/apt/*.deb || true";};
            Acquire::http::Proxy "http://127.0.0.1:3142";"#;
        assert_eq!(parsed(text).get("acquire::http::proxy"), Some("http://127.0.0.1:3142"));
    }

    #[test]
    fn files_are_read_in_order_and_the_last_value_counts() {
        let root = tempfile::tempdir().unwrap();
        let parts = root.path().join("etc/apt/apt.conf.d");
        fs::create_dir_all(&parts).unwrap();
        fs::write(parts.join("50a"), "Acquire::Check-Date \"true\";").unwrap();
        fs::write(parts.join("90b.conf"), "Acquire::Check-Date \"false\";").unwrap();
        fs::write(parts.join("99c.bak"), "Acquire::Check-Date \"true\";").unwrap();
        assert_eq!(AptConfig::read(root.path()).flag("Acquire::Check-Date"), Some(false));
        fs::write(root.path().join("etc/apt/apt.conf"), "Acquire::Check-Date \"true\";").unwrap();
        assert_eq!(AptConfig::read(root.path()).flag("Acquire::Check-Date"), Some(true));
        assert_eq!(AptConfig::read(&root.path().join("none")), AptConfig::default());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a:\\{\\};\"/*# \n\u{e9}]{0,60}") {
            parsed(&text);
        }
    }
}
