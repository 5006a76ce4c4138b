//! Metadata services of clouds: servers on the network that know the machine which asks. One folder for each cloud.
//!
//! The firmware says which cloud the machine is in, so that no address is tried to find out. The machine has no address
//! of its own yet: [`fetch`](super::fetch) borrows one for as long as the service is asked.

mod alibaba;
mod aws;
mod azure;
mod cloudstack;
mod digitalocean;
mod google;
mod hetzner;
mod openstack;
mod oracle;
mod scaleway;
mod vultr;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::fetch::way::{self, WayError};
use super::fetch::{AskError, FetchError, Port, Service};
use super::machine::Machine;
use super::source::{Source, SourceError};
use super::{Claim, Told, document};
use crate::network::dhcp::lease::Lease;
use crate::stages::Advice;

/// Where nearly all clouds have their service: a link-local address, port of HTTP.
const USUAL_SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80);

/// For everything that is asked of a service, the borrowed address included: the boot goes on without.
const PATIENCE: Duration = Duration::from_secs(15);

/// Of these for a lease: clouds have no spanning tree.
const LEASE_PATIENCE: Duration = Duration::from_secs(10);

/// For the report that the machine has started.
const REPORT_PATIENCE: Duration = Duration::from_secs(5);

/// A cloud with a metadata service.
pub trait Cloud: Sync {
    /// As it calls itself.
    fn name(&self) -> &'static str;

    /// Whether the firmware of the machine is that of this cloud.
    fn is_it(&self, machine: &Machine) -> bool;

    /// Where its service listens, for a machine that its DHCP server has lent this.
    fn service(&self, _: &Lease) -> SocketAddrV4 {
        USUAL_SERVICE
    }

    /// From which port it wants to be asked.
    fn port(&self) -> Port {
        Port::Any
    }

    /// What the service says of this machine.
    fn ask(&self, service: &Service) -> Result<Told, AskError>;

    /// Tells the cloud that the machine has its network, if it wants to know, by `end`.
    fn report_ready(&self, _end: Instant) -> Result<(), FetchError> {
        Ok(())
    }
}

/// All of them; at most one is that of a machine.
const CLOUDS: [&dyn Cloud; 11] = [
    &aws::Aws,
    &google::Google,
    &azure::Azure,
    &hetzner::Hetzner,
    &digitalocean::DigitalOcean,
    &vultr::Vultr,
    &scaleway::Scaleway,
    &oracle::Oracle,
    &alibaba::Alibaba,
    &openstack::OpenStack,
    &cloudstack::CloudStack,
];

/// What most clouds say of a machine.
#[derive(Debug, Default)]
struct Facts {
    /// User data as it was handed over, and its address.
    user_data: Option<(Vec<u8>, String)>,
    /// The node's name, where somebody meant that by it.
    name: Option<String>,
    /// What the machine is called.
    host_name: Option<String>,
    /// `spec.providerID` as the cloud's controller manager has it.
    provider_id: Option<String>,
}

impl Facts {
    /// The node.toml comes first, as it was written for this.
    fn understood(self) -> Result<Told, SourceError> {
        let mut told = Told::default();
        if let Some((bytes, url)) = &self.user_data {
            let next =
                "correct the node.toml that is the machine's user data, and restart or rebuild the machine";
            told = document::user_data(bytes, &format!("user data ({url})"), next)?;
        }
        let host_name = || self.host_name.as_deref().and_then(document::first_label);
        told.host_name = told.host_name.or_else(host_name);
        told.says.name = told.says.name.or(self.name);
        told.says.provider_id = told.says.provider_id.or(self.provider_id);
        Ok(told)
    }
}

/// The metadata service of the cloud that the machine is in.
pub struct Metadata;

impl Source for Metadata {
    fn name(&self) -> &'static str {
        "the cloud's metadata service"
    }

    fn evidence(&self, machine: &Machine) -> bool {
        cloud_of(machine).is_some()
    }

    fn read(&self, machine: &Machine) -> Vec<Result<Claim, SourceError>> {
        cloud_of(machine).map(|cloud| read(cloud, machine)).into_iter().collect()
    }
}

/// The cloud was not told that the machine has started.
#[derive(Debug, thiserror::Error)]
#[error("{cloud} was not told that this machine has started")]
pub struct NotReported {
    cloud: &'static str,
    source: FetchError,
}

impl Advice for NotReported {
    fn advice(&self) -> String {
        "restart the machine before the cloud gives its deployment up".to_owned()
    }
}

/// Tells the cloud that the machine has its network, if it is in one that wants to know.
pub fn report_ready(machine: &Machine) -> Result<(), NotReported> {
    let Some(cloud) = cloud_of(machine) else { return Ok(()) };
    cloud
        .report_ready(Instant::now() + REPORT_PATIENCE)
        .map_err(|source| NotReported { cloud: cloud.name(), source })
}

fn cloud_of(machine: &Machine) -> Option<&'static dyn Cloud> {
    CLOUDS.into_iter().find(|cloud| cloud.is_it(machine))
}

fn read(cloud: &dyn Cloud, machine: &Machine) -> Result<Claim, SourceError> {
    let name = cloud.name();
    let end = Instant::now() + PATIENCE;
    let ask = |lease: &Lease| {
        let service = Service::new(cloud.service(lease), cloud.port(), end);
        Ok(Claim::new(format!("the metadata service of {name}"), cloud.ask(&service)?))
    };
    way::through_any(&machine.root, end, LEASE_PATIENCE, ask).map_err(|error| match error {
        WayError::Ask(AskError::Source(error)) => error,
        error => SourceError::Unreadable {
            what: format!("the metadata service of {name} says nothing"),
            next: "see whether the cloud lets this machine reach its metadata service, or give the node's values in the cluster file",
            source: std::io::Error::other(error),
        },
    })
}

#[cfg(test)]
mod tests;
