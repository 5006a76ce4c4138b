//! Relations between packages: `a (>= 1.2) | b:any, c` (Debian Policy, section 7.1).

use debversion::Version;

use super::index::{IndexError, version};

/// A comparison in a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

/// One alternative of a dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation<'i> {
    /// Package or virtual package.
    pub name: &'i str,
    /// What its version must be.
    pub constraint: Option<(Operator, Version)>,
    /// As written, for messages.
    pub text: &'i str,
}

impl Relation<'_> {
    /// Whether a package of that version fulfils it.
    pub fn accepts(&self, version: &Version) -> bool {
        match &self.constraint {
            None => true,
            Some((Operator::Earlier, wanted)) => version < wanted,
            Some((Operator::EarlierOrEqual, wanted)) => version <= wanted,
            Some((Operator::Equal, wanted)) => version == wanted,
            Some((Operator::LaterOrEqual, wanted)) => version >= wanted,
            Some((Operator::Later, wanted)) => version > wanted,
        }
    }

    /// Whether a virtual package, provided in that version or without one, fulfils it: a relation with a
    /// version asks for a versioned provision (Debian Policy, section 7.5).
    pub fn accepts_provided(&self, version: Option<&Version>) -> bool {
        match version {
            Some(version) => self.accepts(version),
            None => self.constraint.is_none(),
        }
    }
}

/// Parses a whole field into its dependencies, each a list of alternatives. `package` is whose field it
/// is, for errors.
pub fn parse<'i>(package: &str, field: &'i str) -> Result<Vec<Vec<Relation<'i>>>, IndexError> {
    let dependencies = field.split(',').map(str::trim).filter(|part| !part.is_empty());
    dependencies.map(|part| part.split('|').map(|one| relation(package, one.trim())).collect()).collect()
}

fn relation<'i>(package: &str, text: &'i str) -> Result<Relation<'i>, IndexError> {
    let bad = || IndexError::Version { package: package.to_owned(), version: text.to_owned() };
    let (name, rest) = match text.find([' ', '(', '[', '<']) {
        Some(end) => text.split_at(end),
        None => (text, ""),
    };
    // `:any` and `:amd64` ask about the architecture; there is only one here.
    let name = name.split(':').next().unwrap_or(name);
    if name.is_empty() {
        return Err(bad());
    }
    let rest = rest.trim_start();
    let constraint = match rest.strip_prefix('(') {
        None => None,
        Some(rest) => {
            let inner = rest.split(')').next().unwrap_or(rest).trim();
            let end = inner.find(|c: char| !"<>=".contains(c)).ok_or_else(bad)?;
            let (operator, wanted) = inner.split_at(end);
            let operator = match operator {
                "<<" => Operator::Earlier,
                // `<` and `>` are obsolete spellings of the inclusive ones.
                "<=" | "<" => Operator::EarlierOrEqual,
                "=" => Operator::Equal,
                ">=" | ">" => Operator::LaterOrEqual,
                ">>" => Operator::Later,
                _ => return Err(bad()),
            };
            Some((operator, version(package, wanted.trim())?))
        }
    };
    Ok(Relation { name, constraint, text })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Relation<'_> {
        parse("x", text).unwrap().remove(0).remove(0)
    }

    #[test]
    fn alternatives_versions_and_qualifiers() {
        let field =
            "libc6 (>= 2.36), perl:any, debconf (>= 0.5) | debconf-2.0,, x(<<1:2~) [amd64] <!nocheck>";
        let parsed = parse("p", field).unwrap();
        let brief: Vec<Vec<(&str, bool)>> = parsed
            .iter()
            .map(|group| group.iter().map(|r| (r.name, r.constraint.is_some())).collect())
            .collect();
        assert_eq!(
            brief,
            [
                vec![("libc6", true)],
                vec![("perl", false)],
                vec![("debconf", true), ("debconf-2.0", false)],
                vec![("x", true)],
            ]
        );
        assert!(
            parse("p", "a (~ 1)").is_err() && parse("p", "a (>= )").is_err() && parse("p", "(= 1)").is_err()
        );
    }

    #[test]
    fn comparisons_as_dpkg_does() {
        let version = |text| super::version("p", text).unwrap();
        for (relation, accepted, refused) in [
            ("a (<< 2)", "2~rc1", "2"),
            ("a (<= 2)", "2", "2-1"),
            ("a (= 1:2-1)", "1:2-1", "2-1"),
            ("a (>= 2)", "1:0", "1.9"),
            ("a (>> 2)", "2+b1", "2"),
        ] {
            assert!(one(relation).accepts(&version(accepted)), "{relation} {accepted}");
            assert!(!one(relation).accepts(&version(refused)), "{relation} {refused}");
        }
        assert!(one("a").accepts_provided(None) && !one("a (>= 1)").accepts_provided(None));
        assert!(one("a (>= 1)").accepts_provided(Some(&version("1"))));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a1:()<>=|, \\[\u{e9}~.-]{0,30}") {
            let _ = parse("p", &text);
        }
    }
}
