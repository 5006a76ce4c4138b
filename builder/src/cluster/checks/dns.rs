//! `[dns]`: an image that can be had, and a number of pods.

use bootwright_model::cluster::ClusterFile;

use super::images::reference;
use crate::cluster::text::finding::{Finding, KeyPath};
use crate::cluster::text::similar;
use crate::digests::is_sha256;

/// More than the nodes of a cluster can use: the pods need different nodes to be of use.
const MOST_REPLICAS: u16 = 100;

pub fn check(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let Some(dns) = &file.dns else { return };
    image(file, &dns.image, findings);
    if dns.replicas.is_some_and(|replicas| !(1..=MOST_REPLICAS).contains(&replicas)) {
        findings.push(
            Finding::new("dns", "this number of pods is not possible")
                .at_value(key("replicas"), "out of range")
                .help(format!("write a number between 1 and {MOST_REPLICAS}, or leave it out")),
        );
    }
}

/// `dns.<key>`
fn key(name: &str) -> KeyPath {
    KeyPath::of("dns").key(name)
}

/// One that is not built in must be a reference with a tag or digest: `latest` is another image each day.
fn image(file: &ClusterFile, image: &str, findings: &mut Vec<Finding>) {
    let baked = || file.images.iter().map(|one| one.name.as_str());
    if baked().any(|name| name == image) {
        return;
    }
    let good = match image.split_once("@sha256:") {
        // With a digest the tag is for people; any stands for the one that may be missing.
        Some((repository, digest)) => {
            is_sha256(digest)
                && (reference(repository).is_ok() || reference(&format!("{repository}:tag")).is_ok())
        }
        None => reference(image).is_ok() && !image.ends_with(":latest"),
    };
    if !good {
        findings.push(
            Finding::new("dns", format!("\"{image}\" is not the name of an image"))
                .at_value(key("image"), "neither built in nor complete")
                .help("write the name of an [[image]], or host, path and tag of one that the nodes can pull"),
        );
    } else if let Some(meant) = image.starts_with("bootwright.local/").then(|| {
        similar(image, baked())
            .map_or_else(|| "there is none".to_owned(), |name| format!("did you mean \"{name}\"?"))
    }) {
        findings.push(
            Finding::new("dns", format!("no [[image]] has the name \"{image}\""))
                .at_value(key("image"), "not built in")
                .help(format!(
                    "images of the host bootwright.local are in no registry: add it as an [[image]] ({meant})"
                )),
        );
    }
}
