//! cgroup v2: a leaf for each service, and the end of everything in one.
//!
//! Files and rules: Linux kernel, Documentation/admin-guide/cgroup-v2.rst.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::Host;

/// Leaf of PID 1: a process in the root would keep no rule from working, but its memory would be counted nowhere.
const INIT: &str = "init";

/// Controllers that the kubelet refuses to start without.
pub const NEEDED: &[&str] = &[CPU, "cpuset", "memory", "pids"];

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Not mounted, or version 1.
    #[error("{path} is not a cgroup v2 filesystem (no cgroup.controllers); mount cgroup2 there")]
    NotCgroup2 {
        /// Where it was expected.
        path: PathBuf,
    },
    /// The kernel has it not, or it is turned off.
    #[error(
        "the kernel offers no cgroup controller {controller:?} in {path}; take cgroup_disable={controller} off its \
         command line, or take another kernel"
    )]
    NoController {
        /// Its name.
        controller: &'static str,
        /// The file that lists what there is.
        path: PathBuf,
    },
    /// A file or folder of the tree.
    #[error("cannot {action} {path}")]
    Io {
        /// `make`, `write`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Io { action, path, source }
}

/// Makes the tree: every controller handed down from the root, and PID 1 in a leaf of its own.
pub fn prepare(host: &Host) -> Result<(), CgroupError> {
    let controllers_file = host.cgroup.join("cgroup.controllers");
    let controllers = fs::read_to_string(&controllers_file)
        .map_err(|_| CgroupError::NotCgroup2 { path: host.cgroup.clone() })?;
    if host.pid1 {
        let leaf = Leaf::make(&host.cgroup, INIT)?;
        let procs = leaf.path.join("cgroup.procs");
        fs::write(&procs, std::process::id().to_string()).map_err(io_error("write", &procs))?;
    }
    let offered: Vec<&str> = controllers.split_ascii_whitespace().collect();
    if let Some(controller) = host.controllers.iter().find(|needed| !offered.contains(needed)) {
        return Err(CgroupError::NoController { controller, path: controllers_file });
    }
    // One by one: the kernel takes a line as a whole or not at all, and says not which it refused.
    let subtree = host.cgroup.join("cgroup.subtree_control");
    for controller in offered {
        let handed_down = fs::write(&subtree, format!("+{controller}"));
        if host.controllers.contains(&controller) {
            handed_down.map_err(io_error("hand a controller down in", &subtree))?;
        }
    }
    if host.pid1 {
        // It does little, and what it does others wait for.
        Leaf::at(&host.cgroup, INIT).set_cpu_weight(HIGHEST_WEIGHT)?;
    }
    Ok(())
}

/// The controller that gives shares of the processors.
pub const CPU: &str = "cpu";
/// The largest share of the processors (cgroup-v2.rst, "cpu.weight").
pub const HIGHEST_WEIGHT: u16 = 10_000;
/// The share of a cgroup that says nothing.
pub const USUAL_WEIGHT: u16 = 100;

/// A cgroup that processes sit in, or whose descendants do.
#[derive(Debug, Clone)]
pub struct Leaf {
    path: PathBuf,
}

impl Leaf {
    /// A cgroup below `root`, which may not exist (yet).
    pub fn at(root: &Path, name: &str) -> Leaf {
        Leaf { path: root.join(name) }
    }

    /// Makes it with its parents.
    pub fn make(root: &Path, name: &str) -> Result<Leaf, CgroupError> {
        let leaf = Leaf::at(root, name);
        fs::create_dir_all(&leaf.path).map_err(io_error("make", &leaf.path))?;
        Ok(leaf)
    }

    /// Sets its share of the processors against its siblings, 1 to 10000 (cgroup-v2.rst, "cpu.weight").
    pub fn set_cpu_weight(&self, weight: u16) -> Result<(), CgroupError> {
        let parent = self.path.parent().unwrap_or(&self.path).join("cgroup.subtree_control");
        fs::write(&parent, "+cpu").map_err(io_error("hand the cpu controller down in", &parent))?;
        let file = self.path.join("cpu.weight");
        fs::write(&file, weight.to_string()).map_err(io_error("write", &file))
    }

    /// Its list of processes, to be written by a process that wants to move in.
    pub fn open_procs(&self) -> Result<File, CgroupError> {
        let procs = self.path.join("cgroup.procs");
        OpenOptions::new().write(true).open(&procs).map_err(io_error("open", &procs))
    }

    /// Whether a process is in it or below. A cgroup that does not exist has none.
    pub fn is_populated(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    /// SIGKILL to everything in it and below, in one step that no fork escapes.
    pub fn kill(&self) {
        // Gone or without processes: nothing to kill. Before Linux 5.14 there is no cgroup.kill.
        if fs::write(self.path.join("cgroup.kill"), "1").is_err() {
            self.signal(Signal::KILL);
        }
    }

    /// A signal to every process in it and below.
    pub fn signal(&self, signal: Signal) {
        for pid in self.processes() {
            // It may have ended since.
            let _ = kill_process(pid, signal);
        }
    }

    fn processes(&self) -> Vec<Pid> {
        let mut found = Vec::new();
        let mut open = vec![self.path.clone()];
        while let Some(folder) = open.pop() {
            let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(procs.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)));
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            let folders = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
            open.extend(folders.map(|e| e.path()));
        }
        found
    }

    /// Removes it if it is empty; for tests and for the end.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_dir(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like a cgroup2 root, as far as reading and writing of its files goes.
    fn host(controllers: Option<&str>) -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().unwrap();
        if let Some(controllers) = controllers {
            fs::write(folder.path().join("cgroup.controllers"), controllers).unwrap();
        }
        let host = Host { cgroup: folder.path().to_owned(), pid1: false, ..Host::node() };
        (folder, host)
    }

    #[test]
    fn a_kernel_without_what_the_kubelet_needs_is_refused_by_name() {
        let (_folder, v1) = host(None);
        assert!(matches!(prepare(&v1), Err(CgroupError::NotCgroup2 { .. })));
        let (_folder, lacking) = host(Some("cpuset cpu io pids\n"));
        let message = prepare(&lacking).unwrap_err().to_string();
        assert!(message.contains("\"memory\"") && message.contains("cgroup_disable=memory"), "{message}");
        let (_folder, whole) = host(Some("cpuset cpu io memory hugetlb pids rdma misc\n"));
        prepare(&whole).unwrap();
    }

    #[test]
    fn a_weight_needs_the_controller_in_the_parent() {
        let (_folder, host) = host(None);
        let leaf = Leaf::make(&host.cgroup, "system/etcd").unwrap();
        leaf.set_cpu_weight(400).unwrap();
        let read = |path: &str| fs::read_to_string(host.cgroup.join(path)).unwrap();
        assert_eq!(read("system/cgroup.subtree_control"), "+cpu");
        assert_eq!(read("system/etcd/cpu.weight"), "400");
    }

    #[test]
    fn a_cgroup_that_is_not_there_is_empty_and_ends_well() {
        let (_folder, host) = host(None);
        let leaf = Leaf::at(&host.cgroup, "kubepods");
        assert!(!leaf.is_populated());
        leaf.signal(Signal::TERM);
        leaf.kill();
    }
}
