//! What a person would use instead: mkosi, given the packages of the node's profile and its kernel.
//!
//! It has less to do: no Kubernetes, no initramfs, no boot loader, no hash tree, no disk. The output is a
//! tar, because a disk needs a newer systemd-repart than Debian 12 has.

mod config;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::figure::Figure;
use super::table::Table;
use super::{Error, Options, demo, say};
use crate::compose::inputs;
use crate::lab::console;
use crate::sources::debian::source;

/// What it says goes here, below its project's folder.
const LOG: &str = "log";
/// Lines of the log that are told when it fails.
const LOG_LINES: usize = 5;

/// Builds with its incremental cache and a changed file, and then without that cache. The packages are
/// cached each time, and it does not touch the network, as our own builds do not.
pub fn measure(options: &Options, table: &mut Table) -> Result<(), Error> {
    let program = &options.mkosi;
    table.compare_with(version(program)?);
    let mkosi = Mkosi { program, folder: options.boot.output.join("mkosi") };
    mkosi.prepare(options)?;
    say("building with mkosi, to fetch its packages and fill its cache, which is not measured");
    mkosi.run(&["-f", "-f", "--incremental=yes", "--cache-only=auto", "build"])?;
    for index in 0..options.runs {
        config::change(&mkosi.folder, index + 1)?;
        let took = mkosi.run(&["-f", "--incremental=yes", "--cache-only=always", "build"])?;
        table.record(Figure::MkosiIncremental, took.as_secs_f64());
    }
    // Not incremental, it would remove that cache, and fill no new one.
    mkosi.run(&["-f", "clean"])?;
    for _ in 0..options.runs {
        let took = mkosi.run(&["-f", "--incremental=no", "--cache-only=always", "build"])?;
        table.record(Figure::MkosiCold, took.as_secs_f64());
    }
    Ok(())
}

/// `mkosi 27.1`
fn version(program: &Path) -> Result<String, Error> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().map_err(|error| {
        let program = program.display();
        Error::State(format!(
            "cannot start {program}: {error}; ./run bench fetches it, or name it with --mkosi"
        ))
    })?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() && text.starts_with("mkosi ") {
        true => Ok(text),
        false => Err(failed(program, &["--version"], &output.status.to_string(), {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            if said.is_empty() { format!("it says {text:?}") } else { said }
        })),
    }
}

/// A project of mkosi's, removed when this is dropped.
struct Mkosi<'a> {
    program: &'a Path,
    folder: PathBuf,
}

impl Mkosi<'_> {
    /// Writes the project: the node's packages, from where our own build takes them.
    fn prepare(&self, options: &Options) -> Result<(), Error> {
        let loaded = &options.loaded;
        let set = inputs::os_set(&demo::pick_node(&options.boot)?.role);
        let request = inputs::request(loaded);
        let packages = request.sets.iter().find(|known| known.name == set);
        let packages =
            packages.ok_or_else(|| Error::State(format!("the profiles have no packages {set}")))?;
        let base = &loaded.file.base;
        let sources = source::sources(base, &loaded.folder, Path::new("/"));
        let sources = sources.map_err(|error| Error::State(error.to_string()))?;
        // Kept from one bench to the next, as ours are.
        let cache = options.boot.cache.join("mkosi/packages");
        std::fs::create_dir_all(&cache).map_err(Error::file("make", &cache))?;
        let cache = std::path::absolute(&cache).map_err(Error::file("find", &cache))?;
        self.remove();
        config::write(&self.folder, &base.suite, &packages.install, &sources, &cache)
    }

    /// Runs it to its end and returns how long it took.
    fn run(&self, arguments: &[&str]) -> Result<Duration, Error> {
        let log_path = self.folder.join(LOG);
        let log = File::create(&log_path).map_err(Error::file("write", &log_path))?;
        let also = log.try_clone().map_err(Error::file("write", &log_path))?;
        let mut command = Command::new(self.program);
        command.arg("-C").arg(&self.folder).args(arguments).stdin(Stdio::null()).stdout(log).stderr(also);
        let begin = Instant::now();
        let status = command.status().map_err(Error::file("start", self.program))?;
        let took = begin.elapsed();
        if status.success() {
            return Ok(took);
        }
        let last = console::last_lines(&log_path, LOG_LINES).join("\n");
        Err(failed(self.program, arguments, &status.to_string(), last))
    }

    /// Removes what it left. Without root its trees belong to users of its own namespace, which it alone can
    /// remove.
    fn remove(&self) {
        if self.folder.join(config::FILE).exists() {
            let _ = self.run(&["-f", "clean"]);
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Mkosi<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

fn failed(program: &Path, arguments: &[&str], status: &str, message: String) -> Error {
    let command = format!("{} {}", program.display(), arguments.join(" "));
    Error::Command { command, status: status.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program in a folder of its own that does what `script` says.
    fn program(script: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mkosi");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (folder, path)
    }

    #[test]
    fn the_version_is_its_own_word() {
        let (_folder, path) = program("echo mkosi 27.1");
        assert_eq!(version(&path).unwrap(), "mkosi 27.1");
        let (_folder, path) = program("echo other 1.0");
        let error = version(&path).unwrap_err().to_string();
        assert!(error.contains("it says \"other 1.0\""), "{error}");
        let (_folder, path) = program("echo no python >&2; exit 3");
        let error = version(&path).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("no python"), "{error}");
        let error = version(Path::new("/nowhere/mkosi")).unwrap_err().to_string();
        assert!(error.starts_with("cannot start /nowhere/mkosi") && error.contains("--mkosi"), "{error}");
    }

    #[test]
    fn a_failed_build_is_told_with_its_last_lines_and_leaves_nothing() {
        let (folder, path) = program("echo \"$@\"; echo no space left >&2; exit 1");
        let project = folder.path().join("project");
        std::fs::create_dir(&project).unwrap();
        let mkosi = Mkosi { program: &path, folder: project.clone() };
        let error = mkosi.run(&["-f", "build"]).unwrap_err().to_string();
        assert!(error.contains("mkosi -f build failed (exit status: 1)"), "{error}");
        assert!(error.ends_with(&format!("-C {} -f build\nno space left", project.display())), "{error}");
        drop(mkosi);
        assert!(!project.exists());
    }
}
