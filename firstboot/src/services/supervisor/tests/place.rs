//! A test's folder and cgroup, and the process in it that supervises: this test program started again, because it
//! waits for every child there is and takes signals; orphans come to it as to PID 1 (PR_SET_CHILD_SUBREAPER).

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bootwright_model::node::NodeFacts;
use bootwright_model::profile::Profile;
use bootwright_model::report::ServiceState;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::services::cgroup::{CPU, Leaf};
use crate::services::{Host, Observer, Supervisor, prepare};

/// No step here takes this long; a test that hangs has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// Folder in place of a cgroup filesystem, if a test has it.
const PLAIN_CGROUP: &str = "cgroup";
/// Names the folder of a test for the process that supervises.
const FOLDER: &str = "BOOTWRIGHT_TEST_FOLDER";

/// What an observer saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Seen {
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

pub(super) fn host(folder: &Path) -> Host {
    let name = format!("bootwright-test-{}", folder.file_name().unwrap().to_str().unwrap());
    let plain = folder.join(PLAIN_CGROUP);
    let (cgroup, controllers): (_, &[&str]) = match plain.is_dir() {
        true => (plain, &[CPU]),
        // What the filesystem of a test machine offers differs; a leaf needs none.
        false => (cgroup2().join(name), &[]),
    };
    Host {
        root: folder.join("root"),
        cgroup,
        controllers,
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
pub(super) struct Place {
    pub(super) path: PathBuf,
}

impl Place {
    /// With a plain folder as the cgroup root, whose files keep what is written to them: what a test machine's
    /// kernel offers does not matter then. The services of these names can run in it.
    pub(super) fn with_plain_cgroup(services: &[&str]) -> Place {
        let path = Place::folder();
        for service in services {
            let leaf = path.join(PLAIN_CGROUP).join("system").join(service);
            fs::create_dir_all(&leaf).unwrap();
            fs::write(leaf.join("cgroup.procs"), "").unwrap();
        }
        fs::write(path.join(PLAIN_CGROUP).join("cgroup.controllers"), CPU).unwrap();
        Place { path }
    }

    fn folder() -> PathBuf {
        let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("root")).unwrap();
        path
    }

    pub(super) fn new() -> Place {
        let path = Place::folder();
        fs::create_dir(host(&path).cgroup).expect("these tests need to be root and to write to cgroup v2");
        Place { path }
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path.join(name)).unwrap_or_default()
    }

    fn leaf(&self, name: &str) -> Leaf {
        Leaf::at(&host(&self.path).cgroup, name)
    }

    pub(super) fn start(&self, services: &str) -> Running<'_> {
        fs::write(self.path.join("services.toml"), services.replace("DIR", self.path.to_str().unwrap()))
            .unwrap();
        let _ = fs::remove_file(self.path.join("seen"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--ignored", "--exact", "services::supervisor::tests::place::supervise", "--nocapture"])
            .env(FOLDER, &self.path)
            .stdout(Stdio::null());
        // As shells start what runs in the background. Services must not inherit it.
        // SAFETY: one system call, no handler.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGQUIT, libc::SIG_IGN);
                Ok(())
            });
        }
        Running { place: self, child: command.spawn().unwrap() }
    }
}

impl Place {
    /// What was killed takes the kernel a moment to end.
    pub(super) fn until_empty(&self, cgroup: &str) {
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

pub(super) struct Running<'a> {
    place: &'a Place,
    pub(super) child: Child,
}

impl Running<'_> {
    pub(super) fn seen(&self) -> Vec<Seen> {
        let text = self.place.read("seen");
        // The last line may be half written.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn lines(&self) -> Vec<String> {
        let line = |seen| if let Seen::Line(line) = seen { Some(line) } else { None };
        self.seen().into_iter().filter_map(line).collect()
    }

    pub(super) fn state(&self, name: &str) -> Option<ServiceState> {
        let services =
            |seen: &Seen| if let Seen::Services(services) = seen { Some(services.clone()) } else { None };
        let last = self.seen().iter().rev().find_map(services)?;
        last.into_iter().find(|service| service.name == name)
    }

    pub(super) fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < LIMIT, "{what} never came; seen: {:#?}", self.lines());
            assert!(self.child.try_wait().unwrap().is_none() || condition(self), "ended before {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn until_line(&mut self, part: &str) {
        self.until(part, |running| running.lines().iter().any(|line| line.contains(part)));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it, and gives the lines it said from then on, and how it ended.
    pub(super) fn stop(mut self, signal: Signal) -> (Vec<String>, String) {
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
