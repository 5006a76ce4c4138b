//! The lease that the controller manager of the boot before left.
//!
//! Each process takes part in the election under a name of its own, so that after a restart of the machine the
//! lease is another's and is waited for until it has run out: half a minute in which no pod of a new ReplicaSet is
//! made. With one control plane nobody else can hold it, and the holder is gone. The scheduler elects only among
//! several.
//! Sources: client-go, `tools/leaderelection` (a lease without a holder is taken at once; `ReleaseOnCancel` leaves one)
//! and `cmd/kube-controller-manager/app` (the holder is `<host name>_<UUID>`).

use std::time::{SystemTime, UNIX_EPOCH};

use bootwright_model::kubernetes::control_planes;
use bootwright_model::node::NodeFacts;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::{Api, ApiError};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager";

/// Takes the holder out of the lease if this node's boot before holds it and the cluster has no other control plane.
/// Returns whether it did.
pub fn release(api: &Api, facts: &NodeFacts) -> Result<bool, ApiError> {
    if control_planes(&facts.layer.file).count() != 1 {
        return Ok(false);
    }
    let lease = match api.get(LEASE) {
        // The first boot.
        Err(ApiError::Refused { status: 404, .. }) => return Ok(false),
        other => other?,
    };
    if !is_of_an_earlier_boot(&lease, &facts.name, &boot_began()) {
        return Ok(false);
    }
    // With the version that was looked at: a holder that comes in between is not put out.
    let version = &lease["metadata"]["resourceVersion"];
    let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "holderIdentity": null } });
    match api.merge(LEASE, &patch) {
        Err(ApiError::Refused { status: 404 | 409, .. }) => Ok(false),
        other => other.map(|()| true),
    }
}

/// Whether a process of this node holds the lease that ended before `boot_began`: one that lives renews it every other
/// second.
fn is_of_an_earlier_boot(lease: &Value, node: &str, boot_began: &str) -> bool {
    let holder = lease["spec"]["holderIdentity"].as_str().and_then(|holder| holder.rsplit_once('_'));
    let renewed = lease["spec"]["renewTime"].as_str();
    holder.is_some_and(|(host, _)| host == node)
        && renewed.is_some_and(|renewed| renewed.len() == boot_began.len() && renewed < boot_began)
}

/// When the kernel started, by the clock as it goes now.
fn boot_began() -> String {
    let up = clock_gettime(ClockId::Boottime);
    let up = std::time::Duration::new(up.tv_sec.cast_unsigned(), up.tv_nsec.try_into().unwrap_or(0));
    let began = SystemTime::now().checked_sub(up).unwrap_or(UNIX_EPOCH);
    micro_time(began.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A time since the Unix epoch as Kubernetes writes it (`MicroTime`): as texts they are in the order of the times.
fn micro_time(since: std::time::Duration) -> String {
    let time = time::OffsetDateTime::UNIX_EPOCH + since;
    let (hour, minute, second, micro) = time.to_hms_micro();
    format!("{}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z", time.date())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_this_node_held_before_it_was_started_is_released() {
        let boot_began = micro_time(Duration::from_micros(1_764_087_600_000_001));
        assert_eq!(boot_began, "2025-11-25T16:20:00.000001Z");
        let lease = |holder: Value, renewed: &str| {
            let spec = json!({ "holderIdentity": holder, "renewTime": renewed });
            json!({ "spec": spec })
        };
        let earlier = |holder: &str, renewed: &str| {
            is_of_an_earlier_boot(&lease(holder.into(), renewed), "cp1", &boot_began)
        };
        let (before, after) = ("2025-11-25T16:20:00.000000Z", "2025-11-25T16:20:00.000002Z");
        assert!(earlier("cp1_6b1cb3f1-0d0e-4b6a-8f4f-2f1e3b1f8a11", before));
        assert!(!earlier("cp1_6b1cb3f1-0d0e-4b6a-8f4f-2f1e3b1f8a11", after), "it lives");
        assert!(!earlier("cp10_6b1cb3f1-0d0e-4b6a-8f4f-2f1e3b1f8a11", before));
        assert!(!earlier("somebody", before));
        assert!(
            !earlier("cp1_6b1cb3f1-0d0e-4b6a-8f4f-2f1e3b1f8a11", "2025"),
            "not a time that can be compared"
        );
        assert!(!is_of_an_earlier_boot(&lease(Value::Null, before), "cp1", &boot_began));
        assert!(!is_of_an_earlier_boot(&Value::Null, "cp1", &boot_began));
    }

    #[test]
    fn the_start_of_this_boot_is_past() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(boot_began() < micro_time(now));
    }
}
