//! A root tree as a value: packages, overlays, modules, binaries, workload images.

pub mod tree;
