//! The supervisor with real processes. It runs in a process of its own, this test program started again, because
//! it waits for every child there is and takes signals; orphans come to it as to PID 1 (PR_SET_CHILD_SUBREAPER).
//!
//! Wants root and a writable cgroup v2 filesystem, as on a node.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use bootwright_model::node::NodeFacts;
use bootwright_model::profile::Profile;
use serde::{Deserialize, Serialize};

use super::*;
use crate::services::prepare;

/// No step here takes this long; a test that hangs has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// Names the folder of a test for the process that supervises.
const FOLDER: &str = "BOOTWRIGHT_TEST_FOLDER";

/// What an observer saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Seen {
    Line(String),
    Services(Vec<ServiceState>),
    Started,
    Ready,
    Ended(String),
}

struct Recorder(File);

impl Recorder {
    fn write(&mut self, seen: &Seen) {
        writeln!(self.0, "{}", serde_json::to_string(seen).unwrap()).unwrap();
    }
}

impl Observer for Recorder {
    fn line(&mut self, line: &str) {
        self.write(&Seen::Line(line.to_owned()));
    }
    fn services(&mut self, services: Vec<ServiceState>) {
        self.write(&Seen::Services(services));
    }
    fn services_started(&mut self) {
        self.write(&Seen::Started);
    }
    fn ready(&mut self) {
        self.write(&Seen::Ready);
    }
    fn uptime_ms(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        now.tv_sec.cast_unsigned() * 1000 + now.tv_nsec.cast_unsigned() / 1_000_000
    }
}

fn cgroup2() -> PathBuf {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mountinfo.lines().find(|line| line.contains(" - cgroup2 "));
    let line =
        line.expect("these tests need a cgroup v2 filesystem: mount -t cgroup2 none /sys/fs/cgroup/unified");
    PathBuf::from(line.split(' ').nth(4).unwrap())
}

fn host(folder: &Path) -> Host {
    let name = format!("bootwright-test-{}", folder.file_name().unwrap().to_str().unwrap());
    Host {
        root: folder.join("root"),
        cgroup: cgroup2().join(name),
        // What the filesystem of a test machine offers differs; a leaf needs none.
        controllers: &[],
        logs: folder.join("logs"),
        log_cap: 1 << 20,
        markers: folder.join("done"),
        ca: folder.join("ca.crt"),
        watchdog: folder.join("watchdog"),
        input: folder.join("input"),
        pid1: false,
    }
}

fn facts() -> NodeFacts {
    serde_json::from_value(serde_json::json!({
        "name": "cp1", "address": "10.20.0.10/24", "gateway": null, "link": "eth0", "pod-cidr": "10.10.0.0/24",
        "layer": {
            "file": {
                "cluster": { "name": "harbor", "endpoint": "10.20.0.10", "pod-cidr": "10.10.0.0/16",
                             "service-cidr": "10.96.0.0/16" },
                "kubernetes": { "version": "1.20.2" }
            },
            "role": "all-in-one", "epoch": 0, "root-hash": "abcd"
        },
        "os": { "kernel-release": "6.1.0", "kubernetes": "1.20.2", "containerd": "1.6.20",
                "etcd": "3.4.23", "pause-image": "bootwright.local/pause:1", "images": [] }
    }))
    .unwrap()
}

fn profile(services: &str) -> Profile {
    let head = "role = \"test\"\ndescription = \"\"\nkubernetes = []\npackages = { install = [] }\n\
                kernel = { flavour = \"cloud\", modules = [], initramfs-modules = [] }\n";
    toml::from_str(&format!("{head}{services}")).unwrap()
}

/// The process that supervises; started by [`Running::start`], never by itself.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn supervise() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("started by another test"));
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let host = host(&folder);
    let seen = OpenOptions::new().append(true).create(true).open(folder.join("seen")).unwrap();
    let mut recorder = Recorder(seen);
    let profile = profile(&fs::read_to_string(folder.join("services.toml")).unwrap());
    let definitions = prepare(&host, &profile, &facts()).unwrap();
    let ended = Supervisor::new(&host, definitions, &mut recorder).unwrap().run();
    if let Some(watchdog) = ended.watchdog {
        watchdog.disarm();
    }
    recorder.write(&Seen::Ended(format!("{:?}", ended.ending)));
}

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A test's folder and cgroup, removed at its end with every process in it.
struct Place {
    path: PathBuf,
}

impl Place {
    fn new() -> Place {
        let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("root")).unwrap();
        fs::create_dir(host(&path).cgroup).expect("these tests need to be root and to write to cgroup v2");
        Place { path }
    }

    fn path(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path.join(name)).unwrap_or_default()
    }

    fn leaf(&self, name: &str) -> Leaf {
        Leaf::at(&host(&self.path).cgroup, name)
    }

    fn start(&self, services: &str) -> Running<'_> {
        fs::write(self.path.join("services.toml"), services.replace("DIR", self.path.to_str().unwrap()))
            .unwrap();
        let _ = fs::remove_file(self.path.join("seen"));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "services::supervisor::tests::supervise", "--nocapture"])
            .env(FOLDER, &self.path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Running { place: self, child }
    }
}

impl Place {
    /// What was killed takes the kernel a moment to end.
    fn until_empty(&self, cgroup: &str) {
        let start = Instant::now();
        while self.leaf(cgroup).is_populated() {
            assert!(start.elapsed() < LIMIT, "{cgroup:?} is not empty");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leaf("").kill();
        if !thread::panicking() {
            self.until_empty("");
        }
        remove_cgroup(&host(&self.path).cgroup);
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

struct Running<'a> {
    place: &'a Place,
    child: Child,
}

impl Running<'_> {
    fn seen(&self) -> Vec<Seen> {
        let text = self.place.read("seen");
        // The last line may be half written.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn lines(&self) -> Vec<String> {
        let line = |seen| if let Seen::Line(line) = seen { Some(line) } else { None };
        self.seen().into_iter().filter_map(line).collect()
    }

    fn state(&self, name: &str) -> Option<ServiceState> {
        let services =
            |seen: &Seen| if let Seen::Services(services) = seen { Some(services.clone()) } else { None };
        let last = self.seen().iter().rev().find_map(services)?;
        last.into_iter().find(|service| service.name == name)
    }

    fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < LIMIT, "{what} never came; seen: {:#?}", self.lines());
            assert!(self.child.try_wait().unwrap().is_none() || condition(self), "ended before {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn until_line(&mut self, part: &str) {
        self.until(part, |running| running.lines().iter().any(|line| line.contains(part)));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it, and gives the lines it said from then on, and how it ended.
    fn stop(mut self, signal: Signal) -> (Vec<String>, String) {
        let before = self.lines().len();
        self.signal(signal);
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < LIMIT, "it does not stop; seen: {:#?}", self.lines());
            thread::sleep(Duration::from_millis(5));
        }
        let Some(Seen::Ended(ending)) = self.seen().pop() else { panic!("no end: {:#?}", self.seen()) };
        (self.lines().split_off(before), ending)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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
