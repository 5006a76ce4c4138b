//! How long an address is held, and what is to be done about it when.

/// A time of a lease that does not end, seconds: all bits of the field are set (RFC 2131, section 3.3; RFC 8415, section 7.7).
pub const FOR_EVER: u32 = u32::MAX;

/// The times of a lease, seconds, or [`FOR_EVER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When it was asked for: they count from then (RFC 2131, section 4.4.1). Milliseconds since the kernel's start: the
    /// clock may be set meanwhile.
    pub since_ms: u64,
    /// T1.
    pub renewal_seconds: u32,
    /// T2.
    pub rebinding_seconds: u32,
    /// Its end.
    pub seconds: u32,
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

impl Times {
    /// At a time.
    pub fn phase(&self, now_ms: u64) -> Phase {
        let at = |seconds: u32| self.since_ms + u64::from(seconds) * 1000;
        if self.seconds == FOR_EVER && self.renewal_seconds == FOR_EVER {
            Phase::Rest(None)
        } else if now_ms < at(self.renewal_seconds) {
            Phase::Rest(Some(at(self.renewal_seconds)))
        } else if now_ms < at(self.rebinding_seconds) {
            Phase::Renew(at(self.rebinding_seconds))
        } else if now_ms < at(self.seconds) {
            Phase::Rebind(at(self.seconds))
        } else {
            Phase::Ended
        }
    }
}

/// What is left of a time that counts from `since_ms`, seconds, or [`FOR_EVER`].
pub fn left(seconds: u32, since_ms: u64, now_ms: u64) -> u32 {
    if seconds == FOR_EVER {
        return FOR_EVER;
    }
    let end = since_ms + u64::from(seconds) * 1000;
    u32::try_from(end.saturating_sub(now_ms) / 1000).unwrap_or(FOR_EVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_has_its_phases() {
        let times = Times { since_ms: 5_000, renewal_seconds: 60, rebinding_seconds: 105, seconds: 120 };
        let phases = [5_000, 64_999, 65_000, 109_999, 110_000, 124_999, 125_000].map(|now| times.phase(now));
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
        let endless = Times { renewal_seconds: FOR_EVER, seconds: FOR_EVER, ..times };
        assert_eq!(endless.phase(u64::MAX / 2), Phase::Rest(None));
        // It may be lent for ever, and asked for again all the same.
        let renewed = Times { seconds: FOR_EVER, ..times };
        assert_eq!(renewed.phase(65_000), Phase::Renew(110_000));
    }

    #[test]
    fn what_is_left_ends_at_nothing() {
        assert_eq!([5_000, 124_500, 200_000].map(|now| left(120, 5_000, now)), [120, 0, 0]);
        assert_eq!(left(FOR_EVER, 5_000, 9_000), FOR_EVER);
    }
}
