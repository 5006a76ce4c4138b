//! **parameters**: the modules that the profile names, and kernel parameters, some of which they bring.
//!
//! [`set`] sets what the kernel has by itself, before a link is up: whether a node takes router advertisements must
//! not depend on which thread was faster. [`prepare`] does the rest beside the stages that need none of it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bootwright_model::profile::Profile;

use super::modules::Coldplug;
use super::{Advice, Done, Problem, problem, reserve};
use crate::report::under;

/// What the boot goes on without, or why there is no result at all.
#[derive(Debug, thiserror::Error)]
pub enum ParametersError {
    /// A kernel parameter.
    #[error("the kernel parameter {name} cannot be set to `{value}`")]
    Parameter {
        /// `net.ipv4.ip_forward`
        name: String,
        /// Wanted.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// The thread that set them ended without a result.
    #[error("setting the kernel parameters failed inside first boot")]
    Lost,
}

impl Advice for ParametersError {
    fn advice(&self) -> String {
        match self {
            ParametersError::Parameter { .. } => {
                "correct [sysctl] in the profile, or name the module that brings the parameter in kernel.load"
            }
            ParametersError::Lost => "restart; report it if it happens again",
        }
        .to_owned()
    }
}

/// Names as sysctl(8) has them, to values.
pub type Parameters = BTreeMap<String, String>;

/// What was done.
#[derive(Debug)]
pub struct Prepared {
    summary: String,
    problems: Vec<Problem>,
}

/// Loads the modules, and sets those parameters that were `refused` before.
pub fn prepare(root: &Path, mut coldplug: Coldplug, profile: &Profile, refused: &Parameters) -> Prepared {
    let began = Instant::now();
    coldplug.begin_summary();
    let mut problems = load(&mut coldplug, profile);
    problems.extend(std::mem::take(&mut coldplug.problems));
    problems.extend(set(root, refused).iter().map(problem));
    problems
        .extend(reserve::lower(root, &profile.sysctl, crate::services::memory()).err().iter().map(problem));
    let summary = format!(
        "{}, {} kernel parameters, {:.3} s beside other stages",
        coldplug.summary(),
        profile.sysctl.len(),
        began.elapsed().as_secs_f64()
    );
    Prepared { summary, problems }
}

/// The stage: what was prepared, told.
pub fn run(prepared: Prepared) -> Done<()> {
    Done { value: (), summary: prepared.summary, problems: prepared.problems }
}

/// All in one go, so that they load in parallel; one by one only to find out which is missing.
fn load(coldplug: &mut Coldplug, profile: &Profile) -> Vec<Problem> {
    let names: Vec<&str> = profile.kernel.load.iter().map(String::as_str).collect();
    if coldplug.load(&names).is_ok() {
        return Vec::new();
    }
    names.into_iter().filter_map(|name| coldplug.load(&[name]).err()).map(|error| problem(&error)).collect()
}

/// Sets parameters; returns those that the kernel did not take.
pub fn set(root: &Path, parameters: &Parameters) -> Vec<ParametersError> {
    let set = |(name, value): (&String, &String)| {
        let source = fs::write(file(root, name), value).err()?;
        Some(ParametersError::Parameter { name: name.clone(), value: value.clone(), source })
    };
    parameters.iter().filter_map(set).collect()
}

/// The parameters that these errors are about.
pub fn refused(errors: &[ParametersError]) -> Parameters {
    let pair = |error: &ParametersError| match error {
        ParametersError::Parameter { name, value, .. } => Some((name.clone(), value.clone())),
        ParametersError::Lost => None,
    };
    errors.iter().filter_map(pair).collect()
}

/// As sysctl(8): dots separate, and a slash in a name stands for a dot of a link's name.
fn file(root: &Path, name: &str) -> PathBuf {
    let swapped = name.chars().map(|c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    under(root, "/proc/sys").join(swapped.collect::<String>().trim_start_matches(['/', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_their_files() {
        let root = Path::new("/");
        assert_eq!(file(root, "net.ipv4.ip_forward"), Path::new("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(
            file(root, "net.ipv4.conf.eth0/100.rp_filter"),
            Path::new("/proc/sys/net/ipv4/conf/eth0.100/rp_filter")
        );
    }

    #[test]
    fn a_parameter_that_the_kernel_lacks_is_told_and_the_others_are_set() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/sys/vm")).unwrap();
        let wanted = [("vm.good", "1"), ("net.missing", "2")];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let errors = set(root.path(), &wanted);
        assert_eq!(fs::read_to_string(root.path().join("proc/sys/vm/good")).unwrap(), "1");
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().contains("net.missing"), "{errors:?}");
        assert_eq!(refused(&errors).into_keys().collect::<Vec<_>>(), ["net.missing"]);
    }
}
