//! The agent: what talks to the API on a node, beside the services and not in PID 1.
//!
//! Tasks that know nothing of one another, each in a folder: [`balancer`] stands on this node before all control
//! planes, [`peers`] keeps the pod network in step with the Nodes, [`approver`] decides on the certificates that
//! kubelets ask for, [`vip`] holds the virtual address in turn with other control planes, [`ranges`] gives pod
//! CIDRs to machines that nobody described. [`api`] is the connection that they share, [`election`] their turns, [`health`]
//! tells the supervisor.

pub mod api;
pub mod approver;
pub mod balancer;
pub mod election;
pub mod health;
pub mod peers;
pub mod ranges;
pub mod settings;
pub mod tasks;
pub mod vip;

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries put the cause's words into their own.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
