//! What a Node object, as it is now or as a watch tells it, says about a boot of its machine.

use std::io::BufRead;

use serde_json::Value;

/// What a Node object says about a boot of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// There is no such object.
    Absent,
    /// What it says is of another boot: the API server keeps it, and the kubelet has not spoken yet.
    OtherBoot,
    /// The kubelet of this boot says that it is not.
    NotReady,
    /// The kubelet of this boot says that it is.
    Ready,
}

impl std::fmt::Display for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Readiness::Absent => "is not registered",
            Readiness::OtherBoot => "is as another boot left it: its kubelet has not reported since",
            Readiness::NotReady => "is not Ready",
            Readiness::Ready => "is Ready",
        })
    }
}

/// Reads the events of a watch, one JSON object per line, until one says that the node is Ready in the boot
/// `boot_id` or they end. Returns what the last one said; `seen` is told what each says.
pub(super) fn follow(
    events: impl BufRead,
    boot_id: &str,
    seen: &mut dyn FnMut(Readiness),
) -> Result<Readiness, String> {
    let mut last = Readiness::Absent;
    for line in events.lines() {
        let line = line.map_err(|error| error.to_string())?;
        last = match event(&line)? {
            (true, _) => Readiness::Absent,
            (false, node) => readiness(&node, boot_id),
        };
        seen(last);
        if last == Readiness::Ready {
            break;
        }
    }
    Ok(last)
}

/// An event of a watch: whether the object was deleted, and the object. An error if the server says why the stream
/// ends.
pub(super) fn event(line: &str) -> Result<(bool, Value), String> {
    let mut event: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let object = event["object"].take();
    match event["type"].as_str() {
        Some("ERROR") => Err(object["message"].as_str().unwrap_or("the watch failed").to_owned()),
        kind => Ok((kind == Some("DELETED"), object)),
    }
}

/// What a Node object says about the boot `boot_id`. The kubelet writes the conditions and the boot id of its
/// kernel in one patch, so that the one tells whose the others are.
pub fn readiness(node: &Value, boot_id: &str) -> Readiness {
    if node["status"]["nodeInfo"]["bootID"] != boot_id {
        return Readiness::OtherBoot;
    }
    if is_ready(node) { Readiness::Ready } else { Readiness::NotReady }
}

/// Whether a Node object says Ready, of whichever boot.
pub fn is_ready(node: &Value) -> bool {
    let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub const BEFORE: &str = "0c5a3a3e-91a4-4b0b-9d43-2f1d3b1f8a11";
    pub const NOW: &str = "7f3e9f0a-5a0e-4f7c-8d6b-64d3ad1c2b42";

    pub fn node(boot_id: &str, ready: &str) -> Value {
        json!({
            "kind": "Node",
            "metadata": {"name": "cp1"},
            "status": {
                "conditions": [
                    {"type": "DiskPressure", "status": "True"},
                    {"type": "Ready", "status": ready, "reason": "KubeletReady"},
                ],
                "nodeInfo": {"bootID": boot_id, "kubeletVersion": "v1.20.2"},
            },
        })
    }

    pub fn events(events: &[(&str, Value)]) -> String {
        events
            .iter()
            .map(|(kind, object)| json!({"type": kind, "object": object}).to_string() + "\n")
            .collect()
    }

    #[test]
    fn ready_is_a_condition_that_is_true() {
        assert_eq!(readiness(&node(NOW, "True"), NOW), Readiness::Ready);
        assert_eq!(readiness(&node(NOW, "False"), NOW), Readiness::NotReady);
        assert_eq!(readiness(&node(NOW, "Unknown"), NOW), Readiness::NotReady);
        // Another condition that is true does not count.
        let pressed = json!({"status": {"nodeInfo": {"bootID": NOW},
            "conditions": [{"type": "DiskPressure", "status": "True"}]}});
        assert_eq!(readiness(&pressed, NOW), Readiness::NotReady);
    }

    #[test]
    fn what_the_boot_before_said_is_not_ready() {
        assert_eq!(readiness(&node(BEFORE, "True"), NOW), Readiness::OtherBoot);
        // Registered, and the kubelet has not spoken.
        assert_eq!(readiness(&json!({"metadata": {"name": "cp1"}}), NOW), Readiness::OtherBoot);
    }

    #[test]
    fn a_watch_after_a_reboot_waits_for_the_kubelet_of_this_boot() {
        let mut seen = vec![("ADDED", node(BEFORE, "True"))];
        assert_eq!(follow(events(&seen).as_bytes(), NOW, &mut |_| {}), Ok(Readiness::OtherBoot));
        seen.push(("MODIFIED", node(NOW, "False")));
        assert_eq!(follow(events(&seen).as_bytes(), NOW, &mut |_| {}), Ok(Readiness::NotReady));
        seen.push(("MODIFIED", node(NOW, "True")));
        // Nothing after it is read: the stream would go on for as long as the node lives.
        let text = events(&seen) + "not read";
        assert_eq!(follow(text.as_bytes(), NOW, &mut |_| {}), Ok(Readiness::Ready));
    }

    #[test]
    fn a_watch_that_ends_says_what_it_saw_last() {
        assert_eq!(follow(&b""[..], NOW, &mut |_| {}), Ok(Readiness::Absent));
        let deleted = events(&[("ADDED", node(NOW, "False")), ("DELETED", node(NOW, "True"))]);
        assert_eq!(follow(deleted.as_bytes(), NOW, &mut |_| {}), Ok(Readiness::Absent));
        let status = json!({"kind": "Status", "code": 410, "message": "too old resource version"});
        let failed = events(&[("ERROR", status)]);
        assert_eq!(follow(failed.as_bytes(), NOW, &mut |_| {}), Err("too old resource version".to_owned()));
        assert!(follow(&b"<html>\n"[..], NOW, &mut |_| {}).unwrap_err().starts_with("not JSON"));
    }
}
