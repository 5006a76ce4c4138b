//! The probes' pods and their Service.

use bootwright_model::probe::{HOST_PORT, NODE_PORT, PROBE_IMAGE, TOKEN_VARIABLE};
use serde_json::{Value, json};

use super::{POD_PORT, Place, SERVICE_PORT};

/// Name of the Service.
pub const SERVICE: &str = "probe";
/// Label that tells the places apart.
const LABEL: &str = "bootwright-probe";
/// Longer than any validation takes.
const FORGOTTEN_SECONDS: u32 = 6 * 3600;
/// Nobody's number: the probe needs no right.
const USER: u32 = 65_534;

/// A pod for one node. It is held there by its affinity, so that the scheduler has to place it as it places others'
/// pods, and tolerates whatever keeps others away. It does checks for who knows the token.
pub fn pod(name: &str, node: &str, place: Place, token: &str) -> Value {
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
            // One that was forgotten ends by itself, and frees its ports for the next.
            "activeDeadlineSeconds": FORGOTTEN_SECONDS,
            // It has nothing to finish, and as the first process of its container it hears no SIGTERM.
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "probe",
                "image": PROBE_IMAGE,
                // It is in every image, and in no registry.
                "imagePullPolicy": "Never",
                "args": [listen],
                "env": [{ "name": TOKEN_VARIABLE, "value": token }],
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
        "metadata": { "name": SERVICE },
        "spec": {
            "selector": { LABEL: Place::Pod.label() },
            "ports": [{ "port": SERVICE_PORT, "targetPort": POD_PORT }],
            // Of every family that the cluster has; an API server that knows of one only drops it.
            "ipFamilyPolicy": "PreferDualStack",
        },
    })
}
