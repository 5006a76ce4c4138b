//! The commands that look at a lab that runs, and that end it.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::control::{self, Request};
use super::folder::{Folder, Found};
use super::status::{Power, Status};
use crate::lab::api::Api;
use crate::lab::console::{self, Tail};
use crate::lab::kubeconfig::Kubeconfig;
use crate::lab::{Error, machine};
use crate::progress::interrupt;

/// How long a supervisor may take to end after it was told to: its machines have 150 s to stop.
const END: Duration = Duration::from_secs(180);
/// How long it may take when the plugs are pulled.
const FORCED: Duration = Duration::from_secs(15);
/// How long a machine may take to stop after its power button was pressed.
const STOP: Duration = Duration::from_secs(150);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// Where a kubelet serves `/var/log/services`.
const LOGS: &str = "proxy/logs/services";

/// Asks the lab of an output folder.
///
/// # Errors
/// None runs, or it refuses.
pub fn ask(output: &Path, request: &Request) -> Result<Status, Error> {
    control::ask(&Folder::of(output), request)
}

/// Presses the power button of a node's machine and waits until it is off.
///
/// # Errors
/// As [`ask`]; or it does not stop in time, and goes on; or it ended otherwise, or was switched on again.
pub fn stop(output: &Path, node: &str) -> Result<Duration, Error> {
    let begin = Instant::now();
    ask(output, &Request::Stop(node.to_owned()))?;
    while begin.elapsed() < STOP {
        let status = ask(output, &Request::Status)?;
        let power = status.nodes.iter().find(|one| one.name == node).map(|one| one.power);
        match power {
            Some(Power::Stopping) => {}
            Some(Power::Off) => return Ok(begin.elapsed()),
            Some(Power::On | Power::Failed) | None => {
                return Err(Error::State(format!("{node} did not stop as asked; see `lab status`")));
            }
        }
        check_interrupt()?;
        std::thread::sleep(PAUSE);
    }
    let log = Folder::of(output).node(node).join(machine::CONSOLE_LOG);
    let reason = format!("it did not switch itself off within {} s; `lab kill` ends it", STOP.as_secs());
    Err(Error::UncleanStop { reason, log })
}

/// Prints the console of a node's machine: the last `lines`, or all; with `follow` what comes as well, until Ctrl-C.
///
/// # Errors
/// There is no such node, or its log cannot be read.
pub fn console(
    output: &Path,
    node: &str,
    lines: Option<usize>,
    follow: bool,
    mut print: impl FnMut(&str),
) -> Result<(), Error> {
    let folder = Folder::of(output);
    check_node(&folder, node)?;
    let log = folder.node(node).join(machine::CONSOLE_LOG);
    let count = lines.unwrap_or(usize::MAX);
    if !follow {
        console::last_lines(&log, count).iter().for_each(|line| print(line));
        return Ok(());
    }
    let (last, mut tail) = Tail::from_last_lines(&log, count)?;
    last.iter().for_each(|line| print(line));
    while !interrupt::requested() && log.exists() {
        tail.lines()?.iter().for_each(|line| print(line));
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// The log of a service of a node, or the list of logs, through the API and the node's kubelet: the image has no
/// shell.
///
/// # Errors
/// The API or the kubelet does not answer, or there is no such service.
pub fn logs(output: &Path, node: &str, service: Option<&str>) -> Result<String, Error> {
    let folder = Folder::of(output);
    check_node(&folder, node)?;
    let api = Api::new(&Kubeconfig::read(&folder.kubeconfig())?)?;
    let file = service.map_or_else(String::new, |service| format!("{service}.log"));
    let text = api.text(&format!("/api/v1/nodes/{node}/{LOGS}/{file}")).map_err(|error| {
        Error::State(format!(
            "{error}; `lab console {node}` works without the API, and docs/machine.md says how to read a log from the disk"
        ))
    })?;
    Ok(if service.is_some() { text } else { listed(&text) })
}

/// The names in the page that the kubelet makes of a folder (Go, net/http `FileServer`: a link per line).
fn listed(page: &str) -> String {
    let name = |line: &str| line.split_once("\">")?.1.split_once("</a>").map(|(name, _)| name.to_owned());
    let names = page.lines().filter_map(name).filter_map(|name| name.strip_suffix(".log").map(str::to_owned));
    names.map(|name| name + "\n").collect()
}

fn check_node(folder: &Folder, node: &str) -> Result<(), Error> {
    let record = folder.running()?;
    if record.nodes.iter().any(|known| known == node) {
        return Ok(());
    }
    Err(Error::State(format!("the lab has no node '{node}', but {}", record.nodes.join(", "))))
}

/// Ends the lab of an output folder, or removes what is left of one. Returns what was done, or `None` if there is
/// neither.
///
/// # Errors
/// It does not end in time.
pub fn down(output: &Path, force: bool) -> Result<Option<String>, Error> {
    let folder = Folder::of(output);
    match folder.find()? {
        Found::Nothing => Ok(None),
        Found::Stale(_) => {
            folder.clean()?;
            Ok(Some("its supervisor had been killed; what it left is removed".to_owned()))
        }
        Found::Running(_) => end(&folder, force).map(Some),
    }
}

fn end(folder: &Folder, force: bool) -> Result<String, Error> {
    let system = |action: &'static str| {
        move |error: std::io::Error| Error::file(action, "the lab's supervisor")(error)
    };
    let stream = control::connect(folder)?;
    // The process behind the socket, whatever has the number that it wrote down. It cannot be mistaken for another:
    // the descriptor is taken while the connection is open, and it answers on that connection below.
    let owner =
        rustix::net::sockopt::socket_peercred(&stream).map_err(|error| system("ask for")(error.into()))?;
    let process = pidfd_open(owner.pid, PidfdFlags::empty()).map_err(|error| system("find")(error.into()))?;
    let asked = control::ask_over(&stream, &Request::Down { force });
    let limit = if force { FORCED } else { END };
    if (asked.is_ok() || force) && wait(&process, limit)? {
        return Ok("all machines are off and nothing is left of the lab".to_owned());
    }
    if !force {
        asked?;
        let seconds = limit.as_secs();
        return Err(Error::State(format!("the lab did not end within {seconds} s; --force pulls the plugs")));
    }
    // The kernel ends its machines with it.
    pidfd_send_signal(&process, Signal::KILL).map_err(|error| system("kill")(error.into()))?;
    wait(&process, FORCED)?;
    folder.clean()?;
    Ok("its supervisor did not answer and was killed, its machines with it; what it left is removed"
        .to_owned())
}

/// Whether a process ended in time: its descriptor is readable then (pidfd_open(2)).
fn wait(process: &impl std::os::fd::AsFd, limit: Duration) -> Result<bool, Error> {
    let deadline = Instant::now() + limit;
    let pause = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    while Instant::now() < deadline {
        let mut fds = [PollFd::new(process, PollFlags::IN)];
        // Interrupted: Ctrl-C is looked at below.
        if poll(&mut fds, Some(&pause)).is_ok_and(|ready| ready > 0) {
            return Ok(true);
        }
        check_interrupt()?;
    }
    Ok(false)
}

fn check_interrupt() -> Result<(), Error> {
    if interrupt::requested() { Err(interrupt::Interrupted.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_logs_are_read_from_the_kubelets_page() {
        let page =
            "<pre>\n<a href=\"etcd.log\">etcd.log</a>\n<a href=\"etcd.log.1\">etcd.log.1</a>\n</pre>\n";
        assert_eq!(listed(page), "etcd\n");
    }

    #[test]
    fn what_a_killed_lab_left_is_removed_and_nothing_is_nothing() {
        let output = tempfile::tempdir().unwrap();
        assert_eq!(down(output.path(), false).unwrap(), None);
        drop(Folder::of(output.path()).take().unwrap());
        assert!(down(output.path(), false).unwrap().unwrap().contains("removed"));
        assert_eq!(down(output.path(), false).unwrap(), None);
    }
}
