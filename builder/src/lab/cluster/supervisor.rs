//! The owner of a lab: its switch, its machines, its socket and its folder.

use std::fs::File;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::control::{self, Answer, Question, Request};
use super::folder::{Folder, Record};
use super::layout::{self, API, Forwarded, Options};
use super::member::Member;
use super::observer::Observer;
use super::status::{Power, Status};
use crate::lab::accelerator;
use crate::lab::api::Api;
use crate::lab::demo;
use crate::lab::kubeconfig::Kubeconfig;
use crate::lab::switch::Switch;
use crate::lab::{Error, console};
use crate::progress::interrupt::{self, Temporary};

/// Pause between two looks at the machines.
const PAUSE: Duration = Duration::from_millis(100);
/// How long all machines may take to stop after their power buttons were pressed, under emulation.
const STOP: Duration = Duration::from_secs(150);
/// Lines of a console that are shown when its machine failed.
const LINES: usize = 25;

/// A running lab. The machines end with the thread that started it, and the folder goes when it is dropped.
pub struct Supervisor {
    options: Options,
    folder: Folder,
    // Dropped in this order: no machine outlives its switch, and no folder its machines.
    members: Vec<Member>,
    observer: Option<Observer>,
    switch: Switch,
    forwards: Vec<Forwarded>,
    questions: Receiver<Question>,
    began: Instant,
    /// Somebody wants the lab to end; with the plugs pulled or not.
    ending: Option<bool>,
    _files: Temporary,
    _lock: File,
}

impl Supervisor {
    /// Makes everything and switches the machines on. `say` is told what was chosen.
    ///
    /// # Errors
    /// A lab is there already, something is missing, or a machine does not start; nothing is left then.
    pub fn start(options: Options, say: &mut dyn FnMut(&str)) -> Result<Supervisor, Error> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let places = layout::places(&options, processors)?;
        let folder = Folder::of(&options.output);
        let lock = folder.take()?;
        let files = Temporary::new(folder.path());
        let choice = accelerator::choose(&places[0].image, &options.cache)?;
        say(&format!("accelerator  {}", choice.reason));
        let (forwards, listeners) = layout::forwards(&options)?;
        let switch = Switch::start(layout::switch_plan(&options, &places, listeners))?;
        let mut members = Vec::new();
        for (number, place) in places.into_iter().enumerate() {
            let (name, role) = (&place.node.name, &place.node.role);
            say(&format!("machine      {name}: {role}, {} processors, {} MiB", place.cpus, place.memory_mib));
            let (node, port) = (folder.node(name), switch.port(number));
            members.push(Member::new(place, node, port, options.firmware, choice.accelerator)?);
        }
        let questions = control::serve(&folder)?;
        let mut supervisor = Supervisor {
            options,
            folder,
            members,
            observer: None,
            switch,
            forwards,
            questions,
            began: Instant::now(),
            ending: None,
            _files: files,
            _lock: lock,
        };
        supervisor.write_files()?;
        for member in &mut supervisor.members {
            member.start(false)?;
        }
        Ok(supervisor)
    }

    fn write_files(&self) -> Result<(), Error> {
        let kubeconfig = Kubeconfig::read(&self.options.output.join(demo::KUBECONFIG))?;
        kubeconfig
            .pointed_at(&format!("https://127.0.0.1:{}", self.api_port()), &self.folder.kubeconfig())?;
        self.folder.record(&Record {
            process_id: std::process::id(),
            nodes: self.members.iter().map(|member| member.name().to_owned()).collect(),
            forwards: self.forwards.clone(),
        })
    }

    /// Port of 127.0.0.1 that leads to the API.
    pub fn api_port(&self) -> u16 {
        self.forwarded(API).map_or(0, |forward| forward.host)
    }

    /// The forwarded port of this name.
    pub fn forwarded(&self, name: &str) -> Option<&Forwarded> {
        self.forwards.iter().find(|forward| forward.name == name)
    }

    /// The lab's folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// A client of the API, as administrator.
    ///
    /// # Errors
    /// The kubeconfig cannot be read.
    pub fn api(&self) -> Result<Api, Error> {
        Api::new(&Kubeconfig::read(&self.folder.kubeconfig())?)
    }

    /// Works for the lab, and shows its state to `each` again and again, until that breaks off or the lab is to
    /// end.
    ///
    /// # Errors
    /// Ctrl-C, or a log that cannot be read.
    pub fn run<T>(&mut self, mut each: impl FnMut(&Status) -> ControlFlow<T>) -> Result<Option<T>, Error> {
        loop {
            if interrupt::requested() {
                return Err(interrupt::Interrupted.into());
            }
            self.turn()?;
            if self.ending.is_some() {
                return Ok(None);
            }
            if let ControlFlow::Break(value) = each(&self.status()?) {
                return Ok(Some(value));
            }
        }
    }

    /// Answers one question, or none for a moment, then looks at the machines.
    fn turn(&mut self) -> Result<(), Error> {
        match self.questions.recv_timeout(PAUSE) {
            Ok((request, reply)) => {
                let answer = match self.obey(request) {
                    Ok(status) => Answer::Done(Box::new(status)),
                    Err(error) => Answer::Refused(error.to_string()),
                };
                // Who asked may be gone.
                let _ = reply.send(answer);
            }
            Err(RecvTimeoutError::Timeout) => {}
            // The thread of the socket does not end; if it did, this would be the pause.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(PAUSE),
        }
        self.look()
    }

    fn look(&mut self) -> Result<(), Error> {
        // Before a kubelet is ready there is nothing to be seen, and asking costs a busy guest time.
        if self.observer.is_none() && self.members.iter().any(Member::has_kubelet) {
            self.observer = Some(Observer::start(self.api()?)?);
        }
        let observer = self.observer.as_ref();
        self.members.iter_mut().try_for_each(|member| member.look(observer))
    }

    /// Does what it is asked, and tells the state afterwards.
    ///
    /// # Errors
    /// It cannot be done.
    pub fn obey(&mut self, request: Request) -> Result<Status, Error> {
        match request {
            Request::Status => {}
            Request::Stop(node) => self.member(&node)?.stop()?,
            Request::Kill(node) => self.member(&node)?.kill()?,
            Request::Start { node, reflash } => self.member(&node)?.start(reflash)?,
            Request::Add { one, other, fault } => {
                self.switch.add(self.switch.scope(&one, other.as_deref())?, fault)?;
            }
            Request::Heal { one, other } => {
                let scope = one.map(|one| self.switch.scope(&one, other.as_deref())).transpose()?;
                self.switch.heal(scope)?;
            }
            Request::Down { force } => self.ending = Some(force),
        }
        self.status()
    }

    fn member(&mut self, name: &str) -> Result<&mut Member, Error> {
        let names: Vec<&str> = self.members.iter().map(Member::name).collect();
        let unknown = Error::State(format!("the lab has no node '{name}', but {}", names.join(", ")));
        self.members.iter_mut().find(|member| member.name() == name).ok_or(unknown)
    }

    /// The state, as it was looked at last.
    ///
    /// # Errors
    /// The switch has ended.
    pub fn status(&self) -> Result<Status, Error> {
        let (faults, frames_lost) = self.switch.describe()?;
        Ok(Status {
            process_id: std::process::id(),
            seconds: self.began.elapsed().as_secs_f64(),
            nodes: self.members.iter().map(Member::status).collect(),
            forwards: self.forwards.clone(),
            faults,
            frames_lost,
            api_error: self.observer.as_ref().and_then(Observer::error),
        })
    }

    /// The last console lines of each machine that is not Ready, for a person to see why.
    pub fn last_words(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for member in &self.members {
            let status = member.status();
            if status.ready != super::status::Ready::Yes {
                lines.push(format!("last lines of the console of {}:", member.name()));
                let last = console::last_lines(&member.console_log(), LINES);
                lines.extend(last.into_iter().map(|line| format!("  {line}")));
            }
        }
        lines
    }

    /// Whether the lab is to end with the plugs pulled.
    pub fn is_forced(&self) -> bool {
        self.ending == Some(true)
    }

    /// Switches all machines off and removes the folder. With `force` the plugs are pulled; else those that have not
    /// stopped in time are named in the result.
    ///
    /// # Errors
    /// A machine cannot be killed.
    pub fn end(mut self, force: bool, mut each: impl FnMut(&Status)) -> Result<Vec<String>, Error> {
        self.ending = Some(force);
        let deadline = Instant::now() + STOP;
        if !force {
            for member in self.members.iter_mut().filter(|member| member.runs()) {
                // One whose QEMU does not answer is killed below.
                if member.status().power == Power::On {
                    let _ = member.stop();
                }
            }
            // Forced while it ends: somebody lost patience.
            while self.members.iter().any(Member::runs) && Instant::now() < deadline && !self.is_forced() {
                self.turn()?;
                each(&self.status()?);
            }
        }
        let mut killed = Vec::new();
        for member in self.members.iter_mut().filter(|member| member.runs()) {
            member.kill()?;
            killed.push(member.name().to_owned());
        }
        if self.is_forced() {
            killed.clear();
        }
        Ok(killed)
    }
}
