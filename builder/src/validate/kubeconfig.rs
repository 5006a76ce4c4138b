//! A kubeconfig as people have them: YAML, certificates inline or in files, or a token.
//! <https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/>

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::ValidateError;

/// Where the API is and who we are there.
#[derive(Clone)]
pub struct Kubeconfig {
    /// `https://10.0.2.15:6443`, without a path.
    pub server: String,
    /// The certificate authority, PEM.
    pub authority: Vec<u8>,
    /// How we show who we are.
    pub user: User,
}

/// How a client shows who it is.
#[derive(Clone)]
pub enum User {
    /// A certificate and its key, PEM.
    Certificate {
        /// The certificate.
        certificate: Vec<u8>,
        /// The private key.
        key: Vec<u8>,
    },
    /// A bearer token.
    Token(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: Credentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Credentials {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
}

impl Kubeconfig {
    /// Reads the current context of the file, and the files that it names.
    ///
    /// # Errors
    /// It cannot be read, or does not say where the API is or who we are.
    pub fn read(path: &Path) -> Result<Kubeconfig, ValidateError> {
        let error = |what: String| ValidateError::Kubeconfig { path: path.to_owned(), what };
        let text =
            std::fs::read_to_string(path).map_err(|source| error(format!("cannot be read: {source}")))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        parse(&text, folder).map_err(error)
    }
}

fn parse(text: &str, folder: &Path) -> Result<Kubeconfig, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| {
        // The rest of it quotes the file, keys and tokens included.
        let words = error.to_string();
        format!("is no kubeconfig: {}", words.lines().next().unwrap_or_default())
    })?;
    let wanted = &file.current_context;
    let context = file.contexts.iter().find(|context| context.name == *wanted);
    let context =
        context.ok_or_else(|| format!("has no context \"{wanted}\", which its current-context names"))?;
    let Context { cluster, user } = &context.context;
    let found = file.clusters.iter().find(|one| one.name == *cluster);
    let found = found.ok_or_else(|| format!("has no cluster \"{cluster}\", which its context names"))?;
    let server = found.cluster.server.trim_end_matches('/').to_owned();
    if !server.starts_with("https://") {
        return Err(format!("names the server \"{server}\"; it has to begin with https://"));
    }
    let data = found.cluster.certificate_authority_data.as_ref();
    let authority =
        either(data, found.cluster.certificate_authority.as_ref(), folder, "certificate-authority")?
            .ok_or("has no certificate-authority for the server, and without one anybody could answer")?;
    let found = file.users.iter().find(|one| one.name == *user);
    let found = found.ok_or_else(|| format!("has no user \"{user}\", which its context names"))?;
    Ok(Kubeconfig { server, authority, user: credentials(&found.user, folder)? })
}

fn credentials(user: &Credentials, folder: &Path) -> Result<User, String> {
    let certificate = user.client_certificate_data.as_ref();
    let certificate = either(certificate, user.client_certificate.as_ref(), folder, "client-certificate")?;
    let key = either(user.client_key_data.as_ref(), user.client_key.as_ref(), folder, "client-key")?;
    match (certificate, key, &user.token) {
        (Some(certificate), Some(key), _) => Ok(User::Certificate { certificate, key }),
        (_, _, Some(token)) => Ok(User::Token(token.clone())),
        _ => Err("has neither a client-certificate with its client-key nor a token for its user; programs that fetch \
                  credentials (exec) are not run: take the cluster's own admin kubeconfig"
            .to_owned()),
    }
}

/// What is inline, else what is in the file.
fn either(
    data: Option<&String>,
    file: Option<&PathBuf>,
    folder: &Path,
    key: &str,
) -> Result<Option<Vec<u8>>, String> {
    match (data, file) {
        (Some(data), _) => {
            STANDARD.decode(data.trim()).map(Some).map_err(|_| format!("has a {key}-data that is not base64"))
        }
        (None, Some(file)) => {
            let path = folder.join(file);
            let read = std::fs::read(&path);
            read.map(Some).map_err(|error| format!("names the {key} {}: {error}", path.display()))
        }
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "apiVersion: v1\nkind: Config\ncurrent-context: b\nclusters:\n\
        - name: harbor\n  cluster: {server: \"https://10.0.2.15:6443/\", certificate-authority-data: Y2E=}\n\
        contexts:\n- name: a\n  context: {cluster: none, user: none}\n\
        - name: b\n  context: {cluster: harbor, user: admin}\n\
        users:\n- name: admin\n  user:\n    client-certificate: admin.crt\n    client-key-data: a2V5\n";

    #[test]
    fn the_current_context_counts_and_files_lie_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("admin.crt"), "cert").unwrap();
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, FILE).unwrap();
        let Ok(kubeconfig) = Kubeconfig::read(&path) else { panic!("it is sound") };
        assert_eq!(
            (kubeconfig.server.as_str(), &*kubeconfig.authority),
            ("https://10.0.2.15:6443", &b"ca"[..])
        );
        let User::Certificate { certificate, key } = kubeconfig.user else { panic!("a certificate") };
        assert_eq!((&*certificate, &*key), (&b"cert"[..], &b"key"[..]));
    }

    fn refused(text: &str) -> String {
        parse(text, Path::new("/nowhere")).err().expect("it is not sound")
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = refused(&FILE.replace("context: b", "context: c"));
        assert!(error.contains("no context \"c\""), "{error}");
        let error = refused(&FILE.replace("context: b", "context: a"));
        assert!(error.contains("no cluster \"none\""), "{error}");
        let error = refused(&FILE.replace("https", "http"));
        assert!(error.contains("https://"), "{error}");
        let error = refused(FILE);
        assert!(error.contains("client-certificate /nowhere/admin.crt"), "{error}");
        let error = refused(&FILE.replace("client-certificate", "exec"));
        assert!(error.contains("are not run"), "{error}");
        let error = refused("a: [secret");
        assert!(error.starts_with("is no kubeconfig") && !error.contains("secret"), "{error}");
        let token = FILE.replace("client-certificate: admin.crt", "token: abc");
        assert!(
            matches!(parse(&token, Path::new("/")), Ok(Kubeconfig { user: User::Token(token), .. }) if token == "abc")
        );
    }
}
