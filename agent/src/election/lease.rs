//! A Lease of the agents (coordination.k8s.io/v1), read and written through the balancer, as all that the agent asks of the
//! API.

use std::time::Duration;

use bootwright_model::agent::LEASE_NAMESPACE;
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::Record;

/// The API server does not do what is asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} the Lease {LEASE_NAMESPACE}/{name}")]
pub struct LeaseError {
    what: &'static str,
    name: &'static str,
    source: kube::Error,
}

/// The object, as it was last read or written.
pub struct Lease {
    api: Api<Object>,
    name: &'static str,
    node: String,
    /// Time that it is good for after a write.
    duration: Duration,
    known: Option<Object>,
    /// Written by us last, so that it need not be read before it is written again.
    ours: bool,
}

impl Lease {
    /// That of this name, for the node of that one; it is good for so long after each write. Nothing is asked yet.
    pub fn new(client: Client, name: &'static str, node: &str, duration: Duration) -> Lease {
        Lease {
            api: Api::namespaced(client, LEASE_NAMESPACE),
            name,
            node: node.to_owned(),
            duration,
            known: None,
            ours: false,
        }
    }

    /// Who has it; `None` if there is none yet.
    pub async fn look(&mut self) -> Result<Option<Record>, LeaseError> {
        if !self.ours {
            let read = self.api.get_opt(self.name).await;
            self.known = read.map_err(|source| self.failed("read", source))?;
        }
        Ok(self.known.as_ref().map(|object| record(object, self.duration)))
    }

    /// An annotation of the Lease as it was last read or written.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.known.as_ref()?.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Sets an annotation, which the next write takes along; takes it off if there is no value.
    pub fn set_note(&mut self, key: &str, value: Option<String>) {
        let Some(object) = &mut self.known else { return };
        let notes = object.metadata.annotations.get_or_insert_default();
        match value {
            Some(value) => drop(notes.insert(key.to_owned(), value)),
            None => drop(notes.remove(key)),
        }
    }

    /// Makes it ours, if it is still as it was when it was looked at; false if it is not.
    pub async fn write(&mut self) -> Result<bool, LeaseError> {
        let object = self.renewed();
        // Whatever comes of it, what is known is old now.
        self.ours = false;
        let parameters = PostParams::default();
        let written = match &self.known {
            Some(_) => self.api.replace(self.name, &parameters, &object).await,
            None => self.api.create(&parameters, &object).await,
        };
        match written {
            Ok(object) => {
                self.known = Some(object);
                self.ours = true;
                Ok(true)
            }
            // 409: another wrote it, or made it, meanwhile. 404: somebody deleted it.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(source) => Err(self.failed("write", source)),
        }
    }

    /// Says that nobody has it, if we have it; whether we had.
    pub async fn give_back(&mut self) -> Result<bool, LeaseError> {
        if !self.ours {
            return Ok(false);
        }
        self.ours = false;
        let Some(mut object) = self.known.take() else { return Ok(false) };
        object.spec.get_or_insert_default().holder_identity = Some(String::new());
        match self.api.replace(self.name, &PostParams::default(), &object).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(source) => Err(self.failed("give back", source)),
        }
    }

    fn failed(&self, what: &'static str, source: kube::Error) -> LeaseError {
        LeaseError { what, name: self.name, source }
    }

    fn renewed(&self) -> Object {
        let mut object = self.known.clone().unwrap_or_else(|| Object {
            metadata: ObjectMeta { name: Some(self.name.to_owned()), ..ObjectMeta::default() },
            ..Object::default()
        });
        let spec: &mut LeaseSpec = object.spec.get_or_insert_default();
        let now = Some(MicroTime(Timestamp::now()));
        if spec.holder_identity.as_deref() != Some(self.node.as_str()) {
            spec.acquire_time.clone_from(&now);
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |count| count.saturating_add(1)));
        }
        spec.holder_identity = Some(self.node.clone());
        spec.lease_duration_seconds = i32::try_from(self.duration.as_secs()).ok();
        // For people: nobody compares it with a clock.
        spec.renew_time = now;
        object
    }
}

fn record(object: &Object, usual: Duration) -> Record {
    let spec = object.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        // Without a time it was not written by us: ours is as good as any.
        duration: seconds.map_or(usual, Duration::from_secs),
        version: object.metadata.resource_version.clone().unwrap_or_default(),
    }
}
