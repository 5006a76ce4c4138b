//! Changes of the membership, through a member's clients' API.
//!
//! etcd serves it as JSON beside gRPC (`/v3/…`, 64-bit numbers as text):
//! <https://etcd.io/docs/v3.4/dev-guide/apispec/swagger/rpc.swagger.json>

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::api::answer;
use super::ApiError;

/// A member as a change tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Told {
    /// Its identity, decimal.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name; empty until it has started for the first time.
    #[serde(default)]
    pub name: String,
    /// Its peer URLs.
    #[serde(default, rename = "peerURLs")]
    pub urls: Vec<String>,
}

/// What a member says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its identity.
    pub member: u64,
    /// It has no vote yet.
    pub learner: bool,
}

/// Whether there is no such member any more, which is what was wanted.
fn is_gone(error: &ApiError) -> bool {
    matches!(error, ApiError::Refused { message, .. } if message.contains("member not found"))
}

/// A member that takes calls at `url`.
#[derive(Debug, Clone)]
pub struct Client<'a> {
    agent: &'a ureq::Agent,
    url: String,
}

impl<'a> Client<'a> {
    /// Calls nobody yet.
    pub fn new(agent: &'a ureq::Agent, url: String) -> Client<'a> {
        Client { agent, url }
    }

    /// Takes a member out.
    pub fn remove(&self, member: u64) -> Result<(), ApiError> {
        match self.call("cluster/member/remove", &json!({ "ID": member.to_string() })) {
            Err(error) if is_gone(&error) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Adds a member without a vote; returns all members.
    pub fn add_learner(&self, peer_url: &str) -> Result<Vec<Told>, ApiError> {
        let told = self.call("cluster/member/add", &json!({ "peerURLs": [peer_url], "isLearner": true }))?;
        Ok(serde_json::from_value(told["members"].clone()).unwrap_or_default())
    }

    /// Gives a learner its vote; refused until it has caught up.
    pub fn promote(&self, member: u64) -> Result<(), ApiError> {
        self.call("cluster/member/promote", &json!({ "ID": member.to_string() })).map(drop)
    }

    /// What the member says of itself. It answers when its cluster has a leader.
    pub fn status(&self) -> Result<Status, ApiError> {
        let told = self.call("maintenance/status", &json!({}))?;
        let member = told["header"]["member_id"].as_str().and_then(|id| id.parse().ok());
        Ok(Status { member: member.unwrap_or_default(), learner: told["isLearner"] == true })
    }

    fn call(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        let url = format!("{}/v3/{path}", self.url);
        let request = self.agent.post(&url).header("Content-Type", "application/json");
        answer(&url, request.send(body.to_string()))
    }
}
