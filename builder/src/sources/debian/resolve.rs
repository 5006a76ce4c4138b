//! The dependency closure: what has to be there for the wanted packages to work.
//!
//! First everything that is needed without a choice; then one choice at a time, in the order of names, so
//! that an alternative which something else needs anyway is taken, as a person would, and the result does
//! not depend on the order of the request.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{IndexError, Package, Universe, version};
use super::relation::{self, Relation};

/// Why the wanted packages cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// A wanted name that the archive does not have.
    #[error(
        "the archive has no package {name:?}{}; check the package list of the profile, and `components` in [base] of \
         the cluster file", suggestion(.similar)
    )]
    Unknown {
        /// The name.
        name: String,
        /// Names that are close to it.
        similar: Vec<String>,
    },
    /// A dependency that nothing fulfils.
    #[error(
        "{package} needs {dependency:?}, and {reason}; add the name to the profile's exclude list if it can do without"
    )]
    Unsatisfied {
        /// Who needs it.
        package: String,
        /// What is needed, as written.
        dependency: String,
        /// Why it cannot be had.
        reason: String,
    },
    /// Two packages that cannot be installed together.
    #[error(
        "{package} cannot be installed with {other} ({relation}); take one of them out of the profile, or exclude it"
    )]
    Conflict {
        /// One of them.
        package: String,
        /// The other.
        other: String,
        /// `Conflicts: other (<< 2)`.
        relation: String,
    },
    /// A name both wanted and excluded.
    #[error(
        "package {name:?} is both in the install list and in the exclude list of the profile; remove one"
    )]
    Contradiction {
        /// The name.
        name: String,
    },
    /// The index itself.
    #[error(transparent)]
    Index(#[from] IndexError),
}

fn suggestion(similar: &[String]) -> String {
    match similar {
        [] => String::new(),
        names => format!(" (similar: {})", names.join(", ")),
    }
}

/// The packages of `install` alone, sorted by name.
pub fn exact<'u, 'i>(
    universe: &'u Universe<'i>,
    install: &[String],
) -> Result<Vec<&'u Package<'i>>, ResolveError> {
    let names: BTreeSet<&str> = install.iter().map(String::as_str).collect();
    names.into_iter().map(|name| wanted(universe, name)).collect()
}

/// The packages of `install` and everything that they need, less `exclude`, sorted by name.
pub fn closure<'u, 'i>(
    universe: &'u Universe<'i>,
    install: &[String],
    exclude: &[String],
) -> Result<Vec<&'u Package<'i>>, ResolveError> {
    let exclude: BTreeSet<&str> = exclude.iter().map(String::as_str).collect();
    let mut closure = Closure {
        universe,
        exclude,
        chosen: BTreeMap::new(),
        fresh: BTreeSet::new(),
        choices: BTreeMap::new(),
    };
    for name in install.iter().map(String::as_str).collect::<BTreeSet<_>>() {
        if closure.exclude.contains(name) {
            return Err(ResolveError::Contradiction { name: name.to_owned() });
        }
        closure.choose(wanted(universe, name)?);
    }
    closure.run()?;
    closure.check_conflicts()?;
    Ok(closure.chosen.into_values().collect())
}

fn wanted<'u, 'i>(universe: &'u Universe<'i>, name: &str) -> Result<&'u Package<'i>, ResolveError> {
    if let Some(package) = universe.package(name) {
        return Ok(package);
    }
    // A virtual package is a choice that the profile should make.
    let mut similar: Vec<String> = universe.providers(name).iter().map(|name| (*name).to_owned()).collect();
    if similar.is_empty() {
        let close = |other: &&str| strsim::jaro_winkler(name, other) > 0.88;
        similar = universe.names().filter(close).map(str::to_owned).collect();
        similar.sort_by(|a, b| {
            strsim::jaro_winkler(name, b).total_cmp(&strsim::jaro_winkler(name, a)).then_with(|| a.cmp(b))
        });
    }
    similar.truncate(4);
    Err(ResolveError::Unknown { name: name.to_owned(), similar })
}

struct Closure<'u, 'i, 'x> {
    universe: &'u Universe<'i>,
    exclude: BTreeSet<&'x str>,
    chosen: BTreeMap<&'i str, &'u Package<'i>>,
    /// Chosen, and their own dependencies not looked at yet.
    fresh: BTreeSet<&'i str>,
    /// Dependencies with a choice, by package and position in it.
    choices: BTreeMap<(&'i str, usize), Vec<Relation<'i>>>,
}

/// What can be done about one dependency.
enum Answer<'u, 'i> {
    Fulfilled,
    Take(&'u Package<'i>),
    Choice,
    Nothing,
}

impl<'u, 'i> Closure<'u, 'i, '_> {
    fn choose(&mut self, package: &'u Package<'i>) {
        if self.chosen.insert(package.name, package).is_none() {
            self.fresh.insert(package.name);
        }
    }

    fn run(&mut self) -> Result<(), ResolveError> {
        loop {
            while let Some(name) = self.fresh.pop_first() {
                self.dependencies_of(name)?;
            }
            let Some(((name, _), group)) = self.choices.pop_first() else { return Ok(()) };
            match self.answer(&group, true)? {
                Answer::Fulfilled => {}
                Answer::Take(package) => self.choose(package),
                Answer::Choice | Answer::Nothing => return Err(self.unsatisfied(name, &group)?),
            }
        }
    }

    fn dependencies_of(&mut self, name: &'i str) -> Result<(), ResolveError> {
        let package = self.chosen[name];
        let mut groups = relation::parse(name, package.pre_depends)?;
        groups.extend(relation::parse(name, package.depends)?);
        for (position, group) in groups.into_iter().enumerate() {
            match self.answer(&group, false)? {
                Answer::Fulfilled => {}
                Answer::Take(package) => self.choose(package),
                Answer::Choice => {
                    self.choices.insert((name, position), group);
                }
                Answer::Nothing => return Err(self.unsatisfied(name, &group)?),
            }
        }
        Ok(())
    }

    /// Looks at one dependency. With `decide`, the first possible alternative is taken.
    fn answer(&self, group: &[Relation<'i>], decide: bool) -> Result<Answer<'u, 'i>, ResolveError> {
        let mut possible = Vec::new();
        for relation in group {
            let packages = self.candidates(relation)?;
            if packages.iter().any(|package| self.chosen.contains_key(package.name)) {
                return Ok(Answer::Fulfilled);
            }
            let named = self.exclude.contains(relation.name);
            let excluded = named || packages.iter().any(|package| self.exclude.contains(package.name));
            possible.extend(packages.into_iter().map(Some).filter(|package| {
                package.is_some_and(|package| !self.exclude.contains(package.name)) && !named
            }));
            // An excluded name counts as chosen and left out: what would have been taken is what the
            // profile does without, and not a reason to take the next alternative in its place.
            if excluded {
                possible.push(None);
            }
        }
        Ok(match (possible.first(), possible.len()) {
            (None, _) => Answer::Nothing,
            (Some(None), 1) => Answer::Fulfilled,
            (Some(Some(package)), 1) => Answer::Take(package),
            (Some(None), _) if decide => Answer::Fulfilled,
            (Some(Some(package)), _) if decide => Answer::Take(package),
            _ => Answer::Choice,
        })
    }

    /// Packages that fulfil a relation: the one of that name first, then those that provide it.
    fn candidates(&self, relation: &Relation<'i>) -> Result<Vec<&'u Package<'i>>, ResolveError> {
        let mut candidates = Vec::new();
        if let Some(package) = self.universe.package(relation.name)
            && (relation.constraint.is_none() || relation.accepts(&version(package.name, package.version)?))
        {
            candidates.push(package);
        }
        for provider in self.universe.providers(relation.name) {
            let package = self.universe.package(provider).expect("providers are packages of the universe");
            if package.name != relation.name && provides(package, relation)? {
                candidates.push(package);
            }
        }
        Ok(candidates)
    }

    fn unsatisfied(&self, name: &str, group: &[Relation<'i>]) -> Result<ResolveError, ResolveError> {
        let mut reasons = Vec::new();
        for relation in group {
            reasons.push(match self.universe.package(relation.name) {
                Some(package) => format!("the archive has {} {}", package.name, package.version),
                None => format!("the archive has no {}", relation.name),
            });
        }
        Ok(ResolveError::Unsatisfied {
            package: name.to_owned(),
            dependency: group.iter().map(|relation| relation.text).collect::<Vec<_>>().join(" | "),
            reason: reasons.join(", "),
        })
    }

    fn check_conflicts(&self) -> Result<(), ResolveError> {
        for package in self.chosen.values() {
            for (field, value) in [("Conflicts", package.conflicts), ("Breaks", package.breaks)] {
                for relation in relation::parse(package.name, value)?.into_iter().flatten() {
                    let others = self.candidates(&relation)?;
                    let other = others
                        .iter()
                        .find(|other| other.name != package.name && self.chosen.contains_key(other.name));
                    if let Some(other) = other {
                        return Err(ResolveError::Conflict {
                            package: package.name.to_owned(),
                            other: other.name.to_owned(),
                            relation: format!("{field}: {}", relation.text),
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

fn provides(package: &Package, relation: &Relation) -> Result<bool, ResolveError> {
    for provided in relation::parse(package.name, package.provides)?.iter().flatten() {
        if provided.name == relation.name {
            let version = provided.constraint.as_ref().map(|(_, version)| version);
            if relation.accepts_provided(version) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
