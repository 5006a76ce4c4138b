//! Host tools that are not there: said before anything is done.

use std::os::unix::fs::symlink;

use crate::world::World;

/// The host tools of a build, with their packages.
const TOOLS: [(&str, &str); 3] =
    [("tar2sqfs", "squashfs-tools-ng"), ("grub-mkimage", "grub-common"), ("gpgv", "gpgv")];

#[test]
fn each_is_named_with_its_package_before_any_work() {
    for (missing, package) in TOOLS {
        let world = World::new();
        std::fs::create_dir(world.path("only")).unwrap();
        for (name, _) in TOOLS.iter().filter(|(name, _)| *name != missing) {
            // Looked for, and never run: any program will do.
            symlink("/bin/true", world.path(&format!("only/{name}"))).unwrap();
        }
        let before = world.names(".");
        let output = world.command().env("PATH", world.path("only")).output().unwrap();
        let ended = crate::world::Ended::from(output);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let expected = format!(
            "the program `{missing}` is not in PATH; it comes with Debian's package {package}: install it and \
             run this again"
        );
        assert!(ended.said().contains(&expected), "{}", ended.stderr);
        assert_eq!(world.names("."), before, "something was made before the tool was missed");
        assert_eq!(world.server.requests(), [""; 0]);
    }
}

/// The signature is what gpgv is for, and a lock has none to check.
#[test]
fn with_a_lock_no_gpgv_is_needed() {
    let world = World::new();
    world.build().assert_built();
    std::fs::create_dir(world.path("only")).unwrap();
    for name in ["tar2sqfs", "grub-mkimage"] {
        symlink("/bin/true", world.path(&format!("only/{name}"))).unwrap();
    }
    let output = world.command().env("PATH", world.path("only")).output().unwrap();
    crate::world::Ended::from(output).assert_built();
}
