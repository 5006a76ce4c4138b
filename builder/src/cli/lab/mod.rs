//! `bootwright lab`

mod cluster;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Failure;
use super::output::{cluster_failure, print};
use crate::cluster::Loaded;
use crate::lab::bench::{self, Needs, Part, Several};
use crate::lab::cluster::commands;
use crate::lab::{Error, Firmware, demo};
use crate::sources::cache::Cache;

/// Boot built images in QEMU, without root.
#[derive(Debug, Clone, Args)]
pub struct LabArguments {
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum LabCommand {
    Up(cluster::UpOptions),
    Status(cluster::StatusOptions),
    Console(cluster::ConsoleOptions),
    Logs(cluster::LogsOptions),
    Kubeconfig(cluster::KubeconfigOptions),
    Stop(cluster::NodeOptions),
    Start(cluster::StartOptions),
    /// Pull the plug of a node's machine.
    Kill(cluster::NodeOptions),
    /// Let no frame pass from and to a node, or between two.
    Cut(cluster::Between),
    Heal(cluster::HealOptions),
    Delay(cluster::DelayOptions),
    /// Lose a share of the frames.
    Loss(cluster::ShareOptions),
    /// Deliver a share of the frames twice.
    Duplicate(cluster::ShareOptions),
    Down(DownOptions),
    Boot(BootOptions),
    Bench(BenchOptions),
}

/// Boot an image, run a pod on it, and switch it off again.
#[derive(Debug, Clone, Args)]
struct BootOptions {
    #[command(flatten)]
    machine: MachineOptions,
    /// Leave the machine running.
    #[arg(long)]
    keep: bool,
}

/// Measure builds and boots, compare with mkosi, and print a Markdown table.
#[derive(Debug, Clone, Args)]
struct BenchOptions {
    #[command(flatten)]
    machine: MachineOptions,
    /// How often each figure is measured; sizes, and what takes many minutes, are measured once.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// The cluster file of several nodes, for `lab` and `nodes`.
    #[arg(long, value_name = "FILE", default_value = "examples/four.toml")]
    several: PathBuf,
    /// How many nodes are simulated, for `nodes`.
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    nodes: u16,
    /// For how long, minutes.
    #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    minutes: u16,
    /// What to measure, separated by commas; everything if absent.
    #[arg(long, value_name = "PART,…", value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// The program mkosi; the one on PATH if absent.
    #[arg(long, value_name = "FILE", default_value = "mkosi")]
    mkosi: PathBuf,
    /// Folder of the programs that measure, examples of other crates: `examples` beside this program if absent.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// What to boot, and on what.
#[derive(Debug, Clone, Args)]
struct MachineOptions {
    /// The cluster file that the image was built from.
    #[arg(short = 'f', long = "file", value_name = "FILE", default_value = "cluster.toml")]
    cluster_file: PathBuf,
    /// Folder that the image was built into.
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    output: PathBuf,
    /// Node to be; the first of the cluster file if absent.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Workload to run: pods labelled app=web behind a Service on port 30080 of the node.
    #[arg(long, value_name = "FILE", default_value = "examples/web.yaml")]
    manifest: PathBuf,
    /// The program kubectl; the one beside Kubernetes' other programs, or on PATH, if absent.
    #[arg(long, value_name = "FILE")]
    kubectl: Option<PathBuf>,
    /// Firmware to boot with.
    #[arg(long, value_enum, default_value_t = Firmware::Bios)]
    firmware: Firmware,
    /// Memory, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u32,
    /// Virtual processors.
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    cpus: u8,
    /// Folder of the cache; $XDG_CACHE_HOME/bootwright or ~/.cache/bootwright if absent.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// End a lab, or stop a machine that `lab boot --keep` left running.
#[derive(Debug, Clone, Args)]
struct DownOptions {
    /// Folder that the image was built into.
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    output: PathBuf,
    /// Pull the plug instead of pressing the power button.
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(arguments: &LabArguments) -> Result<(), Failure> {
    match &arguments.command {
        LabCommand::Up(options) => cluster::up(options),
        LabCommand::Status(options) => cluster::status(options),
        LabCommand::Console(options) => cluster::console(options),
        LabCommand::Logs(options) => cluster::logs(options),
        LabCommand::Kubeconfig(options) => cluster::kubeconfig(options),
        LabCommand::Stop(options) => cluster::stop(options),
        LabCommand::Start(options) => cluster::start(options),
        LabCommand::Kill(options) => cluster::kill(options),
        LabCommand::Cut(options) => cluster::cut(options),
        LabCommand::Heal(options) => cluster::heal(options),
        LabCommand::Delay(options) => cluster::delay(options),
        LabCommand::Loss(options) => cluster::loss(options),
        LabCommand::Duplicate(options) => cluster::duplicate(options),
        LabCommand::Boot(options) => {
            let loaded = load(&options.machine.cluster_file)?;
            demo::run(&demo_options(&options.machine, &loaded, options.keep)?).map_err(failure)
        }
        LabCommand::Bench(options) => {
            let loaded = load(&options.machine.cluster_file)?;
            let boot = demo_options(&options.machine, &loaded, false)?;
            let program = std::env::current_exe().map_err(|error| {
                Failure::other(miette::miette!("cannot find this program, to measure it: {error}"))
            })?;
            let parts = if options.only.is_empty() { &Part::ALL[..] } else { &options.only };
            let wants_several = parts.iter().any(|part| part.needs() == Needs::Several);
            let several = wants_several.then(|| load(&options.several)).transpose()?;
            let output = boot.output.join("several");
            let options = bench::Options {
                several: several.map(|loaded| Several { loaded, output }),
                nodes: options.nodes,
                load: Duration::from_secs(u64::from(options.minutes) * 60),
                programs: options.programs.clone().unwrap_or_else(|| program.with_file_name("examples")),
                boot,
                loaded,
                program,
                mkosi: options.mkosi.clone(),
                runs: options.runs,
                parts: parts.iter().copied().collect(),
            };
            bench::run(&options).map_err(failure)
        }
        LabCommand::Down(options) => down(options),
    }
}

fn load(cluster_file: &Path) -> Result<Loaded, Failure> {
    crate::cluster::load(cluster_file, None).map_err(cluster_failure)
}

fn cache_folder(asked: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    let cache = asked.cloned().map_or_else(Cache::default_root, Ok);
    cache.map_err(|error| Failure::other(miette::Report::msg(error)))
}

/// Both can be of one folder.
fn down(options: &DownOptions) -> Result<(), Failure> {
    let lab = commands::down(&options.output, options.force).map_err(failure)?;
    if let Some(words) = &lab {
        print(format_args!("{words}\n"));
    }
    if lab.is_none() || demo::is_running(&options.output).map_err(failure)? {
        demo::stop(&options.output, options.force).map_err(failure)?;
    }
    Ok(())
}

fn demo_options(options: &MachineOptions, loaded: &Loaded, keep: bool) -> Result<demo::Options, Failure> {
    let kubectl = options.kubectl.clone().unwrap_or_else(|| find_kubectl(loaded));
    let cache = cache_folder(options.cache.as_ref())?;
    Ok(demo::Options {
        cluster: loaded.file.clone(),
        program: std::env::args_os().next().map_or_else(|| "bootwright".into(), PathBuf::from),
        output: options.output.clone(),
        node: options.node.clone(),
        manifest: options.manifest.clone(),
        kubectl,
        cache,
        firmware: options.firmware,
        memory_mib: options.memory,
        cpus: options.cpus,
        keep,
    })
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Interrupted(interrupted) => Failure::interrupted(interrupted),
        Error::LeftRunning { error, advice } => failure(*error).with_last_words(advice),
        error => Failure::other(error),
    }
}

/// The kubectl of the same version as the cluster, if the cluster file knows a folder with one.
fn find_kubectl(loaded: &Loaded) -> PathBuf {
    let folder = loaded.file.kubernetes.directory.as_deref().map(|folder| loaded.resolve(folder));
    folder
        .map(|folder| folder.join("kubectl"))
        .filter(|path| path.is_file())
        .unwrap_or_else(|| "kubectl".into())
}
