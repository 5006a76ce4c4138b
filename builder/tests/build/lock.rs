//! `plan` beside `build`: what is planned is what is built, and a lock that does not fit is said by both.

use std::process::Command;

use crate::world::{Ended, World};

fn plan(world: &World, arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootwright"));
    command.args(["plan", "--cache", "cache"]).args(arguments).current_dir(world.path("."));
    Ended::from(command.output().unwrap())
}

fn inputs(world: &World) -> serde_json::Value {
    let ended = plan(world, &["--json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let plan: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    plan["inputs"].clone()
}

#[test]
fn a_plan_before_and_after_a_build() {
    let world = World::new();
    let before = world.names(".");
    assert_eq!(inputs(&world)["lock-state"], "absent");
    assert_eq!(world.names("."), before, "a plan made something");
    assert_eq!(world.server.requests(), [""; 0]);

    world.build().assert_built();
    let found = inputs(&world);
    assert_eq!(found["lock-state"], "fits");
    assert_eq!(found["total"]["inputs"], 7);
    assert_eq!(found["to-fetch"]["inputs"], 0);
    let payload = found["packages"].as_array().unwrap().iter().find(|one| one["name"] == "payload").unwrap();
    assert_eq!((&payload["version"], &payload["place"]), (&"1".into(), &"cache".into()));

    // An input that is gone is what a build would fetch.
    let sha256 = payload["sha256"].as_str().unwrap();
    std::fs::remove_file(world.path(&format!("cache/objects/{}/{sha256}", &sha256[..2]))).unwrap();
    let found = inputs(&world);
    assert_eq!(found["to-fetch"]["bytes"], payload["size"]);
    assert!(plan(&world, &[]).stdout.ends_with("  to fetch      payload\n"));

    // Unless what it goes into is finished.
    let finished = plan(&world, &["--runtime", "runtime"]).stdout;
    let end = "  OS layer      of all-in-one: in the cache, finished\n  to fetch      nothing\n";
    assert!(finished.ends_with(end), "{finished}");
    let requests = world.server.requests();
    world.build().assert_built();
    assert_eq!(world.server.requests(), requests);
    std::fs::remove_dir_all(world.path("cache/layers")).unwrap();
    let lost = plan(&world, &["--runtime", "runtime"]).stdout;
    assert!(lost.contains("of all-in-one: not in the cache"), "{lost}");
    assert!(lost.ends_with("  to fetch      payload\n"), "{lost}");
}

#[test]
fn plan_and_build_name_the_same_difference() {
    let world = World::new();
    world.build().assert_built();
    let profile = std::fs::read_to_string(world.path("profiles/all-in-one.toml")).unwrap();
    world.write(
        "profiles/all-in-one.toml",
        profile.replace("\"payload\"]", "\"payload\", \"chrony\"]").as_bytes(),
    );
    let difference = "the packages of set \"os/all-in-one\" changed (+chrony)";
    let planned = plan(&world, &[]);
    assert_eq!(planned.code, Some(0), "{}", planned.stderr);
    assert!(planned.stdout.contains(difference), "{}", planned.stdout);
    assert!(planned.stdout.contains("`bootwright build --update` renews it"), "{}", planned.stdout);
    let built = world.build();
    assert_eq!(built.code, Some(1));
    assert!(built.said().contains(difference), "{}", built.stderr);
    assert!(built.said().contains("--update"), "{}", built.stderr);
}

#[test]
fn a_lock_that_is_damaged_is_refused_by_both() {
    let world = World::new();
    world.write("bootwright.lock", b"version = 1\nsuite = \"bookworm\"\nepoch = \n");
    for ended in [plan(&world, &[]), world.build()] {
        assert_eq!(ended.code, Some(1));
        let said = ended.said();
        for expected in ["bootwright.lock", "line 3, column 9", "--update"] {
            assert!(said.contains(expected), "{expected}: {}", ended.stderr);
        }
    }
}

#[test]
fn a_lock_that_is_damaged_is_made_anew_on_request() {
    let world = World::new();
    world.write("bootwright.lock", b"version = 1\nsuite = \"bookworm\"\nepoch = \n");
    let ended = Ended::from(world.command().arg("--update").output().unwrap());
    ended.assert_built();
    assert!(ended.stderr.contains("warning: the lock is made anew, because"), "{}", ended.stderr);
    assert_eq!(inputs(&world)["lock-state"], "fits");
}

/// The last line is what to do next, whichever command found the mistake.
#[test]
fn check_plan_and_build_end_a_bad_cluster_file_in_the_same_words() {
    let world = World::new();
    let text = world.cluster_file(&world.server.url()).replace("10.10.0.0/16", "10.96.0.0/16");
    world.write("cluster.toml", text.as_bytes());
    let check = Command::new(env!("CARGO_BIN_EXE_bootwright"))
        .arg("check")
        .current_dir(world.path("."))
        .output()
        .unwrap();
    let check = Ended::from(check);
    assert!(
        check.stderr.ends_with(
            "1 error in cluster.toml. Correct it, then ask again with `bootwright check -f cluster.toml`.\n"
        ),
        "{}",
        check.stderr
    );
    for ended in [plan(&world, &[]), world.build()] {
        assert_eq!((ended.code, &ended.stderr), (Some(2), &check.stderr));
    }
}
