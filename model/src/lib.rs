//! Types shared by the builder and by first boot.
//!
//! Pure: nothing here reads a file, a clock or the environment. The builder turns a cluster file
//! into these values, bakes them into an image, and first boot reads them back.

pub mod addons;
pub mod addresses;
pub mod agent;
pub mod baked;
pub mod bgp;
pub mod clock;
pub mod cloud;
pub mod cluster;
pub mod families;
pub mod host_address;
pub mod kubernetes;
pub mod layout;
pub mod links;
pub mod node;
pub mod parts;
pub mod placeholders;
pub mod probe;
pub mod profile;
pub mod report;
pub mod seed;
pub mod services;
pub mod state_disk;
pub mod vxlan;
pub mod workload_image;
