//! The words that the machine and the loop around it speak: what happened, what to do, what to say.

/// Milliseconds on any clock that does not jump.
pub type Millis = u64;

/// What the machine needs to know of a service. An index stands for a service everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Services that must be ready before it starts.
    pub after: Vec<usize>,
    /// Services that it uses: they are stopped after it.
    pub uses: Vec<usize>,
    /// Runs once and ends.
    pub oneshot: bool,
    /// Has a readiness probe.
    pub probed: bool,
    /// Without it the node is not ready.
    pub essential: bool,
    /// First and largest pause before a restart.
    pub restart: [Millis; 2],
    /// From the stop signal to SIGKILL.
    pub stop: Millis,
    /// Runs processes for others, which are ended before it.
    pub workloads: bool,
    /// Has another share of the processors while it starts.
    pub settles: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time passed; deadlines are looked at with every event.
    Tick,
    /// The process runs.
    Started(usize),
    /// There is no process: program missing, no memory.
    StartFailed(usize, String),
    /// A one-shot whose work was done on an earlier boot.
    AlreadyDone(usize),
    /// The process ended: well or not, and how in words.
    Exited(usize, bool, String),
    /// The probe of this run (its number) succeeded.
    Ready(usize, u32),
    /// The probe of this run failed, with a reason that differs from the last.
    NotReady(usize, u32, String),
    /// The cgroup of its workloads is empty.
    WorkloadsGone(usize),
    /// Stop it and start it again: its certificate was renewed.
    Restart(usize),
    /// Stop everything.
    Stop,
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start the process; answer with `Started`, `StartFailed` or `AlreadyDone`.
    Start(usize),
    /// Probe this run of it until it is ready.
    Probe(usize, u32),
    /// Send the stop signal.
    Ask(usize),
    /// SIGKILL to its whole cgroup.
    Kill(usize),
    /// SIGTERM to its workloads, then watch for `WorkloadsGone`.
    EndWorkloads(usize),
    /// SIGKILL to its workloads.
    KillWorkloads(usize),
    /// It is ready: from now on it has its usual share of the processors. For those that [`Spec::settles`] is of.
    Settle(usize),
    /// Tell the person at the console.
    Say(usize, Notice),
    /// Every service that keeps running was started once.
    AllStarted,
    /// Every essential service is ready.
    AllReady,
    /// Nothing runs any more.
    AllStopped,
}

/// A change of state worth a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// It runs.
    Started,
    /// It is ready, this long after its start.
    Ready(Millis),
    /// A one-shot ended well after this long.
    Done(Millis),
    /// A one-shot had been done on an earlier boot.
    AlreadyDone,
    /// It ended or did not start.
    Failed {
        /// How, in words.
        reason: String,
        /// Pause before the next start.
        again: Millis,
        /// Failures in a row.
        failures: u32,
        /// Whether to show the end of its log.
        show_log: bool,
    },
    /// It runs, and is not ready.
    StillNotReady {
        /// Since its start.
        after: Millis,
        /// What the probe said last.
        error: Option<String>,
    },
    /// It was asked to stop.
    Stopping,
    /// It ended.
    Stopped,
    /// It did not end in time and was killed.
    Killed,
    /// It did not even end when killed.
    GivenUp,
}

/// A service as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// One of the states of [`bootwright_model::report::ServiceState`].
    pub state: &'static str,
    /// First start.
    pub started_ms: Option<Millis>,
    /// First time ready.
    pub ready_ms: Option<Millis>,
    /// Starts after the first.
    pub restarts: u32,
    /// Last exit or probe error.
    pub last_error: Option<String>,
}
