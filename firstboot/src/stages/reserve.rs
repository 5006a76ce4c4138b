//! Gives back what huge pages keep free of a small machine's memory.
//!
//! For them the kernel raises the memory that it keeps free to some 70 MB, or 5 % of a small machine
//! (`set_recommended_min_free_kbytes` in mm/khugepaged.c), and the watermarks that hang on it
//! (Documentation/admin-guide/sysctl/vm.rst, `min_free_kbytes`) take more than twice as much from what is
//! available to programs. Without huge pages it keeps a quarter of a percent of 2 GiB, and less of more.

use std::fs;
use std::path::Path;

use super::parameters::{Parameters, ParametersError};
use crate::report::under;

/// The parameter, as sysctl(8) has it.
const NAME: &str = "vm.min_free_kbytes";
/// Where it is.
const FILE: &str = "/proc/sys/vm/min_free_kbytes";
/// At most one part in this many of the memory is kept free.
const SHARE: u64 = 200;

/// Lowers the reserve to half a percent of the memory, unless it is lower already or among the `parameters` that the
/// profile sets. `memory` in bytes.
///
/// # Errors
/// The kernel does not take the value.
pub fn lower(root: &Path, parameters: &Parameters, memory: u64) -> Result<(), ParametersError> {
    if parameters.contains_key(NAME) {
        return Ok(());
    }
    let file = under(root, FILE);
    let wanted = memory / 1024 / SHARE;
    // A kernel that does not say keeps what it has.
    let present = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if present.is_none_or(|present| present <= wanted) {
        return Ok(());
    }
    fs::write(&file, wanted.to_string()).map_err(|source| ParametersError::Parameter {
        name: NAME.to_owned(),
        value: wanted.to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_machine_gets_its_memory_back_and_a_large_one_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/sys/vm")).unwrap();
        let file = root.path().join("proc/sys/vm/min_free_kbytes");
        for (memory, present, expected) in [
            (2 << 30, "67584\n", "10485"),
            (64 << 30, "67584\n", "67584\n"),
            (2 << 30, "5632\n", "5632\n"),
            (2 << 30, "?", "?"),
        ] {
            fs::write(&file, present).unwrap();
            lower(root.path(), &Parameters::new(), memory).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), expected, "{memory} bytes, {present}");
        }
        fs::write(&file, "67584\n").unwrap();
        let named = Parameters::from([(NAME.to_owned(), "67584".to_owned())]);
        lower(root.path(), &named, 2 << 30).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "67584\n");
    }

    #[test]
    fn a_kernel_without_it_is_no_fault() {
        let root = tempfile::tempdir().unwrap();
        lower(root.path(), &Parameters::new(), 1 << 30).unwrap();
    }
}
