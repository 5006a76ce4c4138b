//! PID 1 in the root: from mounts to running services.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bootwright_model::node::NodeFacts;
use bootwright_model::profile::Profile;
use rustix::system::{RebootCommand, reboot};

use super::certificates as certificates_stage;
use super::command_line::CommandLine;
use super::modules::Coldplug;
use super::mounts::{self, Mounted};
use super::parameters::{self, ParametersError};
use super::pod_network::{self, PodNetworkError};
use super::root::RootError;
use super::services::{self as services_stage, ReportObserver};
use super::state::{self, Early, StateError};
use super::{Advice, Done, Runner, Stop, clock, firmware, hold, identity, network, randomness, readahead};
use crate::certificates::{self, Roots};
use crate::kmsg::Log;
use crate::network::given_range;
use crate::report::Reporter;
use crate::services::{self, Definition, Host, halt};
use crate::storage::disks::RootGuids;

/// How long services wait for the ways to the other nodes' pods. It takes milliseconds, or the kernel is in trouble
/// that the stage tells.
const PEERS_PATIENCE: Duration = Duration::from_secs(20);

/// The services run; PID 1 supervises from here on.
struct Running {
    facts: NodeFacts,
    definitions: Vec<Definition>,
}

/// Never returns: the machine ends.
pub fn run() -> ! {
    hold::tell_fatal_signals();
    // Ctrl-Alt-Del becomes a signal, for a stop in good order.
    let _ = reboot(RebootCommand::CadOff);
    let root = Path::new("/");
    let reporter = Arc::new(Reporter::open(root));
    let command_line = CommandLine::read(root);
    let host = Host::node();
    let result = {
        let runner = Runner::new(&reporter, hold::next(command_line.hold()));
        stages(root, &runner, &reporter, &command_line, &host)
    };
    let Ok(running) = result else { hold::hold(&reporter, command_line.hold()) };
    supervise(&host, running, &reporter, &command_line)
}

fn stages(
    root: &'static Path,
    runner: &Runner<'_>,
    reporter: &Arc<Reporter>,
    command_line: &CommandLine,
    host: &Host,
) -> Result<Running, Stop> {
    let gathering = randomness::begin(root);
    let readahead = readahead::begin(root);
    let prepared = prepare_state(root, command_line);
    let Mounted { profile, coldplug } = runner.run("mounts", || mounts::run(root))?;
    let parameters = prepare_parameters(root, coldplug, &profile);
    let known = runner.run("identity", || identity::run(root))?;
    reporter.node(&known.identity.name);
    let facts = runner.run("network", || network::run(root, known));
    // Also where there is no network: this may be why.
    let mut log = Log::open(root);
    let missed = firmware::tell(&mut log, runner, 0);
    let facts = facts?;
    runner.run("clock", || clock::run(root, &facts))?;
    runner.run("state", || state::run(root, join(prepared, StateError::Lost)?, &facts))?;
    runner.run("randomness", || randomness::run(root, gathering, &mut log))?;
    let facts = recall_range(root, facts, reporter);
    runner.run("certificates", || certificates_stage::run(root, &facts))?;
    runner.run("parameters", || join(parameters, ParametersError::Lost).map(parameters::run))?;
    firmware::tell(&mut log, runner, missed);
    let peers_done = begin_pod_network(root, &facts, reporter);
    let definitions = runner.run("services", || services_stage::prepare(host, &profile, &facts))?;
    drop(readahead);
    // If the thread has ended without a word, nobody is left to wait for.
    let _ = peers_done.recv_timeout(PEERS_PATIENCE);
    Ok(Running { facts, definitions })
}

/// The range that a machine that nobody described was given at an earlier boot. Without it one is asked for again.
fn recall_range(root: &Path, facts: NodeFacts, reporter: &Reporter) -> NodeFacts {
    let recalled = given_range::recall(root, &facts);
    let known = recalled.and_then(|ranges| {
        let facts = NodeFacts { pod_cidr: ranges.or(facts.pod_cidr), ..facts.clone() };
        if ranges.is_some() {
            network::write_facts(root, &facts).map_err(std::io::Error::other)?;
        }
        Ok(facts)
    });
    known.unwrap_or_else(|error| {
        reporter
            .line(&format!("state           the pod CIDR of the boot before is asked for again: {error}"));
        facts
    })
}

fn supervise(host: &Host, running: Running, reporter: &Arc<Reporter>, command_line: &CommandLine) -> ! {
    let Running { facts, definitions } = running;
    let mut observer = ReportObserver(Arc::clone(reporter));
    let renew = move || renew(&facts);
    match services::run(host, definitions, &mut observer, renew) {
        Ok(ended) => halt::end(host, ended, &mut observer),
        Err(source) => {
            let error = SuperviseError(source);
            let runner = Runner::new(reporter, hold::next(command_line.hold()));
            let _ = runner.run("services", || Err::<Done<()>, _>(error));
            hold::hold(reporter, command_line.hold())
        }
    }
}

/// The supervisor cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("the supervisor cannot begin")]
struct SuperviseError(#[source] std::io::Error);

impl Advice for SuperviseError {
    fn advice(&self) -> String {
        "restart; report it if it happens again".to_owned()
    }
}

/// Renews certificates that are due; names the services to restart for it.
fn renew(facts: &NodeFacts) -> Result<Vec<String>, String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    match certificates::ensure(&Roots::below(Path::new("/")), facts, now) {
        Ok(issued) => Ok(issued.restart().into_iter().map(str::to_owned).collect()),
        Err(error) => Err(crate::report::chain(&error).join(": ")),
    }
}

type Job<T, E> = std::io::Result<JoinHandle<Result<T, E>>>;

fn prepare_state(root: &'static Path, command_line: &CommandLine) -> Job<Early, StateError> {
    let guids = command_line.root_hash().and_then(|hash| RootGuids::of(&hash.to_ascii_lowercase()));
    std::thread::Builder::new().name("state".to_owned()).spawn(move || {
        let guids = guids.ok_or(StateError::Device(RootError::CommandLine))?;
        state::prepare(root, guids)
    })
}

/// What of the stage **parameters** must be there before a link is up, and the rest beside the next stages.
fn prepare_parameters(
    root: &'static Path,
    coldplug: Coldplug,
    profile: &Profile,
) -> Job<parameters::Prepared, ParametersError> {
    let refused = parameters::refused(&parameters::set(root, &profile.sysctl));
    let profile = profile.clone();
    let work = move || Ok(parameters::prepare(root, coldplug, &profile, &refused));
    std::thread::Builder::new().name("parameters".to_owned()).spawn(work)
}

/// The stage **pod-network**, beside the start of the services: the first pod comes long after them. What is returned
/// says when the ways to the peers are there, before which no service starts.
fn begin_pod_network(root: &'static Path, facts: &NodeFacts, reporter: &Arc<Reporter>) -> Receiver<()> {
    let (sender, receiver) = channel();
    let (facts, for_thread) = (facts.clone(), Arc::clone(reporter));
    let stage = move || {
        let runner = Runner::new(&for_thread, String::new());
        let _ =
            runner.run("pod-network", || Ok::<_, PodNetworkError>(pod_network::run(root, &facts, &sender)));
    };
    if let Err(error) = std::thread::Builder::new().name("pod-network".to_owned()).spawn(stage) {
        reporter.line(&format!("pod-network   no thread for it: {error}"));
    }
    receiver
}

fn join<T, E, F: From<E>>(job: Job<T, E>, lost: F) -> Result<T, F> {
    match job.map(JoinHandle::join) {
        Ok(Ok(result)) => Ok(result?),
        // No thread, or a fault in it that the console has been told.
        _ => Err(lost),
    }
}
