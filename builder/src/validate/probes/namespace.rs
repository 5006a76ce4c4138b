//! A namespace that goes with its guard.

use std::time::{Duration, Instant};

use bootwright_model::probe::NODE_PORT;
use serde_json::json;

use super::{POD_PORT, Place, Probe};
use crate::validate::client::{Client, Refusal};
use crate::validate::{BRIEFLY, ValidateError, patiently};

/// Where namespaces are.
const NAMESPACES: &str = "/api/v1/namespaces";

/// A namespace of this validation, removed at the latest when this is dropped.
pub struct Namespace<'a> {
    client: &'a Client,
    name: String,
    token: String,
    settled: Duration,
    removed: bool,
}

impl<'a> Namespace<'a> {
    /// A name that no other validation has. Nothing is made yet: the guard is there first, so that a namespace whose
    /// making was not answered is removed too. `settled` is how long the API server may be away when it is made or removed.
    pub fn new(client: &'a Client, settled: Duration) -> Namespace<'a> {
        let name = format!("bootwright-validate-{:08x}", rand::random::<u32>());
        let token = format!("{:032x}", rand::random::<u128>());
        Namespace { client, name, token, settled, removed: false }
    }

    /// What its probes do checks for.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes it. One that is there already is ours, made by a request whose answer was lost.
    ///
    /// # Errors
    /// Ctrl-C. Inside: the API server refuses, or does not answer.
    pub fn create(&mut self) -> Result<Result<(), Refusal>, ValidateError> {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": self.name, "labels": {
                "app.kubernetes.io/managed-by": "bootwright",
                // Probes in a node's network are refused where the default is a stricter standard.
                "pod-security.kubernetes.io/enforce": "privileged",
            } },
        });
        let deadline = Instant::now() + self.settled;
        let made = patiently(deadline, || match self.client.post(NAMESPACES, &namespace) {
            Ok(_) | Err(Refusal { status: Some(409), .. }) => Ok(()),
            Err(refusal) => Err(refusal),
        })?;
        // There is nothing to remove where it was refused for good.
        self.removed = made.as_ref().is_err_and(|refusal| !refusal.passes());
        Ok(made)
    }

    /// Path of a kind of objects in it.
    pub fn path(&self, kind: &str) -> String {
        format!("{NAMESPACES}/{}/{kind}", self.name)
    }

    /// Path of a probe's `path`, by way of the API server.
    pub fn proxy(&self, probe: &Probe, path: &str) -> String {
        let port = match probe.place {
            Place::Pod => POD_PORT,
            Place::Node => NODE_PORT,
        };
        self.path(&format!("pods/{}:{port}/proxy{path}", probe.pod))
    }

    /// Removes it with all that is in it; the cluster takes a moment over it that nobody need wait for.
    ///
    /// # Errors
    /// The API server refuses, in words.
    pub fn remove(mut self) -> Result<(), String> {
        self.delete()
    }

    fn delete(&mut self) -> Result<(), String> {
        if std::mem::replace(&mut self.removed, true) {
            return Ok(());
        }
        let path = format!("{NAMESPACES}/{}", self.name);
        let deadline = Instant::now() + self.settled;
        loop {
            match self.client.delete(&path) {
                Ok(()) | Err(Refusal { status: Some(404), .. }) => return Ok(()),
                // Also after Ctrl-C: the second one ends this too.
                Err(refusal) if refusal.passes() && Instant::now() < deadline => {
                    std::thread::sleep(BRIEFLY.min(deadline.saturating_duration_since(Instant::now())));
                }
                Err(refusal) => return Err(refusal.why),
            }
        }
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if let Err(why) = self.delete() {
            eprintln!(
                "warning: namespace {} is left ({why}); `kubectl delete namespace {0}` removes it",
                self.name
            );
        }
    }
}
