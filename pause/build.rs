//! Link arguments: no start files and no libc, a static program at a fixed address.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Without separate segments for headers and code the file is below two pages.
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,-z,norelro,-z,noseparate-code,--build-id=none",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
