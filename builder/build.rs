//! Gives the program a digest of the source code that decides what an OS layer looks like, so that the
//! cache never serves a layer that other code made. A digest of the program itself would do that too,
//! but would make the image depend on the folder and the compiler that the program was built with.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Folders whose code is part of the recipe, relative to this package.
const RECIPE: [&str; 2] = ["src/rootfs", "src/image"];

/// Embedded by include_dir, whose macro notices changed files but not new ones.
const EMBEDDED: [&str; 2] = ["../profiles", "../rootfs-overlays"];

fn main() {
    for folder in EMBEDDED {
        println!("cargo:rerun-if-changed={folder}");
    }
    let mut files = Vec::new();
    for folder in RECIPE {
        println!("cargo:rerun-if-changed={folder}");
        collect(Path::new(folder), &mut files);
    }
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        let bytes =
            std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        hash.update(format!("{}\0{}\0", path.display(), bytes.len()));
        hash.update(bytes);
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("cargo:rustc-env=BOOTWRIGHT_RECIPE={digest}");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("cannot read {}: {error}", folder.display()));
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("cannot read {}: {error}", folder.display())).path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
