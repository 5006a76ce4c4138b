//! **clock**: a clock that shows less than the image's build time is wrong, and certificates would
//! not be valid yet.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bootwright_model::baked::ClusterLayer;
use bootwright_model::layout;
use rustix::time::{ClockId, Timespec, clock_settime};

use super::{Advice, Done};
use crate::certificates;
use crate::report::under;

/// The clock is wrong and stays so.
#[derive(Debug, thiserror::Error)]
#[error("the clock shows {now} and cannot be raised to {floor} (seconds since 1970)")]
pub struct ClockError {
    now: u64,
    floor: u64,
    source: io::Error,
}

impl Advice for ClockError {
    fn advice(&self) -> String {
        "set the machine's hardware clock in the firmware".to_owned()
    }
}

/// Raises the clock to the image's build time, or to when the authorities became valid, if it is behind.
pub fn run(root: &Path, layer: &ClusterLayer) -> Result<Done<()>, ClockError> {
    let pki = under(root, layout::RUN_CLUSTER).join(layout::CLUSTER_PKI);
    // An authority that cannot be read is the stage `certificates`' to tell.
    let authorities = certificates::clock_floor(&pki).unwrap_or(0);
    let floor = layer.epoch.max(authorities);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match missing(now, floor) {
        None => Ok(Done::new((), "not behind the image")),
        Some(behind) => {
            let time = Timespec { tv_sec: i64::try_from(floor).unwrap_or(i64::MAX), tv_nsec: 0 };
            clock_settime(ClockId::Realtime, time).map_err(|errno| ClockError {
                now,
                floor,
                source: errno.into(),
            })?;
            let days = behind.as_secs_f64() / 86_400.0;
            Ok(Done::new((), format!("raised by {days:.1} days to the build time of the image")))
        }
    }
}

fn missing(now: u64, floor: u64) -> Option<Duration> {
    floor.checked_sub(now).filter(|behind| *behind > 0).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_is_behind_is_touched() {
        assert_eq!(missing(100, 90), None);
        assert_eq!(missing(100, 100), None);
        assert_eq!(missing(0, 100), Some(Duration::from_secs(100)));
    }
}
