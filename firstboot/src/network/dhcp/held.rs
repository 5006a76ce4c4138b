//! A lease with its time.

use serde::{Deserialize, Serialize};

use super::lease::{FOR_EVER, Lease};

/// A lease, and since when. Times are in milliseconds since the kernel's start: the clock may be set meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Held {
    /// When it was asked for: the time counts from then (RFC 2131, section 4.4.1).
    pub since_ms: u64,
    /// What the server said, without what the link's description leaves out.
    pub lease: Lease,
}

/// What is to be done about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// BOUND: nothing until then, or ever.
    Rest(Option<u64>),
    /// RENEWING: the server that gave it is asked, until then.
    Renew(u64),
    /// REBINDING: any server is asked, until then.
    Rebind(u64),
    /// Over.
    Ended,
}

impl Held {
    /// At a time.
    pub fn phase(&self, now_ms: u64) -> Phase {
        let at = |seconds: u32| self.since_ms + u64::from(seconds) * 1000;
        let lease = &self.lease;
        if lease.seconds == FOR_EVER {
            Phase::Rest(None)
        } else if now_ms < at(lease.renewal_seconds) {
            Phase::Rest(Some(at(lease.renewal_seconds)))
        } else if now_ms < at(lease.rebinding_seconds) {
            Phase::Renew(at(lease.rebinding_seconds))
        } else if now_ms < at(lease.seconds) {
            Phase::Rebind(at(lease.seconds))
        } else {
            Phase::Ended
        }
    }

    /// Seconds that are left of it, or [`FOR_EVER`].
    pub fn seconds_left(&self, now_ms: u64) -> u32 {
        if self.lease.seconds == FOR_EVER {
            return FOR_EVER;
        }
        let end = self.since_ms + u64::from(self.lease.seconds) * 1000;
        u32::try_from(end.saturating_sub(now_ms) / 1000).unwrap_or(FOR_EVER - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lease::tests::lease;
    use super::*;

    #[test]
    fn a_lease_has_its_phases() {
        let held = Held { since_ms: 5_000, lease: lease() };
        let phases = [5_000, 64_999, 65_000, 109_999, 110_000, 124_999, 125_000].map(|now| held.phase(now));
        assert_eq!(
            phases,
            [
                Phase::Rest(Some(65_000)),
                Phase::Rest(Some(65_000)),
                Phase::Renew(110_000),
                Phase::Renew(110_000),
                Phase::Rebind(125_000),
                Phase::Rebind(125_000),
                Phase::Ended,
            ]
        );
        assert_eq!([5_000, 124_500, 200_000].map(|now| held.seconds_left(now)), [120, 0, 0]);
        let endless = Held { lease: Lease { seconds: FOR_EVER, ..lease() }, ..held };
        assert_eq!((endless.phase(u64::MAX / 2), endless.seconds_left(1)), (Phase::Rest(None), FOR_EVER));
    }
}
