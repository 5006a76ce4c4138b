//! The probes' pods and their Service.

use bootwright_model::probe::PROBE_IMAGE;
use serde_json::{Value, json};

use super::{HOST_PORT, NODE_PORT, POD_PORT, Place, SERVICE_PORT};

/// Label that tells the places apart.
const LABEL: &str = "bootwright-probe";
/// Nobody's number: the probe needs no right.
const USER: u32 = 65_534;

/// A pod for one node. It is held there by its affinity, so that the scheduler has to place it as it places others'
/// pods, and tolerates whatever keeps others away.
pub fn pod(name: &str, node: &str, place: Place) -> Value {
    let port = match place {
        Place::Pod => json!({ "containerPort": POD_PORT, "hostPort": HOST_PORT }),
        Place::Node => json!({ "containerPort": NODE_PORT, "hostPort": NODE_PORT }),
    };
    let port_number = &port["containerPort"];
    let listen = format!("[::]:{port_number}");
    let here = json!({ "key": "metadata.name", "operator": "In", "values": [node] });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { LABEL: place.label() } },
        "spec": {
            "hostNetwork": place == Place::Node,
            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchFields": [here] }],
            } } },
            "tolerations": [{ "operator": "Exists" }],
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "restartPolicy": "Always",
            // It has nothing to finish, and as the first process of its container it hears no SIGTERM.
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "probe",
                "image": PROBE_IMAGE,
                // It is in every image, and in no registry.
                "imagePullPolicy": "Never",
                "args": [listen],
                "ports": [port],
                "readinessProbe": { "httpGet": { "path": "/", "port": port_number }, "periodSeconds": 2,
                                    "timeoutSeconds": 5 },
                "securityContext": {
                    "runAsUser": USER, "runAsNonRoot": true, "readOnlyRootFilesystem": true,
                    "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
                },
            }],
        },
    })
}

/// Of all the probes in pods.
pub fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "probe" },
        "spec": {
            "selector": { LABEL: Place::Pod.label() },
            "ports": [{ "port": SERVICE_PORT, "targetPort": POD_PORT }],
        },
    })
}
