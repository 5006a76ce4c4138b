//! Decides on the certificates that kubelets ask for, on every control plane. The controller manager signs what is
//! approved.
//!
//! **Serving certificates** (`kubernetes.io/kubelet-serving`) have no approver in Kubernetes.
//!
//! **Client certificates of machines that join** (`kubernetes.io/kube-apiserver-client-kubelet`, asked for with the
//! bootstrap token) have one, which approves for whoever may create `certificatesigningrequests/nodeclient`. It
//! looks at no name: every holder of the token may become every node, a control plane or one that is alive. So
//! first boot grants that right to nobody, and the name is checked here. **Renewals** by a kubelet that has a
//! certificate stay with Kubernetes' approver (`selfnodeclient`): it checks that the name asked for is the
//! caller's, which is all there is to check.
//!
//! What can never be right is denied, with the reason in the request (`kubectl describe csr`). What may become
//! right, or is for a person to decide, is left, said in a line and looked at again. [`request`] reads a request,
//! [`rules`] decide without I/O, and this file watches and answers. All control planes do so at once; the
//! version of the object makes the first answer count.

pub mod request;
pub mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::api::objects::{CertificateSigningRequest, Node};
use crate::api::{Change, watch};
use request::Request;
use rules::{Inventory, Verdict};

/// Between looks at a request that waits for something, such as its Node: first and largest, doubling in between.
const AGAIN: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];
/// For one call to the API server.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Undecided requests that are kept in mind. Kubernetes deletes them after a day.
const MOST_PENDING: usize = 2000;
/// Bytes of `spec.request` that are kept: a kubelet's has some 700, and the API server takes more than a million.
const MOST_REQUEST: usize = 16 * 1024;
/// Characters of a message: parts of it are a stranger's words.
const MOST_MESSAGE: usize = 1024;

/// A request that is not decided yet.
#[derive(Debug, Clone)]
struct Pending {
    object: Arc<CertificateSigningRequest>,
    /// What was said of it last.
    said: String,
    /// When it is looked at next, and how long after that again.
    due: Instant,
    pause: Duration,
}

/// Requests by name; a node that asks again and again has several.
type Table = Arc<Mutex<BTreeMap<String, Pending>>>;

/// Approves for ever.
pub async fn run(client: Client, inventory: Inventory) {
    let (table, news) = (Table::default(), Arc::new(Notify::new()));
    let follow = follow(client.clone(), Arc::clone(&table), Arc::clone(&news));
    let answer = async {
        loop {
            // Also without news: a Node may have turned up meanwhile.
            let _ = timeout(AGAIN[0], news.notified()).await;
            look_at_due(&client, &inventory, &table).await;
        }
    };
    tokio::join!(follow, answer);
}

async fn follow(client: Client, table: Table, news: Arc<Notify>) {
    watch("certificate requests", Api::all(client), None, trimmed, |change| {
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::All(all) => {
                let mut before = std::mem::take(&mut *table);
                for object in all {
                    let known = before.remove(&name(&object));
                    set(&mut table, object, known);
                }
            }
            Change::Set(object) => {
                let known = table.remove(&name(&object));
                set(&mut table, object, known);
            }
            Change::Gone(object) => drop(table.remove(&name(&object))),
        }
        news.notify_one();
    })
    .await;
}

/// Without a text that is longer than any kubelet's, which then is denied like any other that is no request; and
/// without the text of one that is not to be decided.
fn trimmed(mut object: CertificateSigningRequest) -> CertificateSigningRequest {
    if object.spec.request.len() > MOST_REQUEST || !is_open(&object) {
        object.spec.request = String::new();
    }
    object
}

fn is_open(object: &CertificateSigningRequest) -> bool {
    object.status.conditions.is_empty() && rules::is_ours(&object.spec)
}

/// Notes a request that is to be decided; `known` is what was noted of it before. If there are too many, the one goes
/// that has waited longest without getting right: whoever asks again and again keeps no new one from being seen.
fn set(table: &mut BTreeMap<String, Pending>, object: CertificateSigningRequest, known: Option<Pending>) {
    if !is_open(&object) {
        return;
    }
    if table.len() >= MOST_PENDING {
        let longest = table.iter().max_by_key(|(_, pending)| pending.pause).map(|(name, _)| name.clone());
        longest.map(|name| table.remove(&name));
    }
    // One that is only listed anew has waited as long as before.
    let same = known
        .as_ref()
        .filter(|known| known.object.metadata.resource_version == object.metadata.resource_version);
    let pause = same.map_or(AGAIN[0], |known| known.pause);
    let (said, due) = (known.map(|known| known.said).unwrap_or_default(), Instant::now());
    table.insert(name(&object), Pending { object: Arc::new(object), said, due, pause });
}

fn name(object: &CertificateSigningRequest) -> String {
    object.metadata.name.clone().unwrap_or_default()
}

async fn look_at_due(client: &Client, inventory: &Inventory, table: &Table) {
    let now = Instant::now();
    let all: Vec<Pending> = {
        let table = table.lock().unwrap_or_else(PoisonError::into_inner);
        table.values().filter(|pending| pending.due <= now).cloned().collect()
    };
    for pending in all {
        let (line, silent) = match decide(client, inventory, &pending.object).await {
            Ok(line) => (line, false),
            Err(error @ ApproverError::Api(kube::Error::Api(_))) => {
                (plain(&format!("undecided, trying again: {}", crate::chain(&error))), false)
            }
            // Nobody answers, which the watch has said.
            Err(_) => (pending.said.clone(), true),
        };
        let name = name(&pending.object);
        if line != pending.said {
            eprintln!("approver: {name} of {}: {line}", plain(&pending.object.spec.username));
        }
        // Decided ones leave with the watch's next event; one that vanished is not brought back.
        if let Some(known) = table.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&name) {
            known.said = line;
            known.due = Instant::now() + known.pause;
            known.pause = (known.pause * 2).min(AGAIN[1]);
        }
        // To ask for the others too would take the whole timeout for each, and what comes in meanwhile would wait.
        if silent {
            return;
        }
    }
}

/// A text as one line of bounded length: names and subjects are whatever the one who asks has put there.
fn plain(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MOST_MESSAGE).collect()
}

/// Why there is no answer to a request.
#[derive(Debug, thiserror::Error)]
enum ApproverError {
    #[error("the API server does not answer within {CALL_TIMEOUT:?}")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// Answers one request, and says what was answered.
async fn decide(
    client: &Client,
    inventory: &Inventory,
    object: &CertificateSigningRequest,
) -> Result<String, ApproverError> {
    let verdict = match Request::read(&object.spec) {
        Ok(request) => {
            let nodes: Api<Node> = Api::all(client.clone());
            // The one Node that matters, as it is now.
            let node = timeout(CALL_TIMEOUT, nodes.get_opt(&request.node)).await??;
            rules::judge(&request, inventory, node.as_ref())
        }
        Err(why) => Verdict::Deny(why.to_string()),
    };
    let (kind, reason, message) = match &verdict {
        Verdict::Approve(message) => ("Approved", "BootwrightApprove", message),
        Verdict::Deny(message) => ("Denied", "BootwrightDeny", message),
        Verdict::Leave(message) => return Ok(format!("left: {}", plain(message))),
    };
    let message = plain(message);
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let patch = Patch::Merge(answer(object, kind, reason, &message));
    let name = name(object);
    let parameters = PatchParams::default();
    let call = requests.patch_subresource("approval", &name, &parameters, &patch);
    match timeout(CALL_TIMEOUT, call).await? {
        Ok(_) => Ok(format!("{}: {message}", kind.to_lowercase())),
        // Another control plane was first, or it is gone.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
            Ok("answered by another".to_owned())
        }
        Err(error) => Err(error.into()),
    }
}

/// The change that the answer is; it counts for this version of the request only.
fn answer(object: &CertificateSigningRequest, kind: &str, reason: &str, message: &str) -> Value {
    json!({
        "metadata": { "resourceVersion": object.metadata.resource_version },
        "status": { "conditions": [{
            "type": kind, "status": "True", "reason": reason, "message": message,
        }] },
    })
}
