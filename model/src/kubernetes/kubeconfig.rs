//! kubeconfig files, `v1` `Config` of `k8s.io/client-go/tools/clientcmd/api`.

use serde_json::{Value, json};

/// A certificate or key in a kubeconfig.
#[derive(Clone, Copy)]
pub enum Pem<'a> {
    /// Path of a PEM file. Clients read it again when it changes, so a renewed certificate needs no restart.
    File(&'a str),
    /// base64 of the PEM text, for a kubeconfig that is handed to somebody.
    Data(&'a str),
}

/// One cluster, one user, one context.
pub struct Kubeconfig<'a> {
    /// Name of the cluster.
    pub cluster: &'a str,
    /// `https://host:port`
    pub server: &'a str,
    /// Authority of the server's certificate.
    pub authority: Pem<'a>,
    /// Name of the user in this file.
    pub user: &'a str,
    /// The user's certificate.
    pub certificate: Pem<'a>,
    /// Its key.
    pub key: Pem<'a>,
}

impl Kubeconfig<'_> {
    /// The file's text: JSON, which every reader of kubeconfigs takes.
    pub fn render(&self) -> String {
        let mut user = json!({});
        put(&mut user, "client-certificate", self.certificate);
        put(&mut user, "client-key", self.key);
        text(self.cluster, self.server, self.authority, self.user, user)
    }
}

/// A kubeconfig whose user shows a token.
pub struct TokenKubeconfig<'a> {
    /// Name of the cluster.
    pub cluster: &'a str,
    /// `https://host:port`
    pub server: &'a str,
    /// Authority of the server's certificate.
    pub authority: Pem<'a>,
    /// Name of the user in this file.
    pub user: &'a str,
    /// Path of the file with the token; white space around it is ignored.
    pub token_file: &'a str,
}

impl TokenKubeconfig<'_> {
    /// The file's text. It holds no secret.
    pub fn render(&self) -> String {
        let user = json!({ "tokenFile": self.token_file });
        text(self.cluster, self.server, self.authority, self.user, user)
    }
}

fn text(name: &str, server: &str, authority: Pem<'_>, user_name: &str, user: Value) -> String {
    let mut cluster = json!({ "server": server });
    put(&mut cluster, "certificate-authority", authority);
    let context = format!("{user_name}@{name}");
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": name, "cluster": cluster }],
        "users": [{ "name": user_name, "user": user }],
        "contexts": [{ "name": context, "context": { "cluster": name, "user": user_name } }],
        "current-context": context,
    });
    super::render::text(config)
}

fn put(object: &mut Value, field: &str, pem: Pem<'_>) {
    match pem {
        Pem::File(path) => object[field] = path.into(),
        Pem::Data(base64) => object[format!("{field}-data")] = base64.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_files_or_carries_data() {
        let config = Kubeconfig {
            cluster: "harbor",
            server: "https://127.0.0.1:6443",
            authority: Pem::File("/run/ca.crt"),
            user: "kubernetes-admin",
            certificate: Pem::Data("Q0VSVA=="),
            key: Pem::Data("S0VZ"),
        };
        insta::assert_snapshot!(config.render());
    }

    #[test]
    fn a_token_is_named_and_not_carried() {
        let config = TokenKubeconfig {
            cluster: "harbor",
            server: "https://10.20.0.10:6443",
            authority: Pem::File("/run/ca.crt"),
            user: "bootstrap",
            token_file: "/run/token",
        };
        let value: Value = serde_json::from_str(&config.render()).unwrap();
        assert_eq!(value["users"][0], json!({ "name": "bootstrap", "user": { "tokenFile": "/run/token" } }));
        assert_eq!(value["contexts"][0]["context"], json!({ "cluster": "harbor", "user": "bootstrap" }));
    }
}
