//! Makes the probes' pods and waits until they are ready.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::namespace::Namespace;
use super::{Place, Probe, Settings, manifests};
use crate::validate::client::{Client, Refusal};
use crate::validate::report::{Check, Finding};
use crate::validate::{ValidateError, stop_if_asked};

/// Between two looks at the pods.
const PAUSE: Duration = Duration::from_secs(1);
/// What an admission controller says until the namespace has its account.
const NO_ACCOUNT: &str = "serviceaccount";

/// A pod that is not a probe yet.
struct Awaited {
    node: String,
    control_plane: bool,
    place: Place,
    seen: String,
}

/// The probes that are ready at the deadline at the latest, and a finding for each pod.
pub fn until_ready(
    client: &Client,
    settings: &Settings,
    namespace: &Namespace,
) -> Result<(Vec<Probe>, Vec<Finding>), ValidateError> {
    let deadline = Instant::now() + settings.patience;
    let mut findings = Vec::new();
    let mut awaited = BTreeMap::new();
    for (index, node) in settings.nodes.iter().filter(|node| node.ready).enumerate() {
        for place in [Place::Pod, Place::Node] {
            stop_if_asked()?;
            let name = format!("{}-{index}", place.label());
            let (node, control_plane) = (node.name.clone(), node.control_plane);
            match create(
                client,
                namespace,
                &manifests::pod(&name, &node, place, namespace.token()),
                deadline,
            )? {
                Ok(()) => {
                    let seen = "the API server has not shown it".to_owned();
                    awaited.insert(name, Awaited { node, control_plane, place, seen });
                }
                Err(why) => findings.push(failed(&node, place, why)),
            }
        }
    }
    let mut probes = Vec::new();
    let mut unlisted = String::new();
    loop {
        stop_if_asked()?;
        // The last answer counts while there is no new one.
        match client.get(&namespace.path("pods")) {
            Ok(list) => {
                for pod in list["items"].as_array().into_iter().flatten() {
                    probes.extend(took_up(pod, &mut awaited));
                }
                unlisted.clear();
            }
            Err(refusal) => {
                unlisted = format!("; the API server does not list the pods any more: {}", refusal.why);
            }
        }
        if awaited.is_empty() || Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    let events = if awaited.is_empty() { BTreeMap::new() } else { last_events(client, namespace) };
    for (name, Awaited { node, place, seen, .. }) in awaited {
        let event = events.get(&name).map(|event| format!("; its last event is {event}")).unwrap_or_default();
        let why = format!("not ready after {} s: {seen}{event}{unlisted}", settings.patience.as_secs());
        findings.push(failed(&node, place, why));
    }
    for probe in &probes {
        let subject = format!("{} of {}", probe.place.name(), probe.node);
        findings.push(Finding::passed(Check::ProbePod, subject, ""));
    }
    probes.sort_by(|a: &Probe, b: &Probe| (&a.node, a.place).cmp(&(&b.node, b.place)));
    Ok((probes, findings))
}

fn failed(node: &str, place: Place, why: String) -> Finding {
    let advice = "without its probe nothing is tried from this node. ErrImageNeverPull: its image is of before there was a \
                  probe in it, build it again; Pending: the scheduler does not run; anything else: the kubelet's log";
    Finding::failed(Check::ProbePod, format!("{} of {node}", place.name()), why, advice)
}

/// A new namespace has no account for its pods for a moment.
fn create(
    client: &Client,
    namespace: &Namespace,
    pod: &Value,
    deadline: Instant,
) -> Result<Result<(), String>, ValidateError> {
    loop {
        stop_if_asked()?;
        match client.post(&namespace.path("pods"), pod) {
            Ok(_) => return Ok(Ok(())),
            // Made by a request whose answer was lost.
            Err(Refusal { status: Some(409), .. }) => return Ok(Ok(())),
            Err(refusal) => {
                let passes = refusal.passes() || refusal.why.contains(NO_ACCOUNT);
                if !passes || Instant::now() >= deadline {
                    return Ok(Err(refusal.why));
                }
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// A probe out of a pod that is ready; of another, what it waits for.
fn took_up(pod: &Value, awaited: &mut BTreeMap<String, Awaited>) -> Option<Probe> {
    let name = pod["metadata"]["name"].as_str()?;
    let one = awaited.get_mut(name)?;
    let addresses = addresses(pod);
    if addresses.is_empty() || condition(pod, "Ready").is_none_or(|ready| ready["status"] != "True") {
        one.seen = state(pod);
        return None;
    }
    let Awaited { node, control_plane, place, .. } = awaited.remove(name)?;
    Some(Probe { node, place, pod: name.to_owned(), addresses, control_plane, mtu: None })
}

/// The pod's addresses: `podIP`, and that of another family among `podIPs`.
fn addresses(pod: &Value) -> Vec<IpAddr> {
    let status = &pod["status"];
    let all = status["podIPs"].as_array().into_iter().flatten().map(|one| &one["ip"]);
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in std::iter::once(&status["podIP"]).chain(all) {
        if let Some(address) = address.as_str().and_then(|text| text.parse::<IpAddr>().ok())
            && addresses.iter().all(|known| known.is_ipv4() != address.is_ipv4())
        {
            addresses.push(address);
        }
    }
    addresses
}

/// What a pod says of itself, most particular first.
fn state(pod: &Value) -> String {
    let status = &pod["status"];
    let container = &status["containerStatuses"][0];
    let told = |value: &Value| {
        let reason = value["reason"].as_str()?;
        let message = value["message"].as_str().unwrap_or_default();
        Some(if message.is_empty() { reason.to_owned() } else { format!("{reason}: {message}") })
    };
    let scheduled = condition(pod, "PodScheduled").filter(|scheduled| scheduled["status"] != "True");
    told(&container["state"]["waiting"])
        .or_else(|| told(&container["state"]["terminated"]))
        .or_else(|| scheduled.and_then(told))
        .or_else(|| told(status))
        .unwrap_or_else(|| format!("its phase is {}", status["phase"].as_str().unwrap_or("unknown")))
}

/// The newest event of each pod: what its kubelet tried last. None of a cluster that does not list them.
fn last_events(client: &Client, namespace: &Namespace) -> BTreeMap<String, String> {
    let list = client.get(&namespace.path("events")).unwrap_or_default();
    let mut events: Vec<&Value> = list["items"].as_array().into_iter().flatten().collect();
    // Times of RFC 3339 in UTC are in the order of their texts.
    events.sort_by_key(|event| event["lastTimestamp"].as_str().unwrap_or_default());
    let told = |event: &Value| {
        let pod = event["involvedObject"]["name"].as_str()?;
        let (reason, message) = (event["reason"].as_str()?, event["message"].as_str().unwrap_or_default());
        Some((pod.to_owned(), format!("{reason}: {}", message.trim().replace('\n', " "))))
    };
    events.into_iter().filter_map(told).collect()
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    pod["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_a_probe_when_it_is_ready_and_says_before_what_it_waits_for() {
        let new = || Awaited {
            node: "w1".to_owned(),
            control_plane: false,
            place: Place::Pod,
            seen: String::new(),
        };
        let mut awaited = BTreeMap::from([("pod-0".to_owned(), new())]);
        let mut pod = json!({ "metadata": { "name": "pod-0" }, "status": {
            "phase": "Pending",
            "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                             "message": "0/1 nodes are available" }] } });
        let mut seen = |pod: &Value| {
            let probe = took_up(pod, &mut awaited);
            (probe.map(|probe| probe.addresses), awaited.get("pod-0").map(|one| one.seen.clone()))
        };
        assert_eq!(seen(&pod), (None, Some("Unschedulable: 0/1 nodes are available".to_owned())));
        pod["status"] = json!({ "phase": "Pending" });
        assert_eq!(seen(&pod), (None, Some("its phase is Pending".to_owned())));
        let waiting = json!({ "reason": "ErrImageNeverPull", "message": "not present" });
        pod["status"]["containerStatuses"] = json!([{ "state": { "waiting": waiting } }]);
        assert_eq!(seen(&pod), (None, Some("ErrImageNeverPull: not present".to_owned())));
        pod["status"] =
            json!({ "podIP": "10.10.1.2", "conditions": [{ "type": "Ready", "status": "True" }] });
        pod["status"]["podIPs"] = json!([{ "ip": "10.10.1.2" }, { "ip": "fd00:10:10:1::2" }]);
        assert_eq!(
            seen(&pod),
            (Some(["10.10.1.2", "fd00:10:10:1::2"].map(|ip| ip.parse().unwrap()).to_vec()), None)
        );
        pod["metadata"]["name"] = json!("of somebody else");
        assert_eq!(seen(&pod), (None, None));
    }
}
