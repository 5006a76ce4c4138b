//! A filesystem that fills up: one of a few megabytes, in a mount namespace of the test's own.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use bootwright::digests::sha256;

use crate::world::{Ended, World};

/// Runs `build` with a small filesystem mounted at `folder`; its files are copied to `<folder>.after`.
///
/// The namespace needs no root. Where it cannot be had, the test fails.
fn build_on_small_disk(world: &World, folder: &str, bytes: u64, prepare: &str) -> Ended {
    let script = format!(
        "set -e\nmkdir -p {folder} after\nmount -t tmpfs -o size={bytes} small {folder}\n{prepare}\n\
         code=0\n\"$@\" || code=$?\ncp -a --sparse=always {folder}/. after/\nexit $code\n"
    );
    let build = world.command();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
    command.arg(build.get_program()).args(build.get_args());
    command.current_dir(world.path("."));
    for (name, value) in build.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Ended::from(command.output().expect("unshare (package util-linux) runs"))
}

#[test]
fn no_room_for_the_image_leaves_the_previous_one_as_it_was() {
    let world = World::new();
    world.build().assert_built();
    let image = world.path("out/all-in-one.raw");
    let previous = sha256(&std::fs::read(&image).unwrap());
    let allocated = image.metadata().unwrap().blocks() * 512;
    std::fs::rename(world.path("out"), world.path("previous")).unwrap();

    let room = allocated + (1 << 20);
    let ended = build_on_small_disk(&world, "out", room, "cp --sparse=always previous/all-in-one.raw out/");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let said = ended.said();
    for expected in
        ["no space left for out/all-in-one.raw", "are free", "make room there", "another folder with -o"]
    {
        assert!(said.contains(expected), "{expected}: {}", ended.stderr);
    }
    assert_eq!(world.names("after"), ["all-in-one.raw"]);
    assert_eq!(sha256(&std::fs::read(world.path("after/all-in-one.raw")).unwrap()), previous);
}

#[test]
fn no_room_in_the_cache_is_said_before_anything_is_fetched() {
    let world = World::new();
    let ended = build_on_small_disk(&world, "cache", 3 << 20, "");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let said = ended.said();
    for expected in ["no space left for", "more bytes are needed", "make room there", "XDG_CACHE_HOME"] {
        assert!(said.contains(expected), "{expected}: {}", ended.stderr);
    }
    assert_eq!(world.pool_requests(), [""; 0]);
}

/// The packages fit, their contents and the layer do not.
#[test]
fn no_room_for_the_layer_says_so_and_leaves_no_part_of_it() {
    let world = World::new();
    world.build().assert_built();
    std::fs::rename(world.path("cache"), world.path("kept")).unwrap();
    let packages: u64 = 5 << 20;
    for (more, what) in [(2 << 20, "unpacking"), (6 << 20, "packing")] {
        let _ = std::fs::remove_dir_all(world.path("after"));
        let ended = build_on_small_disk(&world, "cache", packages + more, "cp -a kept/objects cache/");
        assert_eq!(ended.code, Some(1), "{what}: {}", ended.stderr);
        let said = ended.said();
        for expected in ["no space left for", " free", "make room there", "XDG_CACHE_HOME"] {
            assert!(said.contains(expected), "{what}: {expected}: {}", ended.stderr);
        }
        assert_eq!(world.names("after/tmp"), [""; 0], "{what}");
        assert_eq!(world.names("after/layers"), [""; 0], "{what}");
    }
}
