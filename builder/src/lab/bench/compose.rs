//! Cold and warm builds, timed as a person runs them.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::figure::Figure;
use super::table::Table;
use super::{Error, Options};

/// Folders of the cache that hold what was made of what was fetched, and are left out of a cold cache.
const MADE: [&str; 2] = ["derived", "layers"];

/// Builds with a cold cache, then with a warm one and a changed cluster file, in turn.
pub fn measure(options: &Options, table: &mut Table) -> Result<(), Error> {
    let measured = (0..options.runs).try_for_each(|index| one(options, table, index));
    // What is booted afterwards is what the cluster file says, also when a run failed.
    let restored = build(options, &options.loaded.path, &options.boot.cache).map(drop);
    measured.and(restored)
}

/// A build with a cold cache, and one with a warm one and a changed cluster file.
fn one(options: &Options, table: &mut Table, index: u16) -> Result<(), Error> {
    let cluster_file = &options.loaded.path;
    let cache = cold_cache(&options.boot.cache)?;
    table.record(Figure::ColdCompose, build(options, cluster_file, cache.path())?.as_secs_f64());
    let changed = changed_cluster_file(cluster_file, index)?;
    table.record(Figure::WarmCompose, build(options, changed.path(), &options.boot.cache)?.as_secs_f64());
    Ok(())
}

/// Builds with a cache; returns the time from the start of the program to its end.
pub fn build(options: &Options, cluster_file: &Path, cache: &Path) -> Result<Duration, Error> {
    let mut command = Command::new(&options.program);
    command
        .arg("build")
        .arg("-f")
        .arg(cluster_file)
        .arg("-o")
        .arg(&options.boot.output)
        .arg("--cache")
        .arg(cache);
    let begin = Instant::now();
    let output = command.output().map_err(Error::file("start", &options.program))?;
    let took = begin.elapsed();
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Command {
            command: format!("{command:?}"),
            status: output.status.to_string(),
            message,
        });
    }
    Ok(took)
}

/// A cache that has what was fetched, by links, and nothing that was composed.
fn cold_cache(cache: &Path) -> Result<tempfile::TempDir, Error> {
    // A link is looked up from where it lies.
    let cache = &std::path::absolute(cache).map_err(Error::file("find", cache))?;
    // Beside the cache: what is moved into its links must lie on the same filesystem.
    let folder = cache.parent().unwrap_or(Path::new("."));
    let cold = tempfile::Builder::new()
        .prefix("bootwright-cold.")
        .tempdir_in(folder)
        .map_err(Error::file("make a folder in", folder))?;
    for entry in cache.read_dir().map_err(Error::file("read", cache))? {
        let name = entry.map_err(Error::file("read", cache))?.file_name();
        if MADE.iter().any(|made| *made == name) {
            continue;
        }
        let link = cold.path().join(&name);
        std::os::unix::fs::symlink(cache.join(&name), &link).map_err(Error::file("link", &link))?;
    }
    Ok(cold)
}

/// The cluster file with another name in the API server's certificate, beside it: paths in it are
/// relative to its folder.
fn changed_cluster_file(path: &Path, index: u16) -> Result<tempfile::NamedTempFile, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
    let mut document: toml_edit::DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| Error::State(format!("{}: {error}", path.display())))?;
    let mut names = toml_edit::Array::new();
    names.push(format!("bench-{index}.invalid"));
    document["cluster"]["endpoint-names"] = toml_edit::value(names);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".bench-")
        .suffix(".toml")
        .tempfile_in(folder)
        .map_err(Error::file("write to", folder))?;
    file.write_all(document.to_string().as_bytes()).map_err(Error::file("write to", folder))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_cluster_file_differs_in_one_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, "# a comment\n[cluster]\nname = \"demo\"\n").unwrap();
        let changed = changed_cluster_file(&path, 3).unwrap();
        assert_eq!(changed.path().parent(), Some(folder.path()));
        let text = std::fs::read_to_string(changed.path()).unwrap();
        assert_eq!(text, "# a comment\n[cluster]\nname = \"demo\"\nendpoint-names = [\"bench-3.invalid\"]\n");
    }

    #[test]
    fn a_cold_cache_has_what_was_fetched_only() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        for name in ["sha256", "layers"] {
            std::fs::create_dir_all(cache.join(name)).unwrap();
        }
        let cold = cold_cache(&cache).unwrap();
        assert!(cold.path().join("sha256").is_dir());
        assert!(!cold.path().join("layers").exists());
    }
}
