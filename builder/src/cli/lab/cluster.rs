//! `bootwright lab up` and the commands of a lab that runs.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::super::Failure;
use super::super::output::print;
use super::{cache_folder, failure, load};
use crate::lab::Firmware;
use crate::lab::cluster::layout::{Setting, Wish};
use crate::lab::cluster::{self, Background, Options, Request, commands, folder::Folder, status};
use crate::lab::switch::Fault;

/// Bring up a cluster: a machine for each node, on a switch of their own.
///
/// Waits until all nodes are Ready, then stays until Ctrl-C, which switches everything off and leaves nothing.
#[derive(Debug, Clone, Args)]
pub struct UpOptions {
    /// The cluster file that the images were built from.
    #[arg(short = 'f', long = "file", value_name = "FILE", default_value = "cluster.toml")]
    cluster_file: PathBuf,
    /// Folder that the images were built into.
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    output: PathBuf,
    /// Return when all nodes are Ready; the lab goes on in the background until `lab down`.
    #[arg(long)]
    detach: bool,
    /// This process is the one in the background.
    #[arg(long, hide = true, conflicts_with = "detach")]
    supervise: bool,
    /// Memory, MiB: of all machines, of a role's, or of one. Several, separated by commas; the last that fits holds.
    #[arg(long, value_name = "[ROLE|NODE=]MIB", value_delimiter = ',')]
    memory: Vec<Setting>,
    /// Virtual processors, in the same way.
    #[arg(long, value_name = "[ROLE|NODE=]COUNT", value_delimiter = ',')]
    cpus: Vec<Setting>,
    /// Forward a port of 127.0.0.1 to a node as well: a free one, or that one.
    #[arg(long, value_name = "NODE:PORT[=HOSTPORT]", value_delimiter = ',')]
    forward: Vec<Wish>,
    /// Firmware to boot with.
    #[arg(long, value_enum, default_value_t = Firmware::Bios)]
    firmware: Firmware,
    /// Seconds that all nodes may take to be Ready.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    timeout: u64,
    /// Seed of what `lab loss` and `lab duplicate` draw.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    /// Folder of the cache; $XDG_CACHE_HOME/bootwright or ~/.cache/bootwright if absent.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// Runs `lab up`.
pub fn up(options: &UpOptions) -> Result<(), Failure> {
    let loaded = load(&options.cluster_file)?;
    let background = if options.supervise {
        Background::Is
    } else if options.detach {
        let arguments = std::env::args_os().skip(1);
        let arguments = arguments.map(|word| if word == "--detach" { "--supervise".into() } else { word });
        Background::Start(arguments.collect())
    } else {
        Background::No
    };
    let options = Options {
        cluster: loaded.file,
        output: options.output.clone(),
        cache: cache_folder(options.cache.as_ref())?,
        firmware: options.firmware,
        memory: options.memory.clone(),
        cpus: options.cpus.clone(),
        forwards: options.forward.clone(),
        seed: options.seed,
        limit: Duration::from_secs(options.timeout),
    };
    cluster::up(options, background).map_err(failure)
}

/// Where the lab is.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Folder that the images were built into.
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    output: PathBuf,
}

/// Show the nodes, the forwarded ports and the faults of a lab.
#[derive(Debug, Clone, Args)]
pub struct StatusOptions {
    #[command(flatten)]
    place: Place,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `lab status`.
pub fn status(options: &StatusOptions) -> Result<(), Failure> {
    let status = commands::ask(&options.place.output, &Request::Status).map_err(failure)?;
    if options.json {
        print(serde_json::to_string_pretty(&status).expect("a status is strings and numbers") + "\n");
    } else {
        print(status::text(&status));
    }
    Ok(())
}

/// Print the console of a node's machine.
#[derive(Debug, Clone, Args)]
pub struct ConsoleOptions {
    /// Name of the node.
    node: String,
    #[command(flatten)]
    place: Place,
    /// Go on with what comes, until Ctrl-C.
    #[arg(short = 'F', long)]
    follow: bool,
    /// The last lines only.
    #[arg(short = 'n', long, value_name = "COUNT")]
    lines: Option<usize>,
}

/// Runs `lab console`.
pub fn console(options: &ConsoleOptions) -> Result<(), Failure> {
    let (output, node) = (&options.place.output, &options.node);
    commands::console(output, node, options.lines, options.follow, |line| print(format_args!("{line}\n")))
        .map_err(failure)
}

/// Print the log of a service of a node, or the names of its services.
#[derive(Debug, Clone, Args)]
pub struct LogsOptions {
    /// Name of the node.
    node: String,
    /// Name of the service; the names are printed if absent.
    service: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Runs `lab logs`.
pub fn logs(options: &LogsOptions) -> Result<(), Failure> {
    let text = commands::logs(&options.place.output, &options.node, options.service.as_deref());
    print(text.map_err(failure)?);
    Ok(())
}

/// Print the path of the kubeconfig that leads to the lab's API.
#[derive(Debug, Clone, Args)]
pub struct KubeconfigOptions {
    #[command(flatten)]
    place: Place,
}

/// Runs `lab kubeconfig`.
pub fn kubeconfig(options: &KubeconfigOptions) -> Result<(), Failure> {
    let folder = Folder::of(&options.place.output);
    folder.running().map_err(failure)?;
    print(format_args!("{}\n", folder.kubeconfig().display()));
    Ok(())
}

/// Press the power button of a node's machine, and wait until it is off.
#[derive(Debug, Clone, Args)]
pub struct NodeOptions {
    /// Name of the node.
    node: String,
    #[command(flatten)]
    place: Place,
}

/// Runs `lab stop`.
pub fn stop(options: &NodeOptions) -> Result<(), Failure> {
    let took = commands::stop(&options.place.output, &options.node).map_err(failure)?;
    print(format_args!("{} stopped in {:.1} s\n", options.node, took.as_secs_f64()));
    Ok(())
}

/// Runs `lab kill`.
pub fn kill(options: &NodeOptions) -> Result<(), Failure> {
    ask(&options.place, &Request::Kill(options.node.clone()))
}

/// Switch a node's machine on again.
#[derive(Debug, Clone, Args)]
pub struct StartOptions {
    /// Name of the node.
    node: String,
    #[command(flatten)]
    place: Place,
    /// Write the image to its disk anew: what it had stored is gone.
    #[arg(long)]
    reflash: bool,
}

/// Runs `lab start`.
pub fn start(options: &StartOptions) -> Result<(), Failure> {
    ask(&options.place, &Request::Start { node: options.node.clone(), reflash: options.reflash })
}

/// One node, or the way between two.
#[derive(Debug, Clone, Args)]
pub struct Between {
    /// Name of a node, or `outside`, where this machine and the gateway are.
    one: String,
    /// The other end; everything of the first if absent.
    other: Option<String>,
    #[command(flatten)]
    place: Place,
}

impl Between {
    fn add(&self, fault: Fault) -> Result<(), Failure> {
        let (one, other) = (self.one.clone(), self.other.clone());
        ask(&self.place, &Request::Add { one, other, fault })
    }
}

/// Runs `lab cut`.
pub fn cut(options: &Between) -> Result<(), Failure> {
    options.add(Fault::Cut)
}

/// Deliver frames later.
#[derive(Debug, Clone, Args)]
pub struct DelayOptions {
    /// Milliseconds, each way; 0 takes the delay away.
    #[arg(value_name = "MILLISECONDS", value_parser = clap::value_parser!(u32).range(..=60_000))]
    milliseconds: u32,
    #[command(flatten)]
    between: Between,
}

/// Runs `lab delay`.
pub fn delay(options: &DelayOptions) -> Result<(), Failure> {
    options.between.add(Fault::Delay(options.milliseconds))
}

/// A share of frames.
#[derive(Debug, Clone, Args)]
pub struct ShareOptions {
    /// Percent of the frames; 0 takes the fault away.
    #[arg(value_name = "PERCENT", value_parser = percent)]
    percent: f64,
    #[command(flatten)]
    between: Between,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.strip_suffix('%').unwrap_or(text).parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("write a number from 0 to 100".to_owned()),
    }
}

/// Runs `lab loss`.
pub fn loss(options: &ShareOptions) -> Result<(), Failure> {
    options.between.add(Fault::Loss(options.percent))
}

/// Runs `lab duplicate`.
pub fn duplicate(options: &ShareOptions) -> Result<(), Failure> {
    options.between.add(Fault::Duplicate(options.percent))
}

/// Take faults away.
#[derive(Debug, Clone, Args)]
pub struct HealOptions {
    /// Name of a node, or `outside`; all faults if absent.
    one: Option<String>,
    /// The other end; all faults of the first if absent.
    other: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Runs `lab heal`.
pub fn heal(options: &HealOptions) -> Result<(), Failure> {
    ask(&options.place, &Request::Heal { one: options.one.clone(), other: options.other.clone() })
}

/// Asks, and prints what state that made.
fn ask(place: &Place, request: &Request) -> Result<(), Failure> {
    let state = commands::ask(&place.output, request).map_err(failure)?;
    print(status::text(&state));
    Ok(())
}
