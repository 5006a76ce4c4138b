//! Composes bootable Kubernetes node images from one cluster file.
//!
//! The modules read in the order that the data flows: [`cluster`] file, [`plan`], [`sources`],
//! [`rootfs`], [`pki`], [`image`], [`formats`]; [`compose`] drives them, [`lab`] boots what came out. All write
//! [`files`] that are whole or not there.

pub mod cli;
pub mod cluster;
pub mod compose;
pub mod digests;
pub mod files;
pub mod formats;
pub mod image;
pub mod lab;
pub mod pki;
pub mod plan;
pub mod progress;
pub mod rootfs;
pub mod routes;
pub mod sources;
pub mod validate;
