//! Rebuilds when a file is added to what is embedded: include_dir's macro only notices changed ones.

fn main() {
    println!("cargo::rerun-if-changed=../profiles");
    println!("cargo::rerun-if-changed=../rootfs-overlays");
}
