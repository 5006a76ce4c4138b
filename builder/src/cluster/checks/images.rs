//! `[[image]]`: names, where each comes from, and the paths in it.

use bootwright_model::cluster::ClusterFile;
use bootwright_model::workload_image::WorkloadImage;

use super::{duplicates, image};
use crate::cluster::text::finding::{Finding, KeyPath};

/// Repositories of images of our own, and what they are: containerd's sandbox is pinned to the first.
const RESERVED: [(&str, &str); 2] = [
    ("bootwright.local/pause", "the pause image of every pod"),
    ("bootwright.local/probe", "the image that `bootwright validate` runs"),
];

pub fn check(file: &ClusterFile, findings: &mut Vec<Finding>) {
    for (index, one) in file.images.iter().enumerate() {
        name(index, &one.name, findings);
        origin(index, one, findings);
        packages(index, one, findings);
        paths(index, one, findings);
    }
    duplicates(file.images.iter().map(|one| Some(&one.name)), |first, second, name| {
        findings.push(
            Finding::new("duplicate", format!("two images have the name \"{name}\""))
                .at_value(image(second, "name"), "again")
                .at_value(image(first, "name"), "first here")
                .help("change one of the tags"),
        );
    });
}

fn name(index: usize, text: &str, findings: &mut Vec<Finding>) {
    let path = image(index, "name");
    if let Err(why) = reference(text) {
        findings.push(
            Finding::new("image-name", format!("image name \"{text}\" {why}"))
                .at_value(path, "not a complete reference")
                .help("write host, path and tag, as pods do: \"bootwright.local/web:1\""),
        );
    } else if let Some((_, what)) = reserved(text) {
        findings.push(
            Finding::new("reserved-image", format!("image name \"{text}\" is reserved"))
                .at_value(path, *what)
                .help("choose another name"),
        );
    }
}

fn reserved(reference: &str) -> Option<&'static (&'static str, &'static str)> {
    let (repository, _) = reference.rsplit_once(':')?;
    RESERVED.iter().find(|(ours, _)| *ours == repository)
}

/// Whether a full reference with a tag: <https://github.com/distribution/reference>.
pub(super) fn reference(text: &str) -> Result<(), &'static str> {
    if text.contains('@') {
        return Err("has a digest, which is not known before the image is made");
    }
    let (repository, tag) = match text.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => return Err("has no tag"),
    };
    let tag_is_good = !tag.is_empty()
        && tag.len() <= 128
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !tag_is_good {
        return Err("has a tag of other characters than letters, digits, '.', '_' and '-'");
    }
    let Some((host, path)) = repository.split_once('/') else {
        return Err("has no host before its path");
    };
    let host_name = host.split(':').next().unwrap_or_default();
    if !(host_name.contains('.') || host_name == "localhost" || host.contains(':')) {
        return Err("has no host before its path");
    }
    let component = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
            && part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
            && part.bytes().last().is_some_and(|byte| byte.is_ascii_alphanumeric())
    };
    if path.split('/').all(component) && host_name.split('.').all(component) {
        Ok(())
    } else {
        Err("has other characters than a-z, digits, '.', '_', '-' and '/'")
    }
}

/// Either an archive, or composed.
fn origin(index: usize, one: &WorkloadImage, findings: &mut Vec<Finding>) {
    let composed = !one.packages.is_empty() || !one.files.is_empty();
    if one.archive.is_none() {
        if !composed {
            findings.push(
                Finding::new("image-origin", "this image is made from nothing")
                    .at_value(KeyPath::of("image").index(index), "neither archive nor packages nor files")
                    .help("add `archive`, an OCI archive, or `packages` or `files` to compose it from")
                    .because_of(image(index, "archive"))
                    .because_of(image(index, "packages"))
                    .because_of(image(index, "files")),
            );
        } else if one.entrypoint.first().is_none_or(String::is_empty) {
            findings.push(
                Finding::new("image-entrypoint", "this image has no entry point")
                    .at_value(image(index, "entrypoint"), "no program")
                    .help("add `entrypoint = [\"/path/of/program\", …]`"),
            );
        }
        return;
    }
    let others = [
        ("packages", !one.packages.is_empty()),
        ("files", !one.files.is_empty()),
        ("links", !one.links.is_empty()),
        ("keep", !one.keep.is_empty()),
        ("entrypoint", !one.entrypoint.is_empty()),
        ("dependencies", one.dependencies),
    ];
    for (key, _) in others.iter().filter(|(_, written)| *written) {
        findings.push(
            Finding::new("image-origin", format!("this image has an archive and `{key}`"))
                .at_key(image(index, key), "not used with an archive")
                .at_key(image(index, "archive"), "the whole image")
                .help("keep the archive, or the keys that compose an image"),
        );
    }
}

fn packages(index: usize, one: &WorkloadImage, findings: &mut Vec<Finding>) {
    for (position, package) in one.packages.iter().enumerate() {
        if !is_package_name(package) {
            findings.push(
                Finding::new("package", format!("\"{package}\" is not the name of a package"))
                    .at_value(image(index, "packages").index(position), "not a package")
                    .help("write the name alone, in lower case; the lock keeps versions"),
            );
        }
    }
    duplicates(one.packages.iter().map(Some), |first, second, package| {
        findings.push(
            Finding::new("duplicate", format!("package {package} is written twice"))
                .at_value(image(index, "packages").index(second), "again")
                .at_value(image(index, "packages").index(first), "first here")
                .help("leave one of them out"),
        );
    });
    let without_packages = [("keep", !one.keep.is_empty()), ("dependencies", one.dependencies)];
    for (key, _) in without_packages.iter().filter(|(_, written)| *written && one.packages.is_empty()) {
        if one.archive.is_none() {
            findings.push(
                Finding::new("image-origin", format!("`{key}` is about packages, and there are none"))
                    .at_key(image(index, key), "nothing to apply it to")
                    .help("add `packages`, or leave this out"),
            );
        }
    }
}

/// Debian Policy, section 5.6.1.
pub fn is_package_name(text: &str) -> bool {
    text.len() >= 2
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte))
}

fn paths(index: usize, one: &WorkloadImage, findings: &mut Vec<Finding>) {
    let keys = [("files", &one.files), ("links", &one.links)];
    for (key, target) in keys.iter().flat_map(|(key, map)| map.keys().map(move |target| (*key, target))) {
        if !is_plain_absolute(target) {
            findings.push(
                Finding::new("image-path", format!("\"{target}\" is not a path in an image"))
                    .at_key(image(index, key).key(target), "not an absolute path")
                    .help("begin with '/', without '.', '..', empty parts or a '/' at the end"),
            );
        }
    }
    for (target, source) in one.links.iter().filter(|(_, source)| source.is_empty()) {
        findings.push(
            Finding::new("image-path", format!("link \"{target}\" leads nowhere: \"{source}\""))
                .at_value(image(index, "links").key(target), "no target")
                .help("write the path that the link leads to"),
        );
    }
    for target in one.files.keys().filter(|target| one.links.contains_key(*target)) {
        findings.push(
            Finding::new("image-path", format!("\"{target}\" is both a file and a link"))
                .at_key(image(index, "links").key(target), "a link")
                .at_key(image(index, "files").key(target), "a file")
                .help("leave one of them out"),
        );
    }
    for (position, glob) in one.keep.iter().enumerate().filter(|(_, glob)| !glob.starts_with('/')) {
        findings.push(
            Finding::new("image-path", format!("\"{glob}\" matches no path in an image"))
                .at_value(image(index, "keep").index(position), "not absolute")
                .help("begin with '/': \"/bin/busybox\", \"/usr/share/zoneinfo/**\""),
        );
    }
}

fn is_plain_absolute(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for good in ["bootwright.local/web:1", "localhost/a/b:v1.2_3-x", "registry:5000/web:1"] {
            assert_eq!(reference(good), Ok(()), "{good}");
        }
        for bad in [
            "web",
            "web:1",
            "a/web:1",
            "x.y/web",
            "x.y/Web:1",
            "x.y/web:",
            "x.y/web:a b",
            "x.y/w@sha256:00",
            "x.y//w:1",
            "x.y:5/w",
        ] {
            assert!(reference(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_in_images() {
        assert!(is_plain_absolute("/srv/www/index.html"));
        for bad in ["", "/", "srv", "/srv/", "/srv//www", "/srv/../etc", "/./a"] {
            assert!(!is_plain_absolute(bad), "{bad}");
        }
    }
}
