//! A lab on the switch: up, cut and healed, stopped and started, killed, and nothing left of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use bootwright::lab::cluster::status::{NodeStatus, Power};
use bootwright::lab::cluster::{Request, Status, Supervisor, commands};
use bootwright::lab::switch::Fault;
use qemu_tests::{FIRST_SERVICES, Image, READY, STOP};

/// How long a healed switch may take until the API answers again: a lost segment is sent again after seconds.
const HEALED: Duration = Duration::from_secs(60);

#[test]
fn a_lab_is_reached_through_its_switch_and_leaves_nothing() {
    let image = Image::under_test();
    let output = image.root();
    // What an earlier run left that was killed.
    commands::down(output, true).unwrap();
    let mut lab = Supervisor::start(image.lab_options(), &mut |line| println!("{line}")).unwrap();
    wait(&mut lab, "Ready", READY, Status::is_ready);
    let api = lab.api().unwrap();
    assert_eq!(api.get("/version").unwrap()["gitVersion"], "v1.20.2");
    let name = image.node().name.clone();

    let cut = Request::Add { one: name.clone(), other: None, fault: Fault::Cut };
    assert_eq!(lab.obey(cut).unwrap().faults, [format!("{name}: cut")]);
    assert!(api.get("/version").is_err());
    assert!(lab.obey(Request::Heal { one: None, other: None }).unwrap().faults.is_empty());
    let begin = Instant::now();
    while let Err(error) = api.get("/version") {
        assert!(begin.elapsed() < HEALED, "{error}");
    }

    lab.obey(Request::Stop(name.clone())).unwrap();
    let stopped = wait(&mut lab, "stopped", STOP, |status| node(status).power == Power::Off);
    assert_eq!(node(&stopped).stage, "stopped");
    let loss = Fault::Loss(10.0);
    lab.obey(Request::Add { one: name.clone(), other: Some("outside".to_owned()), fault: loss }).unwrap();
    lab.obey(Request::Start { node: name.clone(), reflash: false }).unwrap();
    let booted = wait(&mut lab, "booted", FIRST_SERVICES, |status| node(status).stage.contains("services"));
    let process = format!("/proc/{}", node(&booted).process_id.unwrap());
    assert!(Path::new(&process).exists());
    assert!(lab.obey(Request::Start { node: name.clone(), reflash: false }).is_err());
    lab.obey(Request::Kill(name)).unwrap();
    assert!(!Path::new(&process).exists());

    let folder = lab.folder().path().to_owned();
    assert!(lab.end(false, |_| {}).unwrap().is_empty());
    assert!(!folder.exists());
    assert_eq!(commands::down(output, false).unwrap(), None);
}

fn node(status: &Status) -> &NodeStatus {
    &status.nodes[0]
}

fn wait(lab: &mut Supervisor, what: &str, limit: Duration, done: impl Fn(&Status) -> bool) -> Status {
    let begin = Instant::now();
    let mut stage = String::new();
    let outcome = lab.run(|status| {
        if node(status).stage != stage {
            stage.clone_from(&node(status).stage);
            println!("[{:7.1}] {stage}", begin.elapsed().as_secs_f64());
        }
        if done(status) {
            return ControlFlow::Break(Ok(status.clone()));
        }
        let late = begin.elapsed() > limit || status.failure().is_some();
        if late { ControlFlow::Break(Err(status.clone())) } else { ControlFlow::Continue(()) }
    });
    match outcome.unwrap().unwrap() {
        Ok(status) => {
            println!("{what} after {:.1} s", begin.elapsed().as_secs_f64());
            status
        }
        Err(status) => panic!("not {what}: {status:?}\n{}", lab.last_words().join("\n")),
    }
}
