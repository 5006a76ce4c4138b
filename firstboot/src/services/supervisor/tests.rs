//! The supervisor with real processes, in a process of its own.
//!
//! Wants root and a writable cgroup v2 filesystem, as on a node.

mod place;

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use place::{Place, Seen, host};

use super::*;
use crate::services::cgroup::USUAL_WEIGHT;

fn position(lines: &[String], part: &str) -> usize {
    lines.iter().position(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part:?} in {lines:#?}"))
}

#[test]
fn services_start_when_what_they_need_is_ready_and_stop_in_reverse() {
    let place = Place::new();
    fs::write(place.path("watchdog"), "").unwrap();
    let mut running = place.start(
        r#"
        [[service]]
        name = "last"
        command = ["/bin/sh", "-c", "echo last of {node}; exec sleep 1000"]
        after = ["work"]
        [[service]]
        name = "base"
        command = ["/bin/sh", "-c", "echo $GREETING $PATH; ulimit -n; exec sleep 1000"]
        environment = { GREETING = "hello" }
        ready = { unix = "DIR/base.sock" }
        oom-score = 123
        [[service]]
        name = "work"
        command = ["/bin/sh", "-c", "echo working >> DIR/work"]
        after = ["base"]
        oneshot = true
        "#,
    );
    running.until("base runs and its probe fails", |r| {
        r.state("base").is_some_and(|s| s.state == "running" && s.last_error.is_some())
    });
    assert_eq!(running.state("work").unwrap().state, "waiting");
    assert!(running.state("base").unwrap().last_error.unwrap().contains("base.sock"));
    let _socket = UnixListener::bind(place.path("base.sock")).unwrap();
    running.until("all ready", |r| r.seen().contains(&Seen::Ready));
    assert_eq!(running.state("work").unwrap().state, "done");
    assert_eq!(place.read("work"), "working\n");
    let seen = running.seen();
    assert!(seen.contains(&Seen::Started));
    assert_eq!(seen.iter().filter(|s| matches!(s, Seen::Ready | Seen::Started)).count(), 2, "each once");

    let pid = fs::read_to_string(host(&place.path).cgroup.join("system/base/cgroup.procs")).unwrap();
    let pid = pid.trim();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap(), "123\n");
    assert_eq!(
        fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().split(' ').nth(5),
        Some(pid),
        "own session"
    );
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");

    running.until("last has printed", |_| place.read("logs/last.log").contains("last of cp1\n"));
    let (lines, ending) = running.stop(Signal::TERM);
    assert_eq!(ending, "PowerOff");
    assert!(position(&lines, "service last: stopped") < position(&lines, "service base: stopping"));
    // The machine of a test may not let a process raise its limits.
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let log = place.read("logs/base.log");
    let limit: u64 = log.lines().find_map(|line| line.parse().ok()).expect("what ulimit says");
    assert!(
        log.contains("hello /usr/sbin:/usr/bin:/sbin:/bin\n") && (limit == files || limit == 1_048_576),
        "{log}"
    );
    let watchdog = place.read("watchdog");
    assert!(watchdog.starts_with('1') && watchdog.ends_with('V'));
}

#[test]
fn one_that_keeps_ending_is_restarted_and_its_log_shown() {
    let place = Place::new();
    let mut running = place.start(
        r#"
        [[service]]
        name = "bad"
        command = ["/bin/sh", "-c", "echo cannot open the database; exit 3"]
        ready = { unix = "DIR/never" }
        restart-milliseconds = [50, 100]
        [[service]]
        name = "absent"
        command = ["/usr/bin/no-such-program"]
        restart-milliseconds = [50, 100]
        essential = false
        [[service]]
        name = "shot"
        command = ["/bin/sh", "-c", "kill -SEGV $$"]
        restart-milliseconds = [30000, 30000]
        "#,
    );
    running.until_line("service bad: exit code 3 (3 times in a row); starting again in 0.10 s");
    running.until_line("  | cannot open the database");
    running.until_line("cannot start /usr/bin/no-such-program: No such file or directory");
    running.until_line("service shot: killed by SIGSEGV");
    running.until("restarts counted", |r| r.state("bad").is_some_and(|s| s.restarts >= 5));
    assert_eq!(running.state("bad").unwrap().last_error.as_deref(), Some("exit code 3"));
    assert_eq!(running.state("shot").unwrap().state, "backing-off");
    assert!(!running.seen().contains(&Seen::Ready));
    let (_, ending) = running.stop(Signal::INT);
    assert_eq!(ending, "Reboot");
}

#[test]
fn a_one_shot_is_tried_until_it_succeeds_and_then_once_for_its_key() {
    let place = Place::new();
    fs::create_dir_all(place.path("root/var/lib/things/half")).unwrap();
    let services = r#"
        [[service]]
        name = "import"
        command = ["/bin/sh", "-c", "echo x >> DIR/tries; test $(wc -l < DIR/tries) -ge 3"]
        oneshot = true
        once = { key = "KEY-{root-hash}", clears = ["/var/lib/things"] }
        restart-milliseconds = [50, 50]
        "#;
    let mut running = place.start(services);
    running.until_line("service import: done in");
    running.until("the marker", |_| !place.read("done/import").is_empty());
    assert_eq!(place.read("done/import"), "KEY-abcd");
    assert!(!place.path.join("root/var/lib/things/half").exists(), "cleared: no marker was there");
    running.stop(Signal::TERM);

    fs::create_dir_all(place.path("root/var/lib/things/whole")).unwrap();
    let mut running = place.start(services);
    running.until_line("service import: done on an earlier boot");
    running.stop(Signal::TERM);
    assert_eq!(place.read("tries").lines().count(), 3);

    let mut running = place.start(&services.replace("KEY", "NEXT"));
    running.until_line("service import: done in");
    running.until("the new marker", |_| place.read("done/import") == "NEXT-abcd");
    assert!(place.path.join("root/var/lib/things/whole").exists(), "kept: the last run was whole");
    running.stop(Signal::TERM);
    assert_eq!(place.read("tries").lines().count(), 4);
}

#[test]
fn one_that_ignores_its_stop_signal_is_killed_with_its_children() {
    let place = Place::new();
    let mut running = place.start(
        r#"
        [[service]]
        name = "stubborn"
        command = ["/bin/sh", "-c", "trap '' TERM; sleep 1000 & echo ready; while :; do sleep 1000; done"]
        stop-seconds = 1
        [[service]]
        name = "polite"
        command = ["/bin/sh", "-c", "trap 'exit 0' QUIT; touch DIR/polite; while :; do sleep 0.02; done"]
        stop-signal = "SIGQUIT"
        "#,
    );
    running.until("both run", |_| {
        place.read("logs/stubborn.log").contains("ready") && place.path.join("polite").exists()
    });
    let (lines, _) = running.stop(Signal::POWER);
    position(&lines, "SIGPWR: stopping all services for a power-off");
    position(&lines, "service stubborn: did not stop in time: killed");
    position(&lines, "service stubborn: stopped");
    position(&lines, "service polite: stopped");
    place.until_empty("system/stubborn");
    assert!(place.read("logs/polite.log").contains("ended: exit code 0"), "by its own signal");
}

#[test]
fn what_a_service_leaves_behind_is_killed_and_orphans_are_reaped() {
    let place = Place::new();
    let mut running = place.start(
        r#"
        [[service]]
        name = "littering"
        command = ["/bin/sh", "-c", "sleep 1000 & echo $! >> DIR/left; exit 1"]
        restart-milliseconds = [100, 100]
        [[service]]
        name = "orphaning"
        command = ["/bin/sh", "-c", "(setsid sleep 0.05 &) ; (setsid sleep 0.05 &) ; touch DIR/orphaned; exec sleep 1000"]
        "#,
    );
    running.until("three runs", |_| {
        place.read("left").lines().count() >= 3 && place.path.join("orphaned").exists()
    });
    let first = place.read("left").lines().next().unwrap().to_owned();
    running.until("the first one's child is gone", |_| !Path::new("/proc").join(&first).exists());
    let pid = running.child.id();
    running.until("no zombies, and only the living below", |_| {
        children(pid).iter().all(|(_, state)| state != "Z")
    });
    running.until("orphans are gone", |_| children(pid).len() <= 3);
    running.stop(Signal::TERM);
}

/// Ids and states of the children of a process.
fn children(of: u32) -> Vec<(String, String)> {
    let stats = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| fs::read_to_string(e.path().join("stat")).ok());
    stats
        .filter_map(|stat| {
            let (id, rest) = stat.split_once(' ')?;
            let mut fields = rest.rsplit_once(") ")?.1.split(' ');
            let state = fields.next()?.to_owned();
            (fields.next()? == of.to_string()).then(|| (id.to_owned(), state))
        })
        .collect()
}

#[test]
fn workloads_end_first_and_survive_a_restart_of_their_service() {
    let place = Place::new();
    let mut running = place.start(
        r#"
        [[service]]
        name = "runtime"
        command = ["/bin/sh", "-c", "test -e DIR/shim || {{ sleep 1000 & echo $! > DIR/shim; }}; exec sleep 1000"]
        workloads = "pods"
        stop-seconds = 20
        restart-milliseconds = [50, 50]
        [[service]]
        name = "user"
        command = ["/bin/sleep", "1000"]
        after = ["runtime"]
        "#,
    );
    running.until("all ready", |r| r.seen().contains(&Seen::Ready));
    running.until("the shim", |_| place.read("shim").ends_with('\n'));
    // A pod: one that ends when asked, deeper in the tree, held by nobody.
    let pod = Leaf::make(&host(&place.path).cgroup, "pods/pod1").unwrap();
    let script = format!(
        "echo 0 > {}/pods/pod1/cgroup.procs; trap 'echo asked > {}; exit' TERM; while :; do sleep 0.02; done",
        host(&place.path).cgroup.display(),
        place.path("pod")
    );
    let mut process = Command::new("/bin/sh").args(["-c", &script]).spawn().unwrap();
    running.until("the pod runs", |_| pod.is_populated());

    let procs = fs::read_to_string(host(&place.path).cgroup.join("system/runtime/cgroup.procs")).unwrap();
    let shim = place.read("shim").trim().to_owned();
    let main = procs.lines().find(|pid| **pid != shim).expect("the service itself");
    kill_process(Pid::from_raw(main.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    running.until("restarted", |r| r.state("runtime").is_some_and(|s| s.restarts == 1 && s.state == "ready"));
    assert!(Path::new("/proc").join(&shim).exists(), "what holds the pods lives on");

    // Ended by the supervisor, but a child of this test.
    let waiter = thread::spawn(move || process.wait());
    let (lines, _) = running.stop(Signal::TERM);
    assert!(
        position(&lines, "service user: stopped") < position(&lines, "service runtime: ending its workloads")
    );
    assert!(
        position(&lines, "service runtime: ending its workloads")
            < position(&lines, "service runtime: stopping")
    );
    assert_eq!(place.read("pod"), "asked\n");
    waiter.join().unwrap().unwrap();
    place.until_empty("system/runtime");
}

#[test]
fn a_service_runs_as_its_user() {
    let place = Place::new();
    fs::create_dir_all(place.path("root/etc")).unwrap();
    fs::write(place.path("root/etc/passwd"), "clock:x:12345:12346::/:\n").unwrap();
    fs::write(place.path("root/etc/group"), "clock:x:12346:\ntime:x:12347:clock\n").unwrap();
    let mut running = place.start(
        r#"
        [[service]]
        name = "clock"
        command = ["/bin/sh", "-c", "grep -E '^(Uid|Gid|Groups)' /proc/self/status; exec sleep 1000"]
        user = "clock"
        [[service]]
        name = "nobody"
        command = ["/bin/sleep", "1000"]
        user = "somebody"
        restart-milliseconds = [30000, 30000]
        "#,
    );
    running.until_line("cannot look up user \"somebody\"");
    running.until("printed", |_| place.read("logs/clock.log").contains("Groups"));
    let log = place.read("logs/clock.log");
    assert!(log.contains("Uid:\t12345\t12345\t12345\t12345\nGid:\t12346\t12346\t12346\t12346"), "{log}");
    assert!(log.contains("Groups:\t12346 12347"), "{log}");
    running.stop(Signal::TERM);
}

#[test]
fn a_readiness_that_comes_back_restarts_what_waited() {
    let place = Place::new();
    let mut running = place.start(
        r#"
        [[service]]
        name = "base"
        command = ["/bin/sh", "-c", "while ! test -e DIR/end; do sleep 0.02; done; rm DIR/end; exit 1"]
        ready = { unix = "DIR/sock" }
        restart-milliseconds = [50, 50]
        [[service]]
        name = "upper"
        command = ["/bin/sh", "-c", "echo run >> DIR/upper; while ! test -e DIR/fall; do sleep 0.02; done; exit 1"]
        after = ["base"]
        restart-milliseconds = [50, 50]
        "#,
    );
    let socket = UnixListener::bind(place.path("sock")).unwrap();
    running.until("upper runs", |_| place.read("upper").lines().count() == 1);
    drop(socket);
    fs::remove_file(place.path("sock")).unwrap();
    fs::write(place.path("end"), "").unwrap();
    running.until("base runs again", |r| {
        r.state("base").is_some_and(|s| s.restarts == 1 && s.state == "running")
    });
    fs::write(place.path("fall"), "").unwrap();
    running.until("upper waits", |r| r.state("upper").is_some_and(|s| s.state == "waiting"));
    assert_eq!(place.read("upper").lines().count(), 1);
    fs::remove_file(place.path("fall")).unwrap();
    let _socket = UnixListener::bind(place.path("sock")).unwrap();
    running.until("upper runs again", |_| place.read("upper").lines().count() == 2);
    running.stop(Signal::TERM);
}

#[test]
fn the_share_of_the_processors_is_another_one_until_a_service_is_ready() {
    let place = Place::with_plain_cgroup(&["slow", "plain"]);
    let mut running = place.start(
        r#"
        [[service]]
        name = "slow"
        command = ["/bin/sleep", "1000"]
        ready = { unix = "DIR/slow.sock" }
        cpu-weight = 200
        starting-cpu-weight = 400
        [[service]]
        name = "plain"
        command = ["/bin/sleep", "1000"]
        ready = { unix = "DIR/plain.sock" }
        "#,
    );
    let weight = |name: &str| place.read(&format!("cgroup/system/{name}/cpu.weight"));
    running.until("both run", |r| {
        ["slow", "plain"].iter().all(|name| r.state(name).is_some_and(|s| s.state == "running"))
    });
    assert_eq!((weight("slow"), weight("plain")), ("400".to_owned(), USUAL_WEIGHT.to_string()));
    assert_eq!(place.read("cgroup/system/cgroup.subtree_control"), "+cpu");
    // What somebody else sets stays with a service that has one share only.
    fs::write(place.path("cgroup/system/plain/cpu.weight"), "7").unwrap();
    let _sockets = ["slow.sock", "plain.sock"].map(|name| UnixListener::bind(place.path(name)).unwrap());
    running.until("all ready", |r| r.seen().contains(&Seen::Ready));
    assert_eq!((weight("slow"), weight("plain")), ("200".to_owned(), "7".to_owned()));
    running.stop(Signal::TERM);
}
