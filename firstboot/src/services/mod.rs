//! The services of a node: definitions, the supervisor, readiness, logs, and the end of the machine.
//!
//! [`prepare`] resolves the profile against this node and readies the machine; [`run`] supervises until the
//! machine shall end. [`machine`] decides, [`supervisor`] carries out.

pub mod cgroup;
pub mod children;
pub mod console;
pub mod definitions;
pub mod halt;
pub mod leftovers;
pub mod logs;
pub mod machine;
pub mod mailbox;
pub mod markers;
pub mod power;
pub mod probe;
pub mod renewal;
pub mod signals;
pub mod spawn;
pub mod supervisor;
pub mod watchdog;

use std::path::{Path, PathBuf};

use bootwright_model::layout;
use bootwright_model::node::NodeFacts;
use bootwright_model::profile::Profile;
use bootwright_model::report::ServiceState;

pub use definitions::Definition;
pub use supervisor::{Ended, Supervisor};

/// Where the supervisor finds and puts things; a test has its own.
#[derive(Debug, Clone)]
pub struct Host {
    /// Put before every absolute path of a file that is read or written; `/` on a node.
    pub root: PathBuf,
    /// The cgroup v2 filesystem.
    pub cgroup: PathBuf,
    /// Controllers without which the machine is of no use.
    pub controllers: &'static [&'static str],
    /// Folder of the logs.
    pub logs: PathBuf,
    /// Largest size of a log file, bytes; there are two for each service.
    pub log_cap: u64,
    /// Folder of the markers of one-shots that run once.
    pub markers: PathBuf,
    /// CA certificate that HTTPS probes trust.
    pub ca: PathBuf,
    /// The first hardware watchdog; further ones end in a number.
    pub watchdog: PathBuf,
    /// Folder of the input devices, for the power button.
    pub input: PathBuf,
    /// This process is PID 1: it moves itself into a cgroup of its own, and at the end signals everybody.
    pub pid1: bool,
}

impl Host {
    /// A booted node.
    pub fn node() -> Host {
        Host {
            root: PathBuf::from("/"),
            cgroup: PathBuf::from("/sys/fs/cgroup"),
            controllers: cgroup::NEEDED,
            logs: PathBuf::from(layout::SERVICE_LOGS),
            log_cap: 4 << 20,
            markers: PathBuf::from("/var/lib/bootwright/done"),
            ca: Path::new(layout::RUN_CLUSTER).join(layout::CLUSTER_PKI).join("ca.crt"),
            watchdog: PathBuf::from("/dev/watchdog"),
            input: PathBuf::from("/dev/input"),
            pid1: true,
        }
    }

    /// An absolute path below the root.
    pub fn below_root(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// What the machine shall do when its services have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Power off: SIGTERM, SIGPWR, the power button.
    PowerOff,
    /// Reboot: SIGINT, which Ctrl-Alt-Del sends to PID 1.
    Reboot,
}

/// Whom the supervisor tells; the report on a node.
pub trait Observer {
    /// One line for the console.
    fn line(&mut self, line: &str);
    /// Some service changed; all of them in order of definition.
    fn services(&mut self, services: Vec<ServiceState>);
    /// Every service that keeps running was started.
    fn services_started(&mut self);
    /// Every essential service is ready.
    fn ready(&mut self);
    /// Milliseconds since kernel start.
    fn uptime_ms(&self) -> u64;
}

/// What keeps [`prepare`] from handing services to the supervisor.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// The profile and this node do not fit.
    #[error("the services of profile {role:?} cannot be resolved")]
    Definitions {
        /// Profile.
        role: String,
        /// Why.
        source: definitions::DefinitionError,
    },
    /// No cgroups, no kubelet.
    #[error("the cgroup tree cannot be set up")]
    Cgroups(#[source] cgroup::CgroupError),
    /// State of an earlier boot stands in the way.
    #[error("what an earlier boot left cannot be cleared")]
    Leftovers(#[source] leftovers::LeftoversError),
}

/// Resolves the profile's services, writes their configuration files, clears what a power cut may have damaged
/// and sets up the cgroup tree. Run again it changes nothing.
///
/// Wants `/var`, `/run`, a writable `/etc` and cgroup2 mounted.
pub fn prepare(host: &Host, profile: &Profile, facts: &NodeFacts) -> Result<Vec<Definition>, ServicesError> {
    let definitions_error = |source| ServicesError::Definitions { role: profile.role.clone(), source };
    let profile = &definitions::of_this_machine(host, profile);
    let resolved = definitions::resolve(profile, facts, memory()).map_err(definitions_error)?;
    leftovers::clear(host, &resolved.definitions).map_err(ServicesError::Leftovers)?;
    definitions::write_files(host, &resolved.files).map_err(definitions_error)?;
    cgroup::prepare(host).map_err(ServicesError::Cgroups)?;
    Ok(resolved.definitions)
}

/// The machine's memory, bytes.
pub fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

/// Supervises until the machine shall end. `renew` is called once a day in a thread of its own: it renews
/// certificates that are due and names the services to restart for it.
pub fn run(
    host: &Host,
    definitions: Vec<Definition>,
    observer: &mut dyn Observer,
    renew: impl FnMut() -> Result<Vec<String>, String> + Send + 'static,
) -> std::io::Result<Ended> {
    let supervisor = Supervisor::new(host, definitions, observer)?;
    renewal::start(supervisor.post(), renew)?;
    Ok(supervisor.run())
}
