//! `bootwright init`

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use ipnet::IpNet;

use super::Failure;
use super::output::{print, print_findings};
use crate::cluster::template::Template;
use crate::cluster::text::cidr_advice;
use crate::files;

/// Write a new cluster file with comments. Never overwrites one.
#[derive(Debug, Clone, Args)]
pub struct InitOptions {
    /// The file to write; `-` for stdout.
    #[arg(value_name = "FILE", default_value = "cluster.toml")]
    path: PathBuf,
    /// Name of the cluster.
    #[arg(long, default_value = "demo")]
    name: String,
    /// Name of the node.
    #[arg(long, value_name = "NAME", default_value = "cp1")]
    node: String,
    /// Address of the node with the prefix length of its network.
    #[arg(long, value_name = "ADDRESS/PREFIX", default_value = "10.0.2.15/24", value_parser = network_address)]
    address: IpNet,
    /// Default gateway of the node; the first address of the network if absent.
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<IpAddr>,
    /// MAC address of the node's link.
    #[arg(long)]
    mac: Option<String>,
    /// Version of Kubernetes.
    #[arg(long, value_name = "VERSION", default_value = "1.20.2")]
    kubernetes: String,
    /// Folder of the Kubernetes binaries, relative to the file.
    #[arg(long, value_name = "DIR", default_value = "kubernetes")]
    directory: String,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
enum InitError {
    #[error("{} is there already", path.display())]
    #[diagnostic(help("name another file, or move that one away: an existing file is never overwritten"))]
    Exists { path: PathBuf },
    #[error("cannot write {}: {source}", path.display())]
    #[diagnostic(help("name a file in a folder that exists and that you may write to"))]
    Write { path: PathBuf, source: std::io::Error },
}

fn network_address(text: &str) -> Result<IpNet, String> {
    text.parse().map_err(|_| cidr_advice(text))
}

/// Runs the command.
pub fn run(options: &InitOptions) -> Result<(), Failure> {
    let template = Template {
        name: options.name.clone(),
        node: options.node.clone(),
        address: options.address,
        gateway: options.gateway,
        mac: options.mac.clone(),
        kubernetes: options.kubernetes.clone(),
        directory: options.directory.clone(),
    };
    let findings = template.check(&options.path);
    if findings.has_errors() {
        print_findings(&findings);
        eprintln!("Nothing was written. Give `bootwright init` options that fit.");
        return Err(Failure::silent_input());
    }
    let text = template.render();
    if options.path == Path::new("-") {
        print(text);
        return Ok(());
    }
    write_new(&options.path, text.as_bytes()).map_err(Failure::input)?;
    let path = options.path.display();
    print(format_args!("{path} is written. Change it to fit, then: bootwright check -f {path}\n"));
    Ok(())
}

/// Complete or not at all, and never over another file.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), InitError> {
    let failed = |source| InitError::Write { path: path.to_owned(), source };
    if path.symlink_metadata().is_ok() {
        return Err(InitError::Exists { path: path.to_owned() });
    }
    match files::create(path, bytes, 0o644) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(InitError::Exists { path: path.to_owned() })
        }
        written => written.map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.toml");
        write_new(&path, b"first").unwrap();
        assert!(matches!(write_new(&path, b"second"), Err(InitError::Exists { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_does_not_exist_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let result = write_new(&folder.path().join("none/cluster.toml"), b"");
        assert!(matches!(result, Err(InitError::Write { .. })));
    }
}
