//! Makes a difference.

use super::device::{self, Lack};
use super::entries::{Change, Entry, Indices, Outlet};
use super::wire::{Socket, WireError};
use super::{Difference, Family, PodsError, Present};

/// What was done, and what could not be.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Devices that were made, changed or removed.
    pub devices: usize,
    /// Entries that were added or replaced.
    pub set: usize,
    /// Entries that were removed, those not counted that went with a device.
    pub removed: usize,
    /// What could not be done.
    pub failures: Vec<Failure>,
}

impl Outcome {
    /// Whether all was as it should be before.
    pub fn is_unchanged(&self) -> bool {
        self.devices + self.set + self.removed + self.failures.len() == 0
    }
}

/// One thing that could not be done; all others were tried.
#[derive(Debug, thiserror::Error)]
#[error("{what} could not be {done}")]
pub struct Failure {
    /// The entry or device.
    pub what: String,
    /// `set` or `removed`.
    pub done: &'static str,
    /// Why.
    pub source: WireError,
}

pub fn apply(socket: &mut Socket, present: &Present, difference: &Difference) -> Result<Outcome, PodsError> {
    let mut outcome = Outcome::default();
    let mut indices = present.indices.clone();
    for (family, index) in &difference.recreate {
        outcome.device(*family, "removed", device::delete(socket, *index));
        indices.remove(&Outlet::Overlay(*family));
    }
    for device in &difference.create {
        match create(socket, device, present.link.mtu) {
            Ok(index) => {
                indices.insert(Outlet::Overlay(device.family), index);
                outcome.devices += 1;
                // It is there whatever it lacks, so that entries are tried, and said to fail if they do.
                let lack = Lack::of_new(device, present.link.offload);
                if let Err(source) = device::give(socket, device.family, index, &lack) {
                    let name = device::name(device.family);
                    outcome.fail(format!("address and state of the VXLAN device {name}"), "set", source);
                }
            }
            Err(error) => outcome.device(device.family, "set", Err(error)),
        }
    }
    for (family, index, lack) in &difference.give {
        outcome.device(*family, "set", device::give(socket, *family, *index, lack));
    }
    outcome.set = batch(socket, &indices, &difference.set, &mut outcome.failures)?;
    outcome.removed = batch(socket, &indices, &difference.remove, &mut outcome.failures)?;
    for (index, address) in &difference.addresses {
        if let Err(source) = device::remove_address(socket, *index, *address) {
            outcome.fail(format!("address {address} of a VXLAN device"), "removed", source);
        }
    }
    for (family, index) in &difference.delete {
        outcome.device(*family, "removed", device::delete(socket, *index));
    }
    Ok(outcome)
}

/// Makes a device, which still lacks [`Lack::of_new`], and returns its index.
fn create(socket: &mut Socket, device: &super::Device, link_mtu: u32) -> Result<u32, WireError> {
    let name = device::name(device.family);
    device::create(socket, device, link_mtu)?;
    let shown = device::show(socket, name)?.ok_or(WireError::Malformed("a new device is not there"))?;
    Ok(shown.index)
}

/// Makes the changes, and returns how many. Those that need a device which is not there are left out: that it is
/// not there has been said.
fn batch(
    socket: &mut Socket,
    indices: &Indices,
    changes: &[Change],
    failures: &mut Vec<Failure>,
) -> Result<usize, PodsError> {
    let possible: Vec<Change> =
        changes.iter().copied().filter(|change| change.is_possible(indices)).collect();
    let mut refused = 0;
    let sent = socket.batch(
        &possible,
        |change, messages| change.write(indices, messages),
        |change, source| {
            let what = change.entry().to_string();
            match (change, source.refusal()) {
                // Somebody else was faster.
                (Change::Remove(_), Some(libc::ENOENT | libc::ESRCH)) => {}
                (Change::Remove(_), _) => failures.push(Failure { what, done: "removed", source }),
                _ => failures.push(Failure { what, done: "set", source }),
            }
            refused += 1;
        },
    );
    sent.map_err(|source| PodsError::Cut { what: kind(changes), source })?;
    Ok(possible.len() - refused)
}

/// What a batch consists of.
fn kind(changes: &[Change]) -> &'static str {
    match changes.first().map(Change::entry) {
        Some(Entry::Route { .. }) => "routes",
        _ => "neighbours, forwarding entries and routes",
    }
}

impl Outcome {
    fn device(&mut self, family: Family, done: &'static str, result: Result<(), WireError>) {
        match result {
            Ok(()) => self.devices += 1,
            Err(source) => self.fail(format!("the VXLAN device {}", device::name(family)), done, source),
        }
    }

    fn fail(&mut self, what: String, done: &'static str, source: WireError) {
        self.failures.push(Failure { what, done, source });
    }
}
