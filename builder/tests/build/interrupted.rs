//! Ctrl-C, a killed build, a lost connection: nothing half-written stays, and the next build goes on.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::sources::testing::Fault;
use crate::world::{Ended, Running, World, digests};

/// Far more than a stop takes, far less than the pieces of work that it has to break off.
const SOON: Duration = Duration::from_secs(10);
/// A second or so, and what a busy machine adds.
const AT_ONCE: Duration = Duration::from_secs(3);
/// Packages besides the payload, and the index.
const OTHERS: usize = 6;
/// The payload would take minutes like this.
const SLOWLY: Fault = Fault::Trickle(64 << 10, Duration::from_secs(2));

fn length(path: &std::path::Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

/// Starts a build and waits until a part of the payload has come, and everything else.
fn fetching(world: &World) -> Running {
    world.server.always(&world.payload(), SLOWLY);
    let mut build = world.start();
    build.until("a part of the payload and all else", || {
        length(&world.partial()) >= 64 << 10 && world.objects().len() == OTHERS
    });
    build
}

/// Starts a build and waits until it packs the root, with a program that takes two minutes and runs `before` first.
fn packing(world: &World, before: &str) -> Running {
    let started = world.path("started");
    world.tool("tar2sqfs", &format!("{before}\n: > {}\nexec /bin/sleep 120", started.display()));
    let mut build = world.start();
    build.until("packing", || started.exists());
    build
}

/// The build ends as one that was interrupted, and leaves nothing half-made.
fn assert_stopped(world: &World, build: Running, most: Duration) -> Ended {
    let ended = build.end_within(most);
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    world.assert_tidy();
    ended
}

/// The payload came in two parts, of which the second begins where the first ended.
fn assert_resumed(world: &World, part: u64) {
    assert!(part > 0);
    let requests = world.pool_requests();
    let payload: Vec<&String> =
        requests.iter().filter(|request| request.starts_with(&world.payload())).collect();
    assert_eq!(payload, [&world.payload(), &format!("{} {part}-", world.payload())]);
}

#[test]
fn ctrl_c_while_fetching_stops_soon_and_the_next_build_resumes() {
    let world = World::new();
    let build = fetching(&world);
    build.signal(Signal::INT);
    let ended = assert_stopped(&world, build, SOON);
    assert!(ended.said().ends_with("running the command again resumes from the cache"), "{}", ended.stderr);
    assert!(ended.said().contains("Ctrl-C again stops at once"), "{}", ended.stderr);
    assert_eq!(world.names("out"), [""; 0]);
    assert!(!world.path("bootwright.lock").exists());
    let part = length(&world.partial());

    world.server.heal(&world.payload());
    world.build().assert_built();
    assert_resumed(&world, part);
    assert_eq!(world.names("cache/partial"), [""; 0]);
    world.assert_tidy();
    assert_eq!(world.names("out"), ["all-in-one.json", "all-in-one.raw", "kubeconfig"]);
}

#[test]
fn a_killed_build_is_resumed_as_well() {
    let world = World::new();
    let build = fetching(&world);
    build.signal(Signal::KILL);
    assert_eq!(build.end_within(SOON).code, None);
    let part = length(&world.partial());
    world.server.heal(&world.payload());
    let ended = world.build();
    ended.assert_built();
    assert_resumed(&world, part);
    // The other packages had come before.
    assert!(ended.stderr.contains("1 file fetched"), "{}", ended.stderr);
}

#[test]
fn one_ctrl_c_does_not_wait_for_a_silent_server() {
    let world = World::new();
    world.server.always(&world.payload(), Fault::Trickle(64 << 10, Duration::from_secs(60)));
    let mut build = world.start();
    build.until("a part of the payload", || length(&world.partial()) > 0);
    build.signal(Signal::INT);
    assert_stopped(&world, build, AT_ONCE);
}

#[test]
fn ctrl_c_while_the_root_is_packed_ends_the_packer_and_keeps_what_was_fetched() {
    let world = World::new();
    let build = packing(&world, "");
    build.signal(Signal::INT);
    assert_stopped(&world, build, SOON);
    assert_eq!(world.names("cache/layers"), [""; 0]);
    assert_eq!(world.names("out"), [""; 0]);

    world.remove_tool("tar2sqfs");
    let before = world.pool_requests();
    let ended = world.build();
    ended.assert_built();
    assert_eq!(world.pool_requests(), before, "a package was fetched again");
    assert!(ended.stderr.contains("all from the cache"), "{}", ended.stderr);
}

#[test]
fn a_second_ctrl_c_takes_the_half_made_layer_along() {
    let world = World::new();
    // It cannot be ended as long as its output is held by a process of its own.
    let build = packing(&world, "/bin/sleep 30 &");
    build.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(300));
    build.signal(Signal::INT);
    assert_stopped(&world, build, SOON);
}

#[test]
fn a_connection_that_breaks_off_is_taken_up_again_within_the_build() {
    let world = World::new();
    world.server.once(&world.payload(), Fault::CutAfter(1_000_000));
    let ended = world.build();
    ended.assert_built();
    assert!(ended.stderr.contains("after 1000000 of"), "{}", ended.stderr);
    assert_resumed(&world, 1_000_000);

    // The same image as of a build that nothing came between.
    let first = digests(&world.path("out"))["all-in-one.raw"].clone();
    world.build().assert_built();
    assert_eq!(digests(&world.path("out"))["all-in-one.raw"], first);
}
