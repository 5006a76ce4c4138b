//! First boot: from the initramfs to running services.
//!
//! The modules read in boot order: [`stages`] drives; [`storage`], [`identity`], [`network`],
//! [`certificates`] and [`services`] do the work; [`report`] tells the person at the console.

pub mod bootstrap;
pub mod certificates;
pub mod files;
pub mod identity;
pub mod kmsg;
pub mod network;
pub mod randomness;
pub mod report;
pub mod services;
pub mod stages;
pub mod storage;
