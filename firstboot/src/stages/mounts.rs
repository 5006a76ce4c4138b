//! **mounts**: the kernel's file systems, a writable `/etc`, modules of this machine, kernel parameters.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bootwright_model::profile::Profile;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use super::baked::{self, BakedError};
use super::modules::{Coldplug, ModulesError};
use super::{Advice, Done, Problem};
use crate::report::under;

/// Layers of the writable `/etc`.
const ETC_UPPER: &str = "/run/bootwright/etc/upper";
const ETC_WORK: &str = "/run/bootwright/etc/work";
/// Needed before anything else: `/etc` is mounted with it.
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
            MountsError::Parameter { .. } => {
                "correct [sysctl] in the profile, or name the module that brings the parameter in kernel.load"
            }
        }
        .to_owned()
    }
}

/// Everything mounted; gives the profile to the later stages.
pub fn run(root: &Path) -> Result<Done<Profile>, MountsError> {
    let profile = baked::profile(root)?;
    let mut coldplug = Coldplug::open(root)?;
    coldplug.load(&[OVERLAY])?;
    // Modules are most of this stage, and mounting does not need them.
    let (mounted, modules) = std::thread::scope(|scope| {
        let modules = scope.spawn(|| load_modules(&mut coldplug, &profile));
        let mounted = mount_all(root);
        (mounted, modules.join())
    });
    mounted?;
    let mut problems = modules.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    problems.extend(std::mem::take(&mut coldplug.problems));
    problems.extend(set_parameters(root, &profile));
    let summary =
        format!("{}, {} kernel parameters, /etc writable", coldplug.summary(), profile.sysctl.len());
    Ok(Done { value: profile, summary, problems })
}

fn load_modules(coldplug: &mut Coldplug, profile: &Profile) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Err(error) = coldplug.settle() {
        problems.push(Problem::of(&error));
    }
    // All in one go, so that they load in parallel; one by one only to find out which is missing.
    let names: Vec<&str> = profile.kernel.load.iter().map(String::as_str).collect();
    if coldplug.load(&names).is_err() {
        for name in names {
            problems.extend(coldplug.load(&[name]).err().map(|error| Problem::of(&error)));
        }
    }
    problems
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

fn mount_all(root: &Path) -> Result<(), MountsError> {
    let present = mount_points(root);
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
    if !present.contains("/etc") {
        mount_etc(root)?;
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

fn set_parameters(root: &Path, profile: &Profile) -> Vec<Problem> {
    let set = |(name, value): (&String, &String)| {
        let source = fs::write(parameter_file(root, name), value).err()?;
        Some(Problem::of(&MountsError::Parameter { name: name.clone(), value: value.clone(), source }))
    };
    profile.sysctl.iter().filter_map(set).collect()
}

/// As sysctl(8): dots separate, and a slash in a name stands for a dot of a link's name.
fn parameter_file(root: &Path, name: &str) -> PathBuf {
    let swapped = name.chars().map(|c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    under(root, "/proc/sys").join(swapped.collect::<String>().trim_start_matches(['/', '.']))
}

fn make_folder(path: &Path) -> Result<(), MountsError> {
    fs::create_dir_all(path).map_err(|source| MountsError::Folder { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_their_files() {
        let root = Path::new("/");
        assert_eq!(parameter_file(root, "net.ipv4.ip_forward"), Path::new("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(
            parameter_file(root, "net.ipv4.conf.eth0/100.rp_filter"),
            Path::new("/proc/sys/net/ipv4/conf/eth0.100/rp_filter")
        );
    }

    #[test]
    fn mount_points_of_this_machine_are_read() {
        assert!(mount_points(Path::new("/")).contains("/"));
    }
}
