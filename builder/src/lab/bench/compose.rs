//! Cold and warm builds, timed as a person runs them.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bootwright_model::cluster::Node;
use ipnet::IpNet;

use super::figure::Figure;
use super::table::Table;
use super::{Error, Options, program};
use crate::cluster::Loaded;

/// Name of the cluster file in the folder that [`cluster_with`] makes.
pub const CLUSTER_FILE: &str = "bench.toml";
/// What such a folder has of its own.
const NOT_LINKED: [&str; 2] = [CLUSTER_FILE, "secrets"];

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
    let (_folder, changed) = changed_cluster(&options.loaded, index)?;
    table.record(Figure::WarmCompose, build(options, &changed, &options.boot.cache)?.as_secs_f64());
    Ok(())
}

/// Builds with a cache; returns the time from the start of the program to its end.
pub fn build(options: &Options, cluster_file: &Path, cache: &Path) -> Result<Duration, Error> {
    build_into(options, cluster_file, cache, &options.boot.output)
}

/// The same into another folder.
pub fn build_into(
    options: &Options,
    cluster_file: &Path,
    cache: &Path,
    output: &Path,
) -> Result<Duration, Error> {
    let mut command = Command::new(&options.program);
    command.arg("build").arg("-f").arg(cluster_file).arg("-o").arg(output).arg("--cache").arg(cache);
    let begin = Instant::now();
    program::run(&mut command, &options.program)?;
    Ok(begin.elapsed())
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

/// A folder as [`linked`] makes it, with the cluster file under its own name, and another name for the API server's
/// certificate in it. The lock and the keys are those of the original.
fn changed_cluster(loaded: &Loaded, index: u16) -> Result<(tempfile::TempDir, PathBuf), Error> {
    let name = loaded.path.file_name().unwrap_or_default();
    let folder = linked(loaded, &[name])?;
    let text = changed(&loaded.path, |document| {
        let mut names = toml_edit::Array::new();
        names.push(format!("bench-{index}.invalid"));
        document["cluster"]["endpoint-names"] = toml_edit::value(names);
    })?;
    let file = folder.path().join(name);
    std::fs::write(&file, text).map_err(Error::file("write", &file))?;
    Ok((folder, file))
}

/// A folder beside that of the cluster file, with links to what is in that, but for what is `left_out`: relative
/// paths lead to the same files.
fn linked(loaded: &Loaded, left_out: &[&OsStr]) -> Result<tempfile::TempDir, Error> {
    let original = &std::path::absolute(&loaded.folder).map_err(Error::file("find", &loaded.folder))?;
    let beside = original.parent().unwrap_or(original);
    let folder = tempfile::Builder::new()
        .prefix(".bench-")
        .tempdir_in(beside)
        .map_err(Error::file("make a folder in", beside))?;
    for entry in original.read_dir().map_err(Error::file("read", original))? {
        let name = entry.map_err(Error::file("read", original))?.file_name();
        if !left_out.contains(&name.as_os_str()) {
            let link = folder.path().join(&name);
            std::os::unix::fs::symlink(original.join(&name), &link).map_err(Error::file("link", &link))?;
        }
    }
    Ok(folder)
}

/// A folder with the cluster file, as [`CLUSTER_FILE`], and one more node of `role` in it, at the first address of each
/// family that no other node has. It has keys and, by its name, a lock of its own: that of the original knows nothing of
/// the role.
pub fn cluster_with(loaded: &Loaded, role: &str) -> Result<tempfile::TempDir, Error> {
    let nodes = &loaded.file.nodes;
    let used = |address: &IpAddr| {
        let at_gateway = |node: &Node| node.gateway.is_some_and(|gateways| gateways.contains(address));
        nodes.iter().any(|node| node.address.addrs().contains(address) || at_gateway(node))
    };
    // The first of an IPv6 network means any router.
    let free = |network: IpNet| {
        let address = network.hosts().find(|address| *address != network.network() && !used(address));
        address.and_then(|address| IpNet::new(address, network.prefix_len()).ok()).ok_or(())
    };
    let address = nodes.first().ok_or(()).and_then(|node| node.address.try_map(free));
    let address =
        address.map_err(|()| Error::State(format!("no address is free for a node of role {role}")))?;
    let folder = linked(loaded, &NOT_LINKED.map(OsStr::new))?;
    let mut added = false;
    let text = changed(&loaded.path, |document| {
        let mut node = toml_edit::Table::new();
        node["name"] = toml_edit::value("bench");
        node["role"] = toml_edit::value(role);
        node["address"] = match address.count() {
            1 => toml_edit::value(address.to_string()),
            _ => toml_edit::value(toml_edit::Array::from_iter(address.iter().map(|one| one.to_string()))),
        };
        if let Some(nodes) = document["node"].as_array_of_tables_mut() {
            nodes.push(node);
            added = true;
        }
    })?;
    if !added {
        let path = loaded.path.display();
        return Err(Error::State(format!(
            "{path}: no node can be added to a list `node = [{{…}}]`; write each node as [[node]]"
        )));
    }
    let file = folder.path().join(CLUSTER_FILE);
    std::fs::write(&file, text).map_err(Error::file("write", &file))?;
    Ok(folder)
}

/// The text of the cluster file with a change.
fn changed(path: &Path, change: impl FnOnce(&mut toml_edit::DocumentMut)) -> Result<String, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
    let mut document: toml_edit::DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| Error::State(format!("{}: {error}", path.display())))?;
    change(&mut document);
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// `examples/c.toml` with what lies beside it.
    fn example(folder: &Path) -> Loaded {
        let examples = folder.join("examples");
        std::fs::create_dir(&examples).unwrap();
        std::fs::write(examples.join("page.html"), "hello").unwrap();
        let path = examples.join("c.toml");
        let text = crate::cluster::template::Template {
            name: "demo".to_owned(),
            node: "cp1".to_owned(),
            address: "10.0.2.3/24".parse().unwrap(),
            gateway: Some("10.0.2.1".parse().unwrap()),
            mac: None,
            kubernetes: "1.20.2".to_owned(),
            directory: "../kubernetes".to_owned(),
        };
        std::fs::write(&path, text.render()).unwrap();
        let loaded = crate::cluster::load(&path, None).unwrap();
        std::fs::write(loaded.lock_path(), "the lock").unwrap();
        loaded
    }

    #[test]
    fn a_changed_cluster_file_differs_in_one_list_and_has_the_same_lock() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = example(folder.path());
        let (made, path) = changed_cluster(&loaded, 3).unwrap();
        assert_eq!(made.path().parent(), Some(folder.path()));
        let changed = crate::cluster::load(&path, None).unwrap();
        assert_eq!(changed.file.cluster.endpoint_names, ["bench-3.invalid"]);
        let mut same = changed.file.clone();
        same.cluster.endpoint_names.clone_from(&loaded.file.cluster.endpoint_names);
        assert_eq!(same, loaded.file);
        assert_eq!(std::fs::read_to_string(changed.lock_path()).unwrap(), "the lock");
    }

    #[test]
    fn a_cluster_with_one_more_node_leads_to_the_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = example(folder.path());
        let made = cluster_with(&loaded, "worker").unwrap();
        assert_eq!(made.path().parent(), Some(folder.path()));
        assert_eq!(std::fs::read_to_string(made.path().join("page.html")).unwrap(), "hello");
        let with = crate::cluster::load(&made.path().join(CLUSTER_FILE), None).unwrap();
        assert_eq!(with.file.nodes[1].address.to_string(), "10.0.2.2/24");
        assert_eq!(with.profiles.keys().collect::<Vec<_>>(), ["all-in-one", "worker"]);
        assert!(!with.lock_path().exists());
        std::fs::write(&loaded.path, "node = [{ name = \"cp1\" }]\n").unwrap();
        let error = cluster_with(&loaded, "worker").unwrap_err().to_string();
        assert!(error.contains("c.toml: ") && error.contains("[[node]]"), "{error}");
    }
}
