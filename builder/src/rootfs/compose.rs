//! Puts a role's root and initramfs together from everything that was fetched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootwright_model::baked::OsRelease;
use bootwright_model::layout;
use bootwright_model::probe::PROBE_IMAGE;
use bootwright_model::profile::Profile;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::check::{self, Fault};
use super::firmware::{Firmware, FirmwareError, FirmwareFacts};
use super::globs::{GlobError, Globs};
use super::modules::{Kernel, ModulesError};
use super::oci::{self, ImageError, ImageSpec, PAUSE_IMAGE};
use super::overlays::{Overlay, OverlayError};
use super::packages::{self, Package, PackageError, Selection};
use super::setup::{self, SetupError};
use super::tree::{Content, Entry, Kind, RootTree, TreeError};
use crate::digests::hex;
use crate::sources::Artifact;

/// Everything that a root is made of.
pub struct RootSpec<'a> {
    /// What it should be.
    pub profile: &'a Profile,
    /// Kubernetes version without `v`.
    pub kubernetes: &'a str,
    /// Closure of the profile's packages, the kernel's included.
    pub packages: &'a [Package],
    /// Packages that files are taken of which the modules ask for, and microcode.
    pub firmware: &'a [Package],
    /// The profile's Kubernetes binaries; an artifact's `name` is the program's.
    pub binaries: &'a [Artifact],
    /// Static program of first boot.
    pub firstboot: &'a Path,
    /// Static program of the agent, for profiles with a service that runs it.
    pub agent: &'a Path,
    /// Static program of the pod sandbox.
    pub pause: &'a Path,
    /// Static program of the probes.
    pub probe: &'a Path,
    /// Folder of the cluster file, for overlays beside it.
    pub beside: Option<&'a Path>,
    /// Workload images.
    pub images: &'a [ImageSpec],
}

/// A root and what belongs to it.
#[derive(Debug, Clone)]
pub struct Composed {
    /// The root.
    pub tree: RootTree,
    /// The initramfs' first segment: first boot as `/init`, and the modules that reach the root.
    pub initramfs: RootTree,
    /// What comes in front of it, plain: microcode.
    pub microcode: Option<RootTree>,
    /// What the image has of the packages of such files; nothing if there were none.
    pub firmware: Option<FirmwareFacts>,
    /// `vmlinuz`.
    pub kernel: Content,
    /// What the root says that it is made of.
    pub os: OsRelease,
}

/// Why a root could not be composed.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A file that every root needs could not be read.
    #[error("{what} {path}: {source}")]
    Read {
        /// Which.
        what: &'static str,
        /// On this machine.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The profile wants a binary that was not fetched.
    #[error(
        "profile {role} wants the Kubernetes binary {name}, which the Kubernetes directory or mirror did not give"
    )]
    Binary {
        /// Role.
        role: String,
        /// Program.
        name: String,
    },
    /// The profile's programs lack a package.
    #[error("profile {role} runs {what}: add {package} to `packages.install`")]
    Package {
        /// Role.
        role: String,
        /// What needs it.
        what: &'static str,
        /// Debian package.
        package: &'static str,
    },
    /// The root would not work.
    #[error("the root of profile {role} is not whole:\n{}", list(faults))]
    Faults {
        /// Role.
        role: String,
        /// Sorted.
        faults: Vec<Fault>,
    },
    /// A package.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// Modules.
    #[error("profile {role}: {source}")]
    Modules {
        /// Role.
        role: String,
        /// Why.
        source: Box<ModulesError>,
    },
    /// Files for devices.
    #[error("profile {role}: {source}")]
    Firmware {
        /// Role.
        role: String,
        /// Why.
        source: Box<FirmwareError>,
    },
    /// A glob of the profile.
    #[error("profile {role}: {source}")]
    Glob {
        /// Role.
        role: String,
        /// Why.
        source: GlobError,
    },
    /// The profile's setup.
    #[error("profile {role}: {source}")]
    Setup {
        /// Role.
        role: String,
        /// Why.
        source: Box<SetupError>,
    },
    /// An overlay.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// A workload image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// It cannot be in the tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("  {fault}\n")).collect()
}

/// Composes the root and the initramfs, and checks the root.
pub fn build(spec: &RootSpec) -> Result<Composed, RootError> {
    let role = &spec.profile.role;
    let modules_error = |source| RootError::Modules { role: role.clone(), source: Box::new(source) };
    let (kernel_package, kernel) = Kernel::find(spec.packages).map_err(modules_error)?;
    let firmware_error = |source| RootError::Firmware { role: role.clone(), source: Box::new(source) };
    let mut firmware = Firmware::read(spec.firmware).map_err(firmware_error)?;
    let firstboot = program("first boot", spec.firstboot)?;

    let mut tree = RootTree::default();
    lay_packages(&mut tree, spec, kernel_package)?;
    setup::merged_usr(&mut tree)?;
    setup::apply(&mut tree, &spec.profile.setup)
        .map_err(|source| RootError::Setup { role: role.clone(), source: Box::new(source) })?;
    let identity = setup::Identity { version: env!("CARGO_PKG_VERSION"), role, kubernetes: spec.kubernetes };
    setup::os_release(&mut tree, &identity)?;
    for name in &spec.profile.overlays {
        Overlay::load(name, spec.beside)?.lay(&mut tree)?;
    }
    let selected = kernel.select("kernel.modules", &spec.profile.kernel.modules).map_err(modules_error)?;
    selected.lay(&mut tree).map_err(modules_error)?;
    firmware.lay(&selected, &mut tree).map_err(firmware_error)?;
    kernel.check_load(&selected, &spec.profile.kernel.load).map_err(modules_error)?;
    lay_binaries(&mut tree, spec)?;

    let by: Arc<str> = "bootwright".into();
    // Nobody else could import them.
    let (archive, images) = if spec.packages.iter().any(|package| package.name == "containerd") {
        let (archive, images) = images(spec)?;
        (Some(archive), images)
    } else {
        (None, Vec::new())
    };
    let os = os_release(spec, &kernel.release, images)?;
    tree.insert(layout::FIRSTBOOT, Entry::new(Kind::File(firstboot.clone()), 0o755, &by))?;
    if runs(spec.profile, layout::AGENT) {
        tree.insert(layout::AGENT, Entry::new(Kind::File(program("the agent", spec.agent)?), 0o755, &by))?;
    }
    if let Some(archive) = archive {
        tree.insert(layout::IMAGES_ARCHIVE, Entry::new(Kind::File(archive), 0o644, &by))?;
    }
    tree.insert(layout::PROFILE_FILE, Entry::file(json(spec.profile), 0o644, &by))?;
    tree.insert(layout::OS_FILE, Entry::file(json(&os), 0o644, &by))?;

    let initramfs = initramfs(spec, &kernel, &firstboot, &mut firmware)?;
    let microcode = firmware.microcode().map_err(firmware_error)?;
    firmware.lay_licences(&mut tree).map_err(firmware_error)?;
    let faults = check::faults(&tree);
    if !faults.is_empty() {
        return Err(RootError::Faults { role: role.clone(), faults });
    }
    let firmware = (!spec.firmware.is_empty()).then(|| firmware.facts());
    Ok(Composed { tree, initramfs, microcode, firmware, kernel: kernel.image, os })
}

/// A digest of everything that [`build`] makes the trees from: the same digest, the same trees. Reads
/// our programs, the overlays and the images' files, and no package.
///
/// It does not know the code of the composing program itself.
pub fn digest(spec: &RootSpec) -> Result<String, RootError> {
    let mut hash = Sha256::new();
    let mut add = |what: &str, value: &str| hash.update(format!("{what}\0{}\0{value}\0", value.len()));
    add("version", env!("CARGO_PKG_VERSION"));
    add("kubernetes", spec.kubernetes);
    add("profile", &String::from_utf8_lossy(&json(spec.profile)));
    for package in spec.packages {
        add("package", &format!("{} {} {}", package.name, package.version, package.sha256));
    }
    for package in spec.firmware {
        add("firmware", &format!("{} {} {}", package.name, package.version, package.sha256));
    }
    for binary in spec.binaries {
        add("binary", &format!("{} {}", binary.name, binary.sha256));
    }
    let mut tree = RootTree::default();
    for name in &spec.profile.overlays {
        // Laid one over the other here: the order is part of the profile.
        let mut one = RootTree::default();
        Overlay::load(name, spec.beside)?.lay(&mut one)?;
        add("overlay", &format!("{name} {}", one.digest()));
    }
    let by: Arc<str> = "digest".into();
    let firstboot = program("first boot", spec.firstboot)?;
    tree.insert("/firstboot", Entry::new(Kind::File(firstboot), 0o755, &by))?;
    let agent = program("the agent", spec.agent)?;
    tree.insert("/agent", Entry::new(Kind::File(agent), 0o755, &by))?;
    let (archive, _) = images(spec)?;
    tree.insert("/images", Entry::new(Kind::File(archive), 0o644, &by))?;
    add("files", &tree.digest());
    Ok(hex(&hash.finalize()))
}

/// Whether a service of the profile is this program.
fn runs(profile: &Profile, program: &str) -> bool {
    profile.services.iter().any(|service| service.command.first().is_some_and(|first| first == program))
}

fn program(what: &'static str, path: &Path) -> Result<Content, RootError> {
    Content::file(path).map_err(|source| RootError::Read { what, path: path.to_owned(), source })
}

fn lay_packages(tree: &mut RootTree, spec: &RootSpec, kernel: &Package) -> Result<(), RootError> {
    let glob_error = |source| RootError::Glob { role: spec.profile.role.clone(), source };
    let prune = Globs::new("packages.prune", &spec.profile.packages.prune).map_err(glob_error)?;
    let keep = Globs::new("packages.keep", &spec.profile.packages.keep).map_err(glob_error)?;
    // Modules are selected, not pruned.
    let no_modules = ["/usr/lib/modules", "/usr/lib/modules/**", "/boot/**", "/boot"].map(str::to_owned);
    let kernel_prune = [&spec.profile.packages.prune[..], &no_modules].concat();
    let kernel_prune = Globs::new("packages.prune", &kernel_prune).map_err(glob_error)?;
    for package in spec.packages {
        let prune = if package == kernel { &kernel_prune } else { &prune };
        packages::lay(tree, package, &Selection { prune, keep: &keep })?;
    }
    Ok(())
}

fn lay_binaries(tree: &mut RootTree, spec: &RootSpec) -> Result<(), RootError> {
    for name in &spec.profile.binaries {
        let artifact = spec
            .binaries
            .iter()
            .find(|artifact| artifact.name == *name)
            .ok_or_else(|| RootError::Binary { role: spec.profile.role.clone(), name: name.clone() })?;
        let origin: Arc<str> = format!("Kubernetes {} {name}", artifact.version).into();
        let content = Content::Range {
            path: artifact.path.clone(),
            offset: 0,
            length: artifact.size,
            source: artifact.sha256.as_str().into(),
        };
        tree.insert(&format!("/usr/bin/{name}"), Entry::new(Kind::File(content), 0o755, &origin))?;
    }
    Ok(())
}

/// The images archive, and the names in it.
fn images(spec: &RootSpec) -> Result<(Content, Vec<String>), RootError> {
    let ours = [(PAUSE_IMAGE, "/pause", spec.pause), (PROBE_IMAGE, "/probe", spec.probe)];
    let ours = ours.map(|(name, path, program)| ImageSpec::Composed {
        name: name.to_owned(),
        packages: Vec::new(),
        keep: Vec::new(),
        files: BTreeMap::from([(path.to_owned(), program.to_owned())]),
        links: BTreeMap::new(),
        entrypoint: vec![path.to_owned()],
    });
    let all: Vec<ImageSpec> = ours.into_iter().chain(spec.images.iter().cloned()).collect();
    let names = all.iter().map(|image| image.name().to_owned()).collect();
    Ok((oci::archive(&all)?, names))
}

fn os_release(spec: &RootSpec, kernel_release: &str, images: Vec<String>) -> Result<OsRelease, RootError> {
    let upstream = |package: &'static str, what: &'static str, component: &str| {
        let found = spec.packages.iter().find(|found| found.name == package);
        let runs = spec.profile.services.iter().any(|one| one.component.as_deref() == Some(component));
        match found {
            Some(found) => Ok(upstream_version(&found.version).to_owned()),
            None if !runs => Ok(String::new()),
            None => Err(RootError::Package { role: spec.profile.role.clone(), what, package }),
        }
    };
    Ok(OsRelease {
        kernel_release: kernel_release.to_owned(),
        kubernetes: spec.kubernetes.to_owned(),
        containerd: upstream("containerd", "containers", "containerd")?,
        etcd: upstream("etcd-server", "etcd", "etcd")?,
        pause_image: PAUSE_IMAGE.to_owned(),
        images,
    })
}

/// The upstream part of a Debian version, without epoch, revision, and what the packager appended:
/// `1:1.6.20~ds1-1+deb12u1` is `1.6.20`.
fn upstream_version(version: &str) -> &str {
    let upstream = version.split_once(':').map_or(version, |(_, rest)| rest);
    let upstream = upstream.rsplit_once('-').map_or(upstream, |(upstream, _)| upstream);
    upstream.find(['~', '+']).map_or(upstream, |end| &upstream[..end])
}

fn initramfs(
    spec: &RootSpec,
    kernel: &Kernel,
    firstboot: &Content,
    firmware: &mut Firmware<'_>,
) -> Result<RootTree, RootError> {
    let role = &spec.profile.role;
    let error = |source| RootError::Modules { role: role.clone(), source: Box::new(source) };
    let by: Arc<str> = "bootwright".into();
    let mut tree = RootTree::default();
    for folder in ["/dev", "/proc", "/run", "/sys", "/sysroot"] {
        tree.insert(folder, Entry::folder(&by))?;
    }
    // The kernel opens it for PID 1 before anything is mounted.
    tree.insert("/dev/console", Entry::new(Kind::Character(5, 1), 0o600, &by))?;
    tree.insert("/init", Entry::new(Kind::File(firstboot.clone()), 0o755, &by))?;
    let list = "kernel.initramfs-modules";
    let selected = kernel.select(list, &spec.profile.kernel.initramfs_modules).map_err(error)?;
    selected.lay(&mut tree).map_err(error)?;
    let laid = firmware.lay(&selected, &mut tree);
    laid.map_err(|source| RootError::Firmware { role: role.clone(), source: Box::new(source) })?;
    if tree.get("/usr/lib/firmware").is_some() {
        // First boot knows where modules are; for these files the kernel itself looks below /lib.
        tree.insert("/lib", Entry::link("usr/lib", &by))?;
    }
    // First boot reads the text files; only modprobe, which is not there, wants the binary ones.
    let is_for_modprobe = |path: &str| {
        path.starts_with("/usr/lib/modules/")
            && (path.ends_with(".bin") || path.ends_with("/modules.builtin.modinfo"))
    };
    tree.entries.retain(|path, _| !is_for_modprobe(path));
    Ok(tree)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("these types have nothing that JSON cannot express")
}

#[cfg(test)]
mod tests;
