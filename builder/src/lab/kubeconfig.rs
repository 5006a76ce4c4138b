//! Reads and changes the kubeconfig that a build leaves beside the image.
//!
//! Only our own (`bootwright_model::kubernetes::kubeconfig`): one cluster, one user, everything inline,
//! one `key: value` to a line. For those, lines are enough and a YAML parser is not needed.

use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Error;

/// A kubeconfig with inline certificates.
pub struct Kubeconfig {
    path: PathBuf,
    text: String,
}

impl Kubeconfig {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(path: &Path) -> Result<Kubeconfig, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
        Ok(Kubeconfig { path: path.to_owned(), text })
    }

    /// Where the API server is: `https://10.0.2.15:6443`.
    pub fn server(&self) -> Result<&str, Error> {
        self.value("server")
    }

    /// The certificate authority, PEM.
    pub fn authority(&self) -> Result<Vec<u8>, Error> {
        self.data("certificate-authority-data")
    }

    /// The client's certificate, PEM.
    pub fn certificate(&self) -> Result<Vec<u8>, Error> {
        self.data("client-certificate-data")
    }

    /// The client's key, PEM.
    pub fn key(&self) -> Result<Vec<u8>, Error> {
        self.data("client-key-data")
    }

    /// Replaces the API server's address in the file: whole or not at all, readable by its owner only.
    ///
    /// # Errors
    /// There is no address to replace, or the file cannot be written.
    pub fn point_at(&mut self, server: &str) -> Result<(), Error> {
        let old = format!("server: {}", self.value("server")?);
        self.text = self.text.replacen(&old, &format!("server: {server}"), 1);
        let folder = self.path.parent().unwrap_or(Path::new("."));
        // A temporary file is 0600 from the start.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::file("write", &self.path))?;
        file.write_all(self.text.as_bytes())
            .and_then(|()| file.as_file().sync_all())
            .map_err(Error::file("write", &self.path))?;
        file.persist(&self.path).map_err(|error| error.error).map_err(Error::file("write", &self.path))?;
        Ok(())
    }

    fn value(&self, key: &'static str) -> Result<&str, Error> {
        self.text
            .lines()
            .find_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(':'))
            .map(|value| value.trim().trim_matches('"'))
            .filter(|value| !value.is_empty())
            .ok_or_else(|| self.error(key, "it is absent"))
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
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const TEXT: &str = "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: Y2E=\n    \
        server: https://10.0.2.15:6443\n  name: demo\nusers:\n- name: admin\n  user:\n    \
        client-certificate-data: Y2VydA==\n    client-key-data: a*y\n";

    #[test]
    fn the_address_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, TEXT).unwrap();
        let mut kubeconfig = Kubeconfig::read(&path).unwrap();
        assert_eq!(kubeconfig.server().unwrap(), "https://10.0.2.15:6443");
        assert_eq!(kubeconfig.authority().unwrap(), b"ca");
        assert_eq!(kubeconfig.certificate().unwrap(), b"cert");
        assert!(kubeconfig.key().unwrap_err().to_string().contains("client-key-data"));
        kubeconfig.point_at("https://127.0.0.1:40001").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, TEXT.replace("https://10.0.2.15:6443", "https://127.0.0.1:40001"));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_without_a_server_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, "apiVersion: v1\n").unwrap();
        let error = Kubeconfig::read(&path).unwrap().server().unwrap_err().to_string();
        assert!(error.contains("`server`"), "{error}");
    }
}
