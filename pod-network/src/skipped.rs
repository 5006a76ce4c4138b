//! Peers that pods of this node do not reach, and why.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Family;

/// A peer, or one of its ranges, that was left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.told())]
pub struct Skipped {
    /// Its node name.
    pub peer: String,
    /// The range; none if it is the whole peer.
    pub pod_cidr: Option<IpNet>,
    /// Why.
    pub why: Why,
}

/// Why a peer was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It has none, or none yet.
    NoPodCidr,
    /// It is no part of the cluster's pods.
    OutsideCluster {
        /// What is.
        whole: IpNet,
    },
    /// The peer has pods of a family and no address of it.
    NoAddress(Family),
    /// This node has no address, or no pods, of the range's family.
    NotOurFamily(Family),
    /// No address that a node can have.
    UnusableAddress(IpAddr),
    /// Another node has this name.
    NameTaken,
    /// Another node has its address.
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// The other node.
        by: String,
    },
    /// Another node has pods there.
    AddressInRange {
        /// The address.
        address: IpAddr,
        /// The other node's range.
        range: IpNet,
        /// The other node.
        by: String,
    },
    /// The MAC addresses that follow from two names are the same.
    MacTaken {
        /// The other node.
        by: String,
    },
    /// Another node's range shares addresses with it.
    RangeTaken {
        /// The other range.
        range: IpNet,
        /// The other node.
        by: String,
    },
    /// A node's own address lies in the range: the route would lead the way to itself.
    CoversNode(IpAddr),
    /// It is not on this node's link.
    BehindGateway {
        /// The network of this node's link.
        network: IpNet,
    },
}

impl Skipped {
    fn told(&self) -> String {
        let mut text = format!("pods of node {} are not reached", self.peer);
        if let Some(range) = self.pod_cidr {
            text = format!("pods of node {} in {range} are not reached", self.peer);
        }
        format!("{text}: {}", self.why)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::NoPodCidr => f.write_str("it has no pod CIDR"),
            Why::OutsideCluster { whole } => write!(f, "the cluster's pods are in {whole}"),
            Why::NoAddress(family) => write!(f, "it has no {family} address"),
            Why::NotOurFamily(family) => {
                write!(f, "this node has no {family} address and {family} pod CIDR")
            }
            Why::UnusableAddress(address) => write!(f, "{address} is no address of a machine"),
            Why::NameTaken => f.write_str("another node has this name"),
            Why::AddressTaken { address, by } => write!(f, "its address {address} is that of node {by}"),
            Why::AddressInRange { address, range, by } => {
                write!(f, "its address {address} lies in {range}, where pods of node {by} are")
            }
            Why::MacTaken { by } => {
                write!(f, "the MAC address of its VXLAN device, made from its name, is that of node {by}")
            }
            Why::RangeTaken { range, by } => write!(f, "the range overlaps {range} of node {by}"),
            Why::CoversNode(address) => write!(f, "the address {address} of a node lies in it"),
            Why::BehindGateway { network } => {
                write!(f, "it is not in {network}, the network of this node's link, as mode \"routes\" needs")
            }
        }
    }
}
