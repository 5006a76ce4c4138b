//! Machines on the lab's switch: they join by themselves, their pods reach each other, and nothing is left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod ha;
mod members;
mod pods;
mod stranger;
mod two;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use bootwright::lab::api::Api;
use bootwright::lab::cluster::status::{NodeStatus, Power};
use bootwright::lab::cluster::{Request, Status, Supervisor, commands};
use bootwright::lab::switch::Fault;
use bootwright::validate::{self, Expected, Report};
use qemu_tests::{FIRST_SERVICES, Image, READY, STOP};
use serde_json::Value;

/// How long a healed switch may take until the API answers again: a lost segment is sent again after seconds.
const HEALED: Duration = Duration::from_secs(60);
/// Nodes that pods of users run on.
const WORKERS: [&str; 3] = ["w1", "w2", "w3"];

#[test]
#[ignore = "four emulated machines keep two processors busy for a quarter of an hour: ./run lab-test"]
fn four_nodes_make_a_cluster_by_themselves_and_leave_nothing() {
    let image = Image::of_four();
    let output = image.root();
    // What an earlier run left that was killed.
    commands::down(output, true).unwrap();
    let options = image.lab_options();
    let expected = Expected::of(&options.cluster);
    let mut lab = Supervisor::start(options, &mut |line| println!("{line}")).unwrap();
    // Four machines share the processors that a test of one has for itself.
    wait(&mut lab, "Ready", 2 * READY, Status::is_ready);
    let api = lab.api().unwrap();
    nodes_are_what_the_cluster_file_says(&api);
    let deadline = Instant::now() + READY;
    certificates_were_issued(&api, deadline);
    pods::reach_each_other(&api, &WORKERS, deadline);
    validated(&lab, expected, READY);
    let log = commands::logs(output, "w2", Some("join")).unwrap();
    assert!(log.contains("started as process"), "{log}");

    a_cut_takes_the_api_away_and_heals(&mut lab, &api);
    a_plug_pulled_is_no_end(&mut lab);
    pods::started_again(&api, "w1", Instant::now() + READY);
    pods::reach_each_other(&api, &WORKERS, Instant::now() + READY);
    a_power_button_stops_one(&mut lab);

    let folder = lab.folder().path().to_owned();
    assert_eq!(lab.end(false, |_| {}).unwrap(), [] as [String; 0], "none had to be killed");
    assert!(!folder.exists());
    assert_eq!(commands::down(output, false).unwrap(), None);
}

/// Ranges, labels and the taint.
fn nodes_are_what_the_cluster_file_says(api: &Api) {
    let node = |name: &str| api.get(&format!("/api/v1/nodes/{name}")).unwrap();
    let control_plane = node("cp1");
    assert_eq!(control_plane["spec"]["podCIDR"], "10.10.0.0/24");
    assert_eq!(control_plane["spec"]["taints"][0]["effect"], "NoSchedule");
    for (index, name) in WORKERS.iter().enumerate() {
        let worker = node(name);
        assert_eq!(worker["spec"]["podCIDR"], format!("10.10.{}.0/24", index + 1), "{name}");
        assert!(worker["spec"]["taints"].is_null(), "{name}: {}", worker["spec"]["taints"]);
    }
    assert_eq!(node("w1")["metadata"]["labels"]["disk"], "fast");
}

/// Each worker asks for two certificates and gets them without a hand.
fn certificates_were_issued(api: &Api, deadline: Instant) {
    loop {
        let requests = api.get("/apis/certificates.k8s.io/v1/certificatesigningrequests").unwrap();
        let issued = |signer: &str| {
            let requests = requests["items"].as_array().into_iter().flatten();
            let issued = requests.filter(|request| request["status"]["certificate"].is_string());
            issued.filter(|request| request["spec"]["signerName"] == signer).count()
        };
        let client = issued("kubernetes.io/kube-apiserver-client-kubelet");
        if client >= WORKERS.len() && issued("kubernetes.io/kubelet-serving") >= WORKERS.len() {
            return;
        }
        assert!(Instant::now() < deadline, "{}", names(&requests));
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn names(requests: &Value) -> String {
    let line = |request: &Value| {
        format!(
            "{} {} {}\n",
            request["spec"]["username"], request["spec"]["signerName"], request["status"]["conditions"]
        )
    };
    requests["items"].as_array().into_iter().flatten().map(line).collect()
}

fn a_cut_takes_the_api_away_and_heals(lab: &mut Supervisor, api: &Api) {
    let cut = Request::Add { one: "cp1".to_owned(), other: Some("outside".to_owned()), fault: Fault::Cut };
    assert_eq!(lab.obey(cut).unwrap().faults.len(), 1);
    assert!(api.get("/version").is_err());
    assert!(lab.obey(Request::Heal { one: None, other: None }).unwrap().faults.is_empty());
    let begin = Instant::now();
    while let Err(error) = api.get("/version") {
        assert!(begin.elapsed() < HEALED, "{error}");
    }
}

/// A worker whose power fails is a member again after the next boot, with the certificate that it had.
fn a_plug_pulled_is_no_end(lab: &mut Supervisor) {
    let process = format!("/proc/{}", of(&lab.status().unwrap(), "w1").process_id.unwrap());
    assert!(Path::new(&process).exists());
    assert!(lab.obey(Request::Start { node: "w1".to_owned(), reflash: false }).is_err());
    lab.obey(Request::Kill("w1".to_owned())).unwrap();
    assert!(!Path::new(&process).exists());
    lab.obey(Request::Start { node: "w1".to_owned(), reflash: false }).unwrap();
    wait(lab, "Ready again", READY, Status::is_ready);
}

fn a_power_button_stops_one(lab: &mut Supervisor) {
    lab.obey(Request::Stop("w3".to_owned())).unwrap();
    let stopped = wait(lab, "w3 stopped", STOP, |status| of(status, "w3").power == Power::Off);
    assert_eq!(of(&stopped, "w3").stage, "stopped");
    let loss = Fault::Loss(10.0);
    lab.obey(Request::Add { one: "w3".to_owned(), other: None, fault: loss }).unwrap();
    lab.obey(Request::Start { node: "w3".to_owned(), reflash: true }).unwrap();
    wait(lab, "w3 booted", FIRST_SERVICES, |status| of(status, "w3").stage.contains("services"));
}

/// What `bootwright validate` says of the cluster, which is that all is well.
fn validated(lab: &Supervisor, expected: Expected, patience: Duration) -> Report {
    let report = validate::validate(&validate::Options {
        kubeconfig: &lab.folder().path().join("kubeconfig"),
        expected: Some(expected),
        patience,
        say: &|words| println!("{words}"),
    });
    let report = report.unwrap();
    println!("{}", report.text());
    if !report.ok {
        for node in lab.status().unwrap().nodes {
            let log = format!("/api/v1/nodes/{}/proxy/logs/services/kubelet.log", node.name);
            let log = lab.api().unwrap().text(&log).unwrap_or_else(|error| error.to_string());
            let lines: Vec<&str> = log.lines().collect();
            println!("kubelet of {}:\n{}", node.name, lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
    assert!(report.ok, "see above");
    report
}

fn of<'a>(status: &'a Status, name: &str) -> &'a NodeStatus {
    status.nodes.iter().find(|node| node.name == name).unwrap()
}

fn wait(lab: &mut Supervisor, what: &str, limit: Duration, done: impl Fn(&Status) -> bool) -> Status {
    let begin = Instant::now();
    let mut stages: Vec<String> = Vec::new();
    let outcome = lab.run(|status| {
        let now: Vec<String> =
            status.nodes.iter().map(|node| format!("{}: {}", node.name, node.stage)).collect();
        if now != stages {
            println!("[{:7.1}] {}", begin.elapsed().as_secs_f64(), now.join("; "));
            stages = now;
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
