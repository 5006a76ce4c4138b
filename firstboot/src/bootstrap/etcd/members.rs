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
        self.members_in(&told)
    }

    /// All members.
    pub fn members(&self) -> Result<Vec<Told>, ApiError> {
        let told = self.call("cluster/member/list", &json!({}))?;
        self.members_in(&told)
    }

    /// Tells the cluster where the others reach a member.
    pub fn set_url(&self, member: u64, peer_url: &str) -> Result<(), ApiError> {
        let change = json!({ "ID": member.to_string(), "peerURLs": [peer_url] });
        self.call("cluster/member/update", &change).map(drop)
    }

    /// Gives a learner its vote; refused until it has caught up.
    pub fn promote(&self, member: u64) -> Result<(), ApiError> {
        self.call("cluster/member/promote", &json!({ "ID": member.to_string() })).map(drop)
    }

    /// What the member says of itself. It answers when its cluster has a leader.
    pub fn status(&self) -> Result<Status, ApiError> {
        let told = self.call("maintenance/status", &json!({}))?;
        status(&told).ok_or_else(|| self.lacks("its member_id"))
    }

    fn members_in(&self, told: &Value) -> Result<Vec<Told>, ApiError> {
        let members: Option<Vec<Told>> = serde_json::from_value(told["members"].clone()).ok();
        members.filter(|members| !members.is_empty()).ok_or_else(|| self.lacks("its members"))
    }

    fn lacks(&self, what: &'static str) -> ApiError {
        ApiError::Lacks { url: self.url.clone(), what }
    }

    fn call(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        let url = format!("{}/v3/{path}", self.url);
        let request = self.agent.post(&url).header("Content-Type", "application/json");
        answer(&url, request.send(body.to_string()))
    }
}

fn status(told: &Value) -> Option<Status> {
    let member = told["header"]["member_id"].as_str()?.parse().ok().filter(|member| *member != 0)?;
    // Left out if false.
    Some(Status { member, learner: told["isLearner"] == true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_without_an_identity_is_none() {
        let of = |header: Value| status(&json!({ "header": header, "isLearner": true }));
        assert_eq!(of(json!({ "member_id": "18446744073709551615" })).unwrap().member, u64::MAX);
        for header in [json!({}), json!({ "member_id": 7 }), json!({ "member_id": "0" }), Value::Null] {
            assert_eq!(of(header), None);
        }
    }

    #[test]
    fn an_answer_without_members_is_an_error() {
        let agent = ureq::Agent::new_with_defaults();
        let client = Client::new(&agent, "https://192.0.2.1:2379".to_owned());
        let one = json!({ "members": [{ "ID": "7", "peerURLs": ["https://192.0.2.1:2380"] }] });
        assert_eq!(client.members_in(&one).unwrap()[0].id, "7");
        for told in [json!({}), json!({ "members": [] }), json!({ "members": [{ "name": "cp1" }] })] {
            let error = client.members_in(&told).unwrap_err();
            assert_eq!(error.to_string(), "https://192.0.2.1:2379 answered without its members");
        }
    }
}
