//! `bootwright lab`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Failure;
use super::output::cluster_failure;
use crate::cluster;
use crate::lab::bench::{self, Part};
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
    Boot(BootOptions),
    Down(DownOptions),
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
    /// How often each figure is measured; sizes and the smallest machine are measured once.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// What to measure, separated by commas; everything if absent.
    #[arg(long, value_name = "PART,…", value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// The program mkosi; the one on PATH if absent.
    #[arg(long, value_name = "FILE", default_value = "mkosi")]
    mkosi: PathBuf,
    /// The program that measures the pod network, an example of first boot: examples/measure-pods beside this
    /// program if absent.
    #[arg(long, value_name = "FILE")]
    measure_pods: Option<PathBuf>,
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

/// Stop a machine that was left running.
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
        LabCommand::Boot(options) => {
            let loaded = load(&options.machine)?;
            demo::run(&demo_options(&options.machine, &loaded, options.keep)?).map_err(failure)
        }
        LabCommand::Bench(options) => {
            let loaded = load(&options.machine)?;
            let boot = demo_options(&options.machine, &loaded, false)?;
            let program = std::env::current_exe().map_err(|error| {
                Failure::other(miette::miette!("cannot find this program, to measure it: {error}"))
            })?;
            let parts = if options.only.is_empty() { &Part::ALL[..] } else { &options.only };
            let measure_pods = options.measure_pods.clone();
            let options = bench::Options {
                measure_pods: measure_pods.unwrap_or_else(|| program.with_file_name("examples/measure-pods")),
                boot,
                loaded,
                program,
                mkosi: options.mkosi.clone(),
                runs: options.runs,
                parts: parts.iter().copied().collect(),
            };
            bench::run(&options).map_err(failure)
        }
        LabCommand::Down(options) => demo::stop(&options.output, options.force).map_err(failure),
    }
}

fn load(options: &MachineOptions) -> Result<cluster::Loaded, Failure> {
    cluster::load(&options.cluster_file, None).map_err(cluster_failure)
}

fn demo_options(
    options: &MachineOptions,
    loaded: &cluster::Loaded,
    keep: bool,
) -> Result<demo::Options, Failure> {
    let kubectl = options.kubectl.clone().unwrap_or_else(|| find_kubectl(loaded));
    let cache = options.cache.clone().map_or_else(Cache::default_root, Ok);
    let cache = cache.map_err(|error| Failure::other(miette::Report::msg(error)))?;
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
fn find_kubectl(loaded: &cluster::Loaded) -> PathBuf {
    let folder = loaded.file.kubernetes.directory.as_deref().map(|folder| loaded.resolve(folder));
    folder
        .map(|folder| folder.join("kubectl"))
        .filter(|path| path.is_file())
        .unwrap_or_else(|| "kubectl".into())
}
