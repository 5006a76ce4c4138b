//! Globs on absolute paths: `*` and `?` stay inside a component, `**` crosses them, `{a,b}` is either.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::paths;

/// A set of globs.
#[derive(Debug, Clone)]
pub struct Globs {
    set: GlobSet,
    patterns: Vec<String>,
}

/// A pattern is no glob.
#[derive(Debug, thiserror::Error)]
#[error("{list}: {pattern:?} is no glob: {reason}")]
pub struct GlobError {
    /// Where it stands: `packages.prune`.
    pub list: String,
    /// As written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Globs {
    /// Compiles `patterns`; `list` names where they stand, for the error.
    pub fn new(list: &str, patterns: &[String]) -> Result<Globs, GlobError> {
        let error = |pattern: &str, reason: String| GlobError {
            list: list.to_owned(),
            pattern: pattern.to_owned(),
            reason,
        };
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            // A person writes `/bin/busybox`; the tree knows it as `/usr/bin/busybox`.
            // Names of modules are relative and stay.
            let absolute = Some(pattern).filter(|pattern| pattern.starts_with('/'));
            let merged = absolute
                .and_then(|pattern| paths::canonical(pattern).ok())
                .unwrap_or_else(|| pattern.clone());
            let glob = GlobBuilder::new(&merged).literal_separator(true).build();
            set.add(glob.map_err(|e| error(pattern, e.kind().to_string()))?);
        }
        let set = set.build().map_err(|e| error(e.glob().unwrap_or_default(), e.kind().to_string()))?;
        Ok(Globs { set, patterns: patterns.to_vec() })
    }

    /// Whether one of them matches.
    pub fn matches(&self, path: &str) -> bool {
        self.set.is_match(path)
    }

    /// Indices of those that match.
    pub fn matching(&self, path: &str) -> Vec<usize> {
        self.set.matches(path)
    }

    /// As written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(patterns: &[&str]) -> Globs {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Globs::new("test", &patterns).expect("good globs")
    }

    #[test]
    fn a_star_stays_inside_a_component() {
        let set = globs(&["/usr/bin/*", "/etc/**", "/usr/sbin/{a,b}"]);
        for (path, expected) in [
            ("/usr/bin/x", true),
            ("/usr/bin/x/y", false),
            ("/etc/x/y", true),
            ("/etc", false),
            ("/usr/sbin/b", true),
            ("/usr/sbin/c", false),
        ] {
            assert_eq!(set.matches(path), expected, "{path}");
        }
    }

    #[test]
    fn a_broken_glob_names_its_list() {
        let error = Globs::new("packages.prune", &["/usr/{a".to_owned()]).expect_err("unclosed");
        assert!(error.to_string().starts_with("packages.prune: \"/usr/{a\" is no glob: unclosed"), "{error}");
    }
}
