//! The Lease `bootwright-virtual-ip` (coordination.k8s.io/v1), read and written through the balancer, as all that
//! the agent asks of the API.

use std::time::Duration;

use bootwright_model::agent::{LEASE_NAMESPACE, VIRTUAL_IP_LEASE};
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::election::Record;

/// The API server does not do what is asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} the Lease {LEASE_NAMESPACE}/{VIRTUAL_IP_LEASE}")]
pub struct LeaseError {
    what: &'static str,
    source: kube::Error,
}

/// The object, as it was last read or written.
pub struct Lease {
    api: Api<Object>,
    node: String,
    known: Option<Object>,
    /// Written by us last, so that it need not be read before it is written again.
    ours: bool,
}

impl Lease {
    /// Nothing is asked yet.
    pub fn new(client: Client, node: &str) -> Lease {
        Lease {
            api: Api::namespaced(client, LEASE_NAMESPACE),
            node: node.to_owned(),
            known: None,
            ours: false,
        }
    }

    /// Who has it; `None` if there is none yet.
    pub async fn look(&mut self) -> Result<Option<Record>, LeaseError> {
        if !self.ours {
            let read = self.api.get_opt(VIRTUAL_IP_LEASE).await;
            self.known = read.map_err(|source| LeaseError { what: "read", source })?;
        }
        Ok(self.known.as_ref().map(record))
    }

    /// Makes it ours, if it is still as it was when it was looked at; false if it is not.
    pub async fn write(&mut self, duration: Duration) -> Result<bool, LeaseError> {
        let object = self.renewed(duration);
        // Whatever comes of it, what is known is old now.
        self.ours = false;
        let parameters = PostParams::default();
        let written = match &self.known {
            Some(_) => self.api.replace(VIRTUAL_IP_LEASE, &parameters, &object).await,
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
            Err(source) => Err(LeaseError { what: "write", source }),
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
        match self.api.replace(VIRTUAL_IP_LEASE, &PostParams::default(), &object).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(source) => Err(LeaseError { what: "give back", source }),
        }
    }

    fn renewed(&self, duration: Duration) -> Object {
        let mut object = self.known.clone().unwrap_or_else(|| Object {
            metadata: ObjectMeta { name: Some(VIRTUAL_IP_LEASE.to_owned()), ..ObjectMeta::default() },
            ..Object::default()
        });
        let spec: &mut LeaseSpec = object.spec.get_or_insert_default();
        let now = Some(MicroTime(Timestamp::now()));
        if spec.holder_identity.as_deref() != Some(self.node.as_str()) {
            spec.acquire_time.clone_from(&now);
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |count| count.saturating_add(1)));
        }
        spec.holder_identity = Some(self.node.clone());
        spec.lease_duration_seconds = i32::try_from(duration.as_secs()).ok();
        // For people: nobody compares it with a clock.
        spec.renew_time = now;
        object
    }
}

fn record(object: &Object) -> Record {
    let spec = object.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        // Without a time it was not written by us: ours is as good as any.
        duration: seconds.map_or(super::LEASE, Duration::from_secs),
        version: object.metadata.resource_version.clone().unwrap_or_default(),
    }
}
