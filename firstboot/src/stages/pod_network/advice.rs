//! What to do about a pod network that is not whole.

use pod_network::{Failure, PodsError, Skipped, Why};

use crate::stages::Advice;

impl Advice for PodsError {
    fn advice(&self) -> String {
        match self {
            PodsError::Open(_) | PodsError::Show { .. } => {
                "the kernel must be 4.20 or later, with IPv6 built in"
            }
            PodsError::NoLink { .. } => "see what stage network says about the node's link",
            PodsError::NameTaken { .. } => "remove that link, or give it another name",
            PodsError::Cut { .. } => "restart the node",
        }
        .to_owned()
    }
}

impl Advice for Failure {
    fn advice(&self) -> String {
        match self.source.refusal() {
            Some(libc::EEXIST) => "find out with `ip route` which program put it there",
            Some(libc::EOPNOTSUPP) => "name the module vxlan in the profile's kernel.modules and build again",
            _ => "compare addresses and pod CIDRs of the nodes in the cluster file, and restart the node",
        }
        .to_owned()
    }
}

impl Advice for Skipped {
    fn advice(&self) -> String {
        match self.why {
            Why::NoPodCidr => "nothing, if it gets one later; else give the node a pod-cidr",
            Why::NoAddress(_) | Why::NotOurFamily(_) => {
                "give all nodes an address and a pod CIDR of the same families"
            }
            Why::UnusableAddress(_) | Why::AddressTaken { .. } | Why::AddressInRange { .. } => {
                "correct the node's address"
            }
            Why::NameTaken | Why::MacTaken { .. } => "rename one of the two nodes",
            Why::OutsideCluster { .. } | Why::RangeTaken { .. } | Why::CoversNode(_) => {
                "correct the node's pod-cidr"
            }
            Why::BehindGateway { .. } => {
                "set fallback = \"vxlan\" in [network] of the cluster file, or put the nodes onto one link"
            }
        }
        .to_owned()
    }
}
