//! What the image modules share about the host: the tools that are run.

use std::path::PathBuf;

use thiserror::Error;

/// A program that is missing, with the package that brings it.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "the program `{program}` is not in PATH; it comes with Debian's package {package}: install it and run this again"
)]
pub struct MissingTool {
    /// Name of the program.
    pub program: &'static str,
    /// Debian package.
    pub package: &'static str,
}

/// Finds `program` in `PATH`.
pub fn find_tool(program: &'static str, package: &'static str) -> Result<PathBuf, MissingTool> {
    find_in(std::env::var_os("PATH").as_deref(), program).ok_or(MissingTool { program, package })
}

fn find_in(path: Option<&std::ffi::OsStr>, program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    std::env::split_paths(path?).map(|folder| folder.join(program)).find(|candidate| {
        candidate.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = find_tool("no-such-program-here", "nothing").unwrap_err();
        insta::assert_snapshot!(error, @"the program `no-such-program-here` is not in PATH; it comes with Debian's package nothing: install it and run this again");
    }

    #[test]
    fn only_what_can_be_run_is_found() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("text"), "").unwrap();
        assert_eq!(find_in(Some(folder.path().as_os_str()), "text"), None);
        assert!(find_in(Some(std::ffi::OsStr::new("/bin:/usr/bin")), "sh").is_some());
        assert_eq!(find_in(None, "sh"), None);
    }
}
