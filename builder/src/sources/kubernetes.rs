//! Kubernetes binaries: from a folder of this machine, or from a release mirror.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bootwright_model::cluster::Kubernetes;
use object::elf::{EM_X86_64, FileHeader64};
use object::read::elf::FileHeader;

use super::Artifact;
use super::cache::{Cache, CacheError};
use super::fetch::{self, Download, FetchError, Fetcher, shown};
use crate::digests::is_sha256;

/// Why a binary cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// Neither a folder nor a mirror.
    #[error(
        "[kubernetes] has neither directory nor mirror; set directory to the folder of the binaries, or mirror"
    )]
    NoPlace,
    /// There is no such folder.
    #[error(
        "there is no folder {directory}; make it with the binaries of Kubernetes {version} ({names}), \
         correct directory in [kubernetes], or set mirror"
    )]
    NoDirectory {
        /// As the cluster file names it, from its own folder.
        directory: PathBuf,
        /// What should be in it.
        names: String,
        /// The version in the cluster file.
        version: String,
    },
    /// Binaries are not in the folder.
    #[error(
        "{directory} has no {names}; put the binaries of Kubernetes {version} there, \
         correct directory in [kubernetes], or set mirror"
    )]
    Missing {
        /// The folder.
        directory: PathBuf,
        /// What is missing: `kubelet, kube-proxy`.
        names: String,
        /// The version in the cluster file.
        version: String,
    },
    /// The folder says that it is for another version.
    #[error(
        "{path} says {found}, the cluster file wants Kubernetes {wanted}; \
         correct version or directory in [kubernetes]"
    )]
    Version {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
        /// The version in the cluster file.
        wanted: String,
    },
    /// A file that is no program for these machines.
    #[error("{path} is no x86-64 Linux program: {reason}; build it with GOOS=linux GOARCH=amd64")]
    NotProgram {
        /// The file.
        path: PathBuf,
        /// What it is not.
        reason: String,
    },
    /// The mirror's checksum file.
    #[error("{url} holds no SHA-256 but {found:?}; check mirror in [kubernetes]")]
    Checksum {
        /// The checksum file.
        url: String,
        /// Its beginning.
        found: String,
    },
    /// A file cannot be read.
    #[error("could not read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The mirror cannot be reached, or has no such version.
    #[error("Kubernetes {version}: {reason}; check version and mirror in [kubernetes]")]
    Fetch {
        /// The version in the cluster file.
        version: String,
        /// Why.
        reason: Box<FetchError>,
    },
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// File in the folder that says which version its binaries are: `1.20.2` or `v1.20.2`. Optional, because
/// `_output/bin` of a Kubernetes tree has none.
pub const VERSION_FILE: &str = "version";

/// A checksum file has 64 digits and perhaps a name.
const LARGEST_CHECKSUM: u64 = 4096;

/// The binaries `names` from the folder of the cluster file, in that order. They stay where they are.
pub fn from_directory(
    kubernetes: &Kubernetes,
    directory: &str,
    base_dir: &Path,
    names: &[String],
    cache: &Cache,
) -> Result<Vec<Artifact>, KubernetesError> {
    let directory = base_dir.join(directory);
    if !directory.is_dir() {
        let version = kubernetes.version.clone();
        return Err(KubernetesError::NoDirectory { directory, names: names.join(", "), version });
    }
    check_version(&directory.join(VERSION_FILE), &kubernetes.version)?;
    let missing: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| !directory.join(name).is_file()).collect();
    if !missing.is_empty() {
        let version = kubernetes.version.clone();
        return Err(KubernetesError::Missing { directory, names: missing.join(", "), version });
    }
    let mut artifacts = Vec::new();
    for name in names {
        let path = directory.join(name);
        check_program(&path)?;
        let (sha256, size) = cache.digest_file(&path)?;
        artifacts.push(Artifact {
            name: name.clone(),
            version: kubernetes.version.clone(),
            sha256,
            size,
            path,
        });
    }
    Ok(artifacts)
}

/// Where `name` lies on a release mirror.
pub fn url(kubernetes: &Kubernetes, mirror: &str, base_dir: &Path, name: &str) -> String {
    let mirror = fetch::resolve(mirror.trim_end_matches('/'), base_dir);
    format!("{mirror}/v{}/bin/linux/amd64/{name}", kubernetes.version)
}

/// What to download of a release mirror, by the checksums that lie beside the binaries.
pub fn from_mirror(
    kubernetes: &Kubernetes,
    mirror: &str,
    base_dir: &Path,
    names: &[String],
    fetcher: &Fetcher,
) -> Result<Vec<Download>, KubernetesError> {
    let mut downloads = Vec::new();
    for name in names {
        let url = url(kubernetes, mirror, base_dir, name);
        let checksum = format!("{url}.sha256");
        let text = fetcher.document(&checksum, LARGEST_CHECKSUM).map_err(|reason| {
            KubernetesError::Fetch { version: kubernetes.version.clone(), reason: Box::new(reason) }
        })?;
        let text = String::from_utf8_lossy(&text);
        let sha256 = text.split_whitespace().next().unwrap_or("").to_ascii_lowercase();
        if !is_sha256(&sha256) {
            let found = text.chars().take(40).collect();
            return Err(KubernetesError::Checksum { url: shown(&checksum), found });
        }
        let version = kubernetes.version.clone();
        downloads.push(Download { name: name.clone(), version, urls: vec![url], sha256, size: None });
    }
    Ok(downloads)
}

fn check_version(path: &Path, wanted: &str) -> Result<(), KubernetesError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(KubernetesError::Read { path: path.to_owned(), source }),
    };
    let found = text.trim();
    if found.strip_prefix('v').unwrap_or(found) == wanted {
        return Ok(());
    }
    let found = found.chars().take(40).collect();
    Err(KubernetesError::Version { path: path.to_owned(), found, wanted: wanted.to_owned() })
}

/// Looks at the ELF header (System V ABI, chapter 4).
pub fn check_program(path: &Path) -> Result<(), KubernetesError> {
    let read = |source| KubernetesError::Read { path: path.to_owned(), source };
    let mut head = Vec::new();
    File::open(path).map_err(read)?.take(64).read_to_end(&mut head).map_err(read)?;
    let not = |reason: &str| KubernetesError::NotProgram { path: path.to_owned(), reason: reason.to_owned() };
    let header = FileHeader64::<object::Endianness>::parse(head.as_slice())
        .map_err(|_| not("it has no 64-bit ELF header"))?;
    let endian = header.endian().map_err(|_| not("its byte order is unknown"))?;
    if endian != object::Endianness::Little || header.e_machine(endian) != EM_X86_64 {
        return Err(not("it is for another machine"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELF: [u8; 20] = [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0];

    fn program(machine: u8) -> Vec<u8> {
        let mut bytes = ELF.to_vec();
        bytes[18] = machine;
        bytes.resize(128, 0);
        bytes
    }

    fn kubernetes() -> Kubernetes {
        Kubernetes {
            version: "1.20.2".to_owned(),
            directory: Some("bin".to_owned()),
            mirror: None,
            flags: Default::default(),
        }
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_folder_is_checked_before_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("cache")).unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::write(bin.join("kubelet"), program(62)).unwrap();
        let get = |list: &[&str]| from_directory(&kubernetes(), "bin", folder.path(), &names(list), &cache);
        fs::rename(&bin, folder.path().join("away")).unwrap();
        let error = get(&["kubelet"]).unwrap_err().to_string();
        assert!(error.starts_with("there is no folder ") && error.contains("(kubelet)"), "{error}");
        fs::rename(folder.path().join("away"), &bin).unwrap();
        let artifacts = get(&["kubelet"]).unwrap();
        assert_eq!((artifacts[0].version.as_str(), artifacts[0].size), ("1.20.2", 128));

        let error = get(&["kube-proxy", "kubelet", "kubectl"]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "{} has no kube-proxy, kubectl; put the binaries of Kubernetes 1.20.2 there, \
                 correct directory in [kubernetes], or set mirror",
                bin.display()
            )
        );
        fs::write(bin.join("kube-proxy"), program(183)).unwrap();
        assert!(get(&["kube-proxy"]).unwrap_err().to_string().contains("for another machine"));
        fs::write(bin.join("kubectl"), b"#!/bin/sh\n").unwrap();
        assert!(get(&["kubectl"]).unwrap_err().to_string().contains("no 64-bit ELF header"));

        fs::write(bin.join(VERSION_FILE), "v1.20.2\n").unwrap();
        get(&["kubelet"]).unwrap();
        fs::write(bin.join(VERSION_FILE), "v1.21.0\n").unwrap();
        let error = get(&["kubelet"]).unwrap_err().to_string();
        assert!(error.contains("says v1.21.0, the cluster file wants Kubernetes 1.20.2"), "{error}");
    }
}
