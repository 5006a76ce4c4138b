//! Objects that a new cluster lacks and that no component makes for itself.
//!
//! First boot's `apply` sends each to the API server by server-side apply: idempotent, and an image
//! with other contents brings them up to date. `v1` groups only, which every supported release serves.

use serde_json::{Value, json};

use super::{KubernetesError, node_object, pki, rights};
use crate::node::NodeFacts;

const RBAC: &str = "rbac.authorization.k8s.io";

/// One object to apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Path of the object on the API server; of its collection if it is to be created.
    pub path: String,
    /// How it is sent.
    pub method: Method,
    /// The object.
    pub body: Value,
}

/// How an object is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Created, and left as it is if there is one of its name.
    Create,
    /// Server-side apply: created, or brought up to date.
    Apply,
}

/// A token that a machine may join with, split at its dot.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    id: String,
    secret: String,
}

impl BootstrapToken {
    /// Reads `[a-z0-9]{6}.[a-z0-9]{16}`; white space around it is ignored.
    pub fn parse(text: &str) -> Option<BootstrapToken> {
        let (id, secret) = text.trim().split_once('.')?;
        let is = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        (is(id, 6) && is(secret, 16)).then(|| BootstrapToken { id: id.to_owned(), secret: secret.to_owned() })
    }
}

/// Hides the secret.
impl std::fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BootstrapToken({}.…)", self.id)
    }
}

/// Everything to apply on a control plane, in order.
pub fn objects(facts: &NodeFacts, token: &BootstrapToken) -> Result<Vec<Object>, KubernetesError> {
    let mut objects = vec![
        // The narrow role instead of system:masters: this certificate is for kubelets and nothing else.
        binding(
            "bootwright:apiserver-kubelet-client",
            "system:kubelet-api-admin",
            "User",
            pki::APISERVER_KUBELET_CLIENT_USER,
        ),
        binding("bootwright:node-bootstrapper", "system:node-bootstrapper", "Group", "system:bootstrappers"),
        withdrawn(
            "bootwright:approve-node-client",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        ),
        // Renewals only: on the first certificate of a machine the agent decides, by its name.
        binding(
            "bootwright:approve-node-client-renewal",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            "Group",
            "system:nodes",
        ),
        // kube-proxy of a node without authorities shows the kubelet's certificate. Whoever has that could read
        // on the node what kube-proxy may read anyway: Services, endpoints and Nodes.
        binding("bootwright:node-proxier", "system:node-proxier", "Group", "system:nodes"),
        token_secret(token),
    ];
    objects.extend(rights::objects(&facts.layer.file.cluster));
    // The Node first: the kubelet's quick way to Ready waits for its pod CIDR.
    objects.insert(0, node_object::of(facts)?);
    objects.splice(0..0, node_object::tainted(facts)?);
    Ok(objects)
}

fn binding(name: &str, role: &str, kind: &str, subject: &str) -> Object {
    let mut object = withdrawn(name, role);
    object.body["subjects"] = json!([{ "apiGroup": RBAC, "kind": kind, "name": subject }]);
    object
}

/// A binding that earlier images made and that gives its role to nobody: server-side apply takes away the subjects
/// that it set before and that are not named any more. The role of a binding cannot be changed, so it is named still.
fn withdrawn(name: &str, role: &str) -> Object {
    Object {
        path: format!("/apis/{RBAC}/v1/clusterrolebindings/{name}"),
        method: Method::Apply,
        body: json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": "ClusterRoleBinding",
            "metadata": { "name": name },
            "roleRef": { "apiGroup": RBAC, "kind": "ClusterRole", "name": role },
        }),
    }
}

/// What `--enable-bootstrap-token-auth` looks a token up in.
fn token_secret(token: &BootstrapToken) -> Object {
    let name = format!("bootstrap-token-{}", token.id);
    Object {
        path: format!("/api/v1/namespaces/kube-system/secrets/{name}"),
        method: Method::Apply,
        body: json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": name, "namespace": "kube-system" },
            "type": "bootstrap.kubernetes.io/token",
            "stringData": {
                "token-id": token.id,
                "token-secret": token.secret,
                "usage-bootstrap-authentication": "true",
                "usage-bootstrap-signing": "true",
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::facts;
    use super::*;

    #[test]
    fn objects_of_the_oldest_release() {
        let token = BootstrapToken::parse("abc123.0123456789abcdef\n").unwrap();
        let objects = objects(&facts("1.20.2", "1.6.20", "3.4.23"), &token).unwrap();
        let text: Vec<String> = objects
            .iter()
            .map(|object| format!("{}\n{}", object.path, super::super::render::text(object.body.clone())))
            .collect();
        insta::assert_snapshot!(text.join("\n\n"));
    }

    #[test]
    fn tokens_have_one_form_and_are_not_printed() {
        for text in [
            "",
            "abc123",
            "abc12.0123456789abcdef",
            "abc123.0123456789abcdeF",
            "abc123.0123456789abcdef0",
            "äbc12.0123456789abcdef",
        ] {
            assert!(BootstrapToken::parse(text).is_none(), "{text}");
        }
        let token = BootstrapToken::parse("abc123.0123456789abcdef").unwrap();
        assert_eq!(format!("{token:?}"), "BootstrapToken(abc123.…)");
    }
}
