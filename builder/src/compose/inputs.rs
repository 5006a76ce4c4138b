//! What a cluster file and its profiles ask of the outside world.

use bootwright_model::cluster::ClusterFile;
use bootwright_model::profile::{KernelFlavour, Profile};
use bootwright_model::workload_image::WorkloadImage;

use crate::cluster::Loaded;
use crate::sources::{PackageSet, Request};

/// Boot loader of the UEFI path: systemd-boot and the stub that a UKI starts with.
pub const UEFI_SET: &str = "uefi";
/// Boot loader of the BIOS path: GRUB's modules.
pub const BIOS_SET: &str = "bios";

/// Package set of a role's root.
pub fn os_set(role: &str) -> String {
    format!("os/{role}")
}

/// Package set of the files that a role's drivers load into their devices.
pub fn firmware_set(role: &str) -> String {
    format!("firmware/{role}")
}

/// Package set of a composed workload image.
pub fn image_set(image: &WorkloadImage) -> String {
    format!("image/{}", image.name)
}

/// Everything a build needs from archives, mirrors and folders.
pub fn request(loaded: &Loaded) -> Request<'_> {
    let mut sets: Vec<PackageSet> =
        loaded.profiles.iter().map(|(role, profile)| os(loaded, role, profile)).collect();
    sets.extend(loaded.profiles.iter().filter_map(|(role, profile)| firmware(&loaded.file, role, profile)));
    sets.push(loader(UEFI_SET, "systemd-boot-efi"));
    sets.push(loader(BIOS_SET, "grub-pc-bin"));
    let composed = loaded.file.images.iter().filter(|image| !image.packages.is_empty());
    sets.extend(composed.map(|image| PackageSet {
        name: image_set(image),
        install: image.packages.clone(),
        exclude: Vec::new(),
        dependencies: image.dependencies,
        optional: None,
    }));
    let mut binaries: Vec<String> =
        loaded.profiles.values().flat_map(|profile| profile.binaries.iter().cloned()).collect();
    binaries.sort();
    binaries.dedup();
    Request {
        base: &loaded.file.base,
        kubernetes: &loaded.file.kubernetes,
        base_dir: &loaded.folder,
        sets,
        binaries,
        files: loaded.file.images.iter().flat_map(local_files).collect(),
    }
}

fn os(loaded: &Loaded, role: &str, profile: &Profile) -> PackageSet {
    let flavour = loaded.file.base.kernel.unwrap_or(profile.kernel.flavour);
    let mut install = profile.packages.install.clone();
    install.push(flavour.package().to_owned());
    let exclude = profile.packages.exclude.clone();
    PackageSet { name: os_set(role), install, exclude, dependencies: true, optional: None }
}

/// Those of the cluster file must be there. Those of a profile are for whoever lets the archive have them: they are not
/// free software. Opened for single files, never installed: no dependencies.
fn firmware(file: &ClusterFile, role: &str, profile: &Profile) -> Option<PackageSet> {
    let flavour = file.base.kernel.unwrap_or(profile.kernel.flavour);
    let install = file.base.firmware.as_ref().unwrap_or(&profile.kernel.firmware);
    if flavour != KernelFlavour::Full || install.is_empty() {
        return None;
    }
    let without = "cards whose drivers load a file may not work; set components = [\"main\", \"non-free-firmware\"] in \
                   [base] of the cluster file, or firmware = [] to do without";
    Some(PackageSet {
        name: firmware_set(role),
        install: install.clone(),
        exclude: Vec::new(),
        dependencies: false,
        optional: file.base.firmware.is_none().then(|| without.to_owned()),
    })
}

/// Loader packages are opened for single files, never installed: no dependencies.
fn loader(set: &str, package: &str) -> PackageSet {
    PackageSet {
        name: set.to_owned(),
        install: vec![package.to_owned()],
        exclude: Vec::new(),
        dependencies: false,
        optional: None,
    }
}

fn local_files(image: &WorkloadImage) -> impl Iterator<Item = String> {
    image.archive.iter().chain(image.files.values()).cloned()
}
