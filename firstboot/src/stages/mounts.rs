//! **mounts**: the kernel's file systems, a writable `/etc`, drivers of this machine.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bootwright_model::profile::Profile;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use super::baked::{self, BakedError};
use super::modules::{Coldplug, ModulesError};
use super::{Advice, Done, Problem, problem};
use crate::report::under;

/// Layers of the writable `/etc`.
const ETC_UPPER: &str = "/run/bootwright/etc/upper";
const ETC_WORK: &str = "/run/bootwright/etc/work";
/// `/etc` is mounted with it.
const OVERLAY: &str = "overlay";

/// Why the root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MountsError {
    /// A mount.
    #[error("{target}: cannot mount {kind}")]
    Mount {
        /// Where.
        target: PathBuf,
        /// File system.
        kind: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A folder for one.
    #[error("{path}: cannot be made")]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The modules' lists.
    #[error("the modules of this machine cannot be loaded")]
    Modules(#[from] ModulesError),
    /// The profile.
    #[error("the image's profile cannot be read")]
    Profile(#[from] BakedError),
}

impl Advice for MountsError {
    fn advice(&self) -> String {
        match self {
            MountsError::Mount { kind: OVERLAY, .. } => {
                "name the module overlay in the profile's kernel.modules and build again"
            }
            MountsError::Mount { .. } | MountsError::Folder { .. } => {
                "the image lacks a folder or the kernel a file system: build it again from a whole profile"
            }
            MountsError::Modules(error) => return error.advice(),
            MountsError::Profile(error) => return error.advice(),
        }
        .to_owned()
    }
}

/// For the later stages.
pub struct Mounted {
    /// The role's profile.
    pub profile: Profile,
    /// Where further modules are loaded with.
    pub coldplug: Coldplug,
}

/// Everything mounted, and the drivers loaded that this machine's buses ask for.
pub fn run(root: &Path) -> Result<Done<Mounted>, MountsError> {
    let profile = baked::profile(root)?;
    let present = mount_points(root);
    let mut coldplug = Coldplug::open(root)?;
    // Modules are most of this stage, and only `/etc` is mounted with one.
    let (mounted, settled) = std::thread::scope(|scope| {
        let settled = scope.spawn(|| coldplug.settle(&[OVERLAY]));
        let mounted = mount_all(root, &present);
        (mounted, settled.join())
    });
    mounted?;
    let settled = settled.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    if !present.contains("/etc") {
        mount_etc(root)?;
    }
    let mut problems: Vec<Problem> = settled.err().iter().map(problem).collect();
    problems.extend(std::mem::take(&mut coldplug.problems));
    let summary = format!("{}, /etc writable", coldplug.summary());
    Ok(Done { value: Mounted { profile, coldplug }, summary, problems })
}

/// A file system to mount.
struct Mount {
    target: &'static str,
    kind: &'static str,
    flags: MountFlags,
    options: &'static std::ffi::CStr,
}

fn table() -> Vec<Mount> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mount = |target, kind, flags, options| Mount { target, kind, flags, options };
    vec![
        // gid 5 is Debian's group `tty`.
        mount("/dev/pts", "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, c"gid=5,mode=620,ptmxmode=666"),
        mount("/dev/shm", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=1777"),
        mount("/dev/mqueue", "mqueue", quiet, c""),
        mount("/sys/fs/cgroup", "cgroup2", quiet, c""),
        mount("/sys/fs/bpf", "bpf", quiet, c"mode=700"),
        mount("/tmp", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=1777,size=25%"),
    ]
}

fn mount_all(root: &Path, present: &BTreeSet<String>) -> Result<(), MountsError> {
    for Mount { target, kind, flags, options } in table() {
        if present.contains(target) {
            continue;
        }
        let target = under(root, target);
        // Only /dev takes new folders; the others are there by the image or the kernel.
        if target.starts_with(under(root, "/dev")) {
            make_folder(&target)?;
        }
        mounted(mount(kind, &target, kind, flags, Some(options)), &target, kind)?;
    }
    link_standard_streams(root);
    // Kubelet passes mounts of pods on to the host and back (mount propagation), which needs a shared root.
    let shared = mount_change(root, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
    mounted(shared, root, "shared")
}

/// What programs expect to write in `/etc` goes to memory: the root stays as it was built.
fn mount_etc(root: &Path) -> Result<(), MountsError> {
    make_folder(&under(root, ETC_UPPER))?;
    make_folder(&under(root, ETC_WORK))?;
    let etc = under(root, "/etc");
    let [upper, work] = [ETC_UPPER, ETC_WORK].map(|path| under(root, path));
    let options =
        format!("lowerdir={},upperdir={},workdir={}", etc.display(), upper.display(), work.display());
    let options = std::ffi::CString::new(options).expect("paths of constants have no zero byte");
    mounted(mount(OVERLAY, &etc, OVERLAY, MountFlags::empty(), Some(options.as_c_str())), &etc, OVERLAY)
}

fn mounted(result: rustix::io::Result<()>, target: &Path, kind: &'static str) -> Result<(), MountsError> {
    result.map_err(|errno: Errno| MountsError::Mount {
        target: target.to_owned(),
        kind,
        source: errno.into(),
    })
}

/// `/dev/fd` and its kin, which elsewhere the device manager makes.
fn link_standard_streams(root: &Path) {
    for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        let link = under(root, "/dev").join(name);
        // A convenience of shells and their like: none in the image, and containers have their own.
        let _ = std::os::unix::fs::symlink(format!("/proc/self/fd{target}"), link);
    }
}

fn mount_points(root: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(under(root, "/proc/self/mountinfo")).unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
}

fn make_folder(path: &Path) -> Result<(), MountsError> {
    fs::create_dir_all(path).map_err(|source| MountsError::Folder { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_of_this_machine_are_read() {
        assert!(mount_points(Path::new("/")).contains("/"));
    }
}
