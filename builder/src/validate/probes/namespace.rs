//! A namespace that goes with its guard.

use bootwright_model::probe::NODE_PORT;
use serde_json::json;

use super::{POD_PORT, Place, Probe};
use crate::validate::client::{Client, Refusal};

/// Where namespaces are.
const NAMESPACES: &str = "/api/v1/namespaces";

/// A namespace of this validation, removed at the latest when this is dropped.
pub struct Namespace<'a> {
    client: &'a Client,
    name: String,
    token: String,
    removed: bool,
}

impl<'a> Namespace<'a> {
    /// A name that no other validation has. Nothing is made yet: the guard is there first, so that a namespace whose
    /// making was not answered is removed too.
    pub fn new(client: &'a Client) -> Namespace<'a> {
        let name = format!("bootwright-validate-{:08x}", rand::random::<u32>());
        let token = format!("{:032x}", rand::random::<u128>());
        Namespace { client, name, token, removed: false }
    }

    /// What its probes do checks for.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes it.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn create(&self) -> Result<(), Refusal> {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": self.name, "labels": {
                "app.kubernetes.io/managed-by": "bootwright",
                // Probes in a node's network are refused where the default is a stricter standard.
                "pod-security.kubernetes.io/enforce": "privileged",
            } },
        });
        self.client.post(NAMESPACES, &namespace).map(|_| ())
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
        match self.client.delete(&format!("{NAMESPACES}/{}", self.name)) {
            Ok(()) | Err(Refusal { status: Some(404), .. }) => Ok(()),
            Err(refusal) => Err(refusal.why),
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
