//! A lease with its time.

use bootwright_model::layout;
use serde::{Deserialize, Serialize};

use super::lease::Lease;
use crate::network::lending::kept::Holding;
use crate::network::lending::times::{self, FOR_EVER, Phase, Times};
use crate::network::resolvers;

/// A lease, and since when. Times are in milliseconds since the kernel's start: the clock may be set meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Held {
    /// When it was asked for: the time counts from then (RFC 2131, section 4.4.1).
    pub since_ms: u64,
    /// What the server said, without what the link's description leaves out.
    pub lease: Lease,
}

impl Holding for Held {
    const OWN: &'static str = layout::LEASE;
    const FURTHER: &'static str = layout::LEASES;

    fn resolvers(number: usize) -> String {
        resolvers::of_lease(number)
    }
}

impl Held {
    /// What is to be done about it, at a time.
    pub fn phase(&self, now_ms: u64) -> Phase {
        let Lease { renewal_seconds, rebinding_seconds, seconds, .. } = self.lease;
        // There is nothing to renew.
        let renewal_seconds = if seconds == FOR_EVER { FOR_EVER } else { renewal_seconds };
        Times { since_ms: self.since_ms, renewal_seconds, rebinding_seconds, seconds }.phase(now_ms)
    }

    /// Seconds that are left of it, or [`FOR_EVER`].
    pub fn seconds_left(&self, now_ms: u64) -> u32 {
        times::left(self.lease.seconds, self.since_ms, now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lease::tests::lease;
    use super::*;

    #[test]
    fn one_for_ever_is_not_renewed() {
        let held = Held { since_ms: 5_000, lease: lease() };
        assert_eq!((held.phase(65_000), held.seconds_left(5_000)), (Phase::Renew(110_000), 120));
        let endless = Held { lease: Lease { seconds: FOR_EVER, ..lease() }, ..held };
        assert_eq!((endless.phase(u64::MAX / 2), endless.seconds_left(1)), (Phase::Rest(None), FOR_EVER));
    }
}
