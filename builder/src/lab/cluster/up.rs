//! `lab up`: brings a lab up, waits until all its nodes are Ready, and keeps it.

use std::ffi::OsString;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::control::{self, Request};
use super::folder::{Folder, Found, LOG};
use super::supervisor::Supervisor;
use super::view::View;
use super::{Options, Status, status};
use crate::lab::{Error, left_running};
use crate::progress::interrupt;

/// Pause between two questions to a lab in the background.
const PAUSE: Duration = Duration::from_millis(500);
/// Bytes of a log that are shown of a lab that ended at once.
const WORDS: usize = 16 << 10;
/// How long a lab in the background may take to make its disks and open its socket.
const START: Duration = Duration::from_secs(120);

/// Who keeps the lab.
#[derive(Debug, Clone)]
pub enum Background {
    /// This process, until Ctrl-C or `lab down`.
    No,
    /// A process that this one starts with these arguments, until `lab down`.
    Start(Vec<OsString>),
    /// This process, which was started so.
    Is,
}

/// Brings a lab up.
///
/// # Errors
/// It cannot be, a boot failed, or not all nodes were Ready in time. In the foreground nothing is left then, in the
/// background the lab goes on, to be looked at.
pub fn up(options: Options, background: Background) -> Result<(), Error> {
    match background {
        Background::No => foreground(options),
        Background::Start(arguments) => start(&options, &arguments),
        Background::Is => keep(options),
    }
}

/// What came of waiting for a lab.
fn verdict(status: &Status, deadline: Instant, limit: Duration) -> ControlFlow<Result<(), Error>> {
    if status.is_ready() {
        return ControlFlow::Break(Ok(()));
    }
    if let Some((node, reason)) = status.failure() {
        return ControlFlow::Break(Err(Error::State(format!("{node} does not come up: {reason}"))));
    }
    if Instant::now() >= deadline {
        let late = status.nodes.iter().filter(|node| node.ready != status::Ready::Yes);
        let late: Vec<String> = late.map(|node| format!("{} ({})", node.name, node.stage)).collect();
        let seconds = limit.as_secs();
        return ControlFlow::Break(Err(Error::State(format!(
            "not Ready after {seconds} s: {}",
            late.join(", ")
        ))));
    }
    ControlFlow::Continue(())
}

/// Works for a lab until all its nodes are Ready, and shows its states to `each`. `None` if somebody takes it down
/// before.
///
/// # Errors
/// A boot failed, not all nodes were Ready in time, or as [`Supervisor::run`].
pub fn wait_ready(
    lab: &mut Supervisor,
    limit: Duration,
    mut each: impl FnMut(&Status),
) -> Result<Option<()>, Error> {
    let deadline = Instant::now() + limit;
    let outcome = lab.run(|status| {
        each(status);
        verdict(status, deadline, limit)
    });
    outcome?.transpose()
}

fn foreground(options: Options) -> Result<(), Error> {
    let (limit, mut view) = (options.limit, View::choose());
    let mut lab = Supervisor::start(options.clone(), &mut |line| println!("{line}"))?;
    let outcome = wait_ready(&mut lab, limit, |status| view.show(status));
    let taken_down = matches!(outcome, Ok(None));
    let failed = match outcome {
        // By somebody else.
        Ok(None) => Some(Error::State("taken down before all nodes were Ready".to_owned())),
        Ok(Some(())) => {
            view.say("");
            hints(&options, &lab.status()?).iter().for_each(|line| view.say(line));
            view.say("Ctrl-C switches everything off");
            match lab.run(|status| {
                view.show(status);
                ControlFlow::<()>::Continue(())
            }) {
                Ok(_) | Err(Error::Interrupted(_)) => None,
                Err(error) => Some(error),
            }
        }
        Err(error) => Some(error),
    };
    // Who gives up on a boot does not wait for a clean stop; what failed has nothing to be kept. Who takes it down
    // from elsewhere says how.
    let force = lab.is_forced() || (failed.is_some() && !taken_down);
    if force && matches!(failed, Some(ref error) if !matches!(error, Error::Interrupted(_))) {
        lab.last_words().iter().for_each(|line| view.say(line));
    }
    let killed = lab.end(force, |status| view.show(status))?;
    drop(view);
    match failed {
        Some(error) => Err(error),
        None if !killed.is_empty() => Err(Error::State(format!(
            "switched off, but these did not stop in time and were killed: {}",
            killed.join(", ")
        ))),
        None => {
            println!("all machines are off and nothing is left of the lab");
            Ok(())
        }
    }
}

/// The process in the background: nobody reads what it says unless something went wrong.
fn keep(options: Options) -> Result<(), Error> {
    let mut lab = Supervisor::start(options, &mut |line| println!("{line}"))?;
    let outcome = lab.run(|_| ControlFlow::<()>::Continue(()));
    let forced = lab.is_forced();
    let killed = lab.end(forced, |_| {})?;
    match outcome {
        // A signal to this process is as good as `lab down`.
        Ok(_) | Err(Error::Interrupted(_)) if killed.is_empty() => Ok(()),
        Ok(_) | Err(Error::Interrupted(_)) => {
            Err(Error::State(format!("killed, for they did not stop in time: {}", killed.join(", "))))
        }
        Err(error) => Err(error),
    }
}

fn start(options: &Options, arguments: &[OsString]) -> Result<(), Error> {
    let folder = Folder::of(&options.output);
    // Refused here, where a person sees it at once.
    folder.make()?;
    let mut view = View::choose();
    let mut process = None;
    let outcome = spawn(&folder, arguments)
        .and_then(|(child, log)| follow(&folder, process.insert(child), &log, options.limit, &mut view));
    let error = match outcome {
        Ok(status) => {
            view.say("");
            hints(options, &status).iter().for_each(|line| view.say(line));
            view.say(&format!("switch it off: {}", left_running::lab_command("down", &options.output)));
            return Ok(());
        }
        Err(error) => error,
    };
    drop(view);
    let interrupted = matches!(error, Error::Interrupted(_));
    if !interrupted && matches!(folder.find()?, Found::Running(_)) {
        return Err(Error::LeftRunning { error: Box::new(error), advice: advice(&options.output) });
    }
    if interrupted {
        // Who presses Ctrl-C does not expect anything to go on.
        println!("taking the lab down again");
        if control::ask(&folder, &Request::Down { force: true }).is_ok() {
            return Err(error);
        }
    }
    // A lab that is just starting has no lock, or no socket to be asked through. The kernel ends its machines with
    // its process.
    if let Some(mut process) = process {
        process.kill().and_then(|()| process.wait()).map_err(Error::file("kill", "the lab"))?;
    }
    if folder.path().exists() {
        folder.clean()?;
    }
    Err(error)
}

/// Starts the process in the background, with what it says in the lab's log.
fn spawn(folder: &Folder, arguments: &[OsString]) -> Result<(Child, File), Error> {
    let log = folder.path().join(LOG);
    let open = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(&log);
    let output = open.map_err(Error::file("write", &log))?;
    let kept = output.try_clone().map_err(Error::file("write", &log))?;
    let errors = output.try_clone().map_err(Error::file("write", &log))?;
    let program = std::env::current_exe().map_err(Error::file("find", "this program"))?;
    let mut command = Command::new(&program);
    command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(errors);
    // A session of its own: neither Ctrl-C in this terminal nor its end reaches it.
    // SAFETY: between fork and exec only a system call is made, no memory is allocated.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?));
    }
    Ok((command.spawn().map_err(Error::file("start", program))?, kept))
}

/// Shows the lab in the background until its nodes are Ready.
fn follow(
    folder: &Folder,
    process: &mut Child,
    log: &File,
    limit: Duration,
    view: &mut View,
) -> Result<Status, Error> {
    let begin = Instant::now();
    loop {
        if interrupt::requested() {
            return Err(interrupt::Interrupted.into());
        }
        if let Some(status) = process.try_wait().map_err(Error::file("wait for", "the lab"))? {
            // Read from what is open: the file went with the folder.
            let (mut words, mut end) = (vec![0; WORDS], 0);
            while let Ok(read @ 1..) = log.read_at(&mut words[end..], end as u64) {
                end += read;
            }
            let words = String::from_utf8_lossy(&words[..end]);
            return Err(Error::State(format!("the lab ended ({status})\n{}", words.trim_end())));
        }
        let asked = match folder.find()? {
            Found::Running(Some(_)) => control::ask(folder, &Request::Status).ok(),
            _ => None,
        };
        match asked {
            Some(status) => {
                view.show(&status);
                if let ControlFlow::Break(outcome) = verdict(&status, begin + limit, limit) {
                    return outcome.map(|()| status);
                }
            }
            None if begin.elapsed() > START.max(limit) => {
                let log = folder.path().join(LOG);
                return Err(Error::State(format!("the lab does not answer; see {}", log.display())));
            }
            None => {}
        }
        std::thread::sleep(PAUSE);
    }
}

/// How to look at a lab that goes on although not all is well, and how to end it.
fn advice(output: &Path) -> String {
    let command = |command: &str| left_running::lab_command(command, output);
    format!(
        "the lab still runs. To look at it:\n  {}\n  {}\nTo switch it off:\n  {}\n",
        command("status"),
        command("console NODE"),
        command("down")
    )
}

/// What a person can do with a lab that is up.
fn hints(options: &Options, status: &Status) -> Vec<String> {
    let kubeconfig = left_running::word(&Folder::of(&options.output).kubeconfig());
    let mut lines = vec![format!("kubectl --kubeconfig {kubeconfig} get nodes -o wide")];
    for forward in status.forwards.iter().filter(|forward| forward.name != super::layout::API) {
        lines.push(format!("127.0.0.1:{} leads to {}", forward.host, forward.name));
    }
    lines.push(left_running::lab_command("status", &options.output));
    lines
}
