//! A root tree as a value: packages, overlays, modules, binaries, workload images.

pub mod check;
pub mod compose;
pub mod content;
pub mod entry;
pub mod firmware;
pub mod globs;
pub mod modules;
pub mod oci;
pub mod overlays;
pub mod packages;
pub mod paths;
pub mod setup;
pub mod tar;
pub mod tree;

pub use compose::{Composed, RootError, RootSpec, build, digest};
pub use firmware::FirmwareFacts;
pub use oci::ImageSpec;
pub use packages::Package;
