//! Reads and changes the kubeconfig that a build leaves beside the image.
//!
//! Only our own (`bootwright_model::kubernetes::kubeconfig`): JSON, which is YAML too, with one cluster,
//! one user and everything inline.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Error;
use crate::files;

const SERVER: &str = "/clusters/0/cluster/server";
const AUTHORITY: &str = "/clusters/0/cluster/certificate-authority-data";
const CERTIFICATE: &str = "/users/0/user/client-certificate-data";
const KEY: &str = "/users/0/user/client-key-data";

/// A kubeconfig with inline certificates.
pub struct Kubeconfig {
    path: PathBuf,
    document: Value,
}

impl Kubeconfig {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or is not JSON.
    pub fn read(path: &Path) -> Result<Kubeconfig, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
        let document = serde_json::from_str(&text).map_err(|error| Error::Kubeconfig {
            path: path.to_owned(),
            key: "/",
            reason: format!("the file is not JSON: {error}"),
        })?;
        Ok(Kubeconfig { path: path.to_owned(), document })
    }

    /// Where the API server is: `https://10.0.2.15:6443`.
    pub fn server(&self) -> Result<&str, Error> {
        self.value(SERVER)
    }

    /// The certificate authority, PEM.
    pub fn authority(&self) -> Result<Vec<u8>, Error> {
        self.data(AUTHORITY)
    }

    /// The client's certificate, PEM.
    pub fn certificate(&self) -> Result<Vec<u8>, Error> {
        self.data(CERTIFICATE)
    }

    /// The client's private key, PEM.
    pub fn key(&self) -> Result<Vec<u8>, Error> {
        self.data(KEY)
    }

    /// Replaces the API server's address in the file: whole or not at all, readable by its owner only.
    ///
    /// # Errors
    /// There is no address to replace, or the file cannot be written.
    pub fn point_at(&mut self, server: &str) -> Result<(), Error> {
        let path = self.path.clone();
        *self = self.pointed_at(server, &path)?;
        Ok(())
    }

    /// Writes a copy with another API server's address to `path`, and returns it.
    ///
    /// # Errors
    /// As [`Kubeconfig::point_at`].
    pub fn pointed_at(&self, server: &str, path: &Path) -> Result<Kubeconfig, Error> {
        let mut document = self.document.clone();
        let address = document.pointer_mut(SERVER).ok_or_else(|| self.error(SERVER, "it is absent"))?;
        *address = Value::from(server);
        let text = format!("{document:#}\n");
        files::replace(path, text.as_bytes(), 0o600).map_err(Error::file("write", path))?;
        Ok(Kubeconfig { path: path.to_owned(), document })
    }

    fn value(&self, key: &'static str) -> Result<&str, Error> {
        self.document.pointer(key).and_then(Value::as_str).ok_or_else(|| self.error(key, "it is absent"))
    }

    fn data(&self, key: &'static str) -> Result<Vec<u8>, Error> {
        STANDARD.decode(self.value(key)?).map_err(|error| self.error(key, &format!("not base64: {error}")))
    }

    fn error(&self, key: &'static str, reason: &str) -> Error {
        Error::Kubeconfig { path: self.path.clone(), key, reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn document(server: &str) -> Value {
        serde_json::json!({
            "clusters": [{ "cluster": { "certificate-authority-data": "Y2E=", "server": server } }],
            "users": [{ "user": { "client-certificate-data": "Y2VydA==", "client-key-data": "a*y" } }],
        })
    }

    #[test]
    fn the_address_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, document("https://10.0.2.15:6443").to_string()).unwrap();
        let mut kubeconfig = Kubeconfig::read(&path).unwrap();
        assert_eq!(kubeconfig.server().unwrap(), "https://10.0.2.15:6443");
        assert_eq!(kubeconfig.authority().unwrap(), b"ca");
        assert_eq!(kubeconfig.certificate().unwrap(), b"cert");
        assert!(kubeconfig.key().unwrap_err().to_string().contains("client-key-data"));
        kubeconfig.point_at("https://127.0.0.1:40001").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), document("https://127.0.0.1:40001"));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_without_a_server_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, "{}").unwrap();
        let error = Kubeconfig::read(&path).unwrap().server().unwrap_err().to_string();
        assert!(error.contains("server"), "{error}");
    }
}
