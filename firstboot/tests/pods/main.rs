//! Pods of several nodes reach each other: nodes, pods, switches and routers are network namespaces, and what is
//! programmed is compared with what `ip` and `bridge` show.
//!
//! Run as root, or by a user who may make user namespaces. A test that gets no namespace fails.

mod changes;
mod cluster;
mod foreign;
mod monitor;
mod namespace;
mod routes;
mod shown;
mod vxlan;
