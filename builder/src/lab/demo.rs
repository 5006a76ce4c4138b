//! Boots a built image, runs a pod on it, and tells what a person wants to know.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bootwright_model::cluster::{ClusterFile, Node};
use bootwright_model::families::Family;
use ipnet::IpNet;

use super::accelerator::{self, Choice};
use super::api::Api;
use super::kubeconfig::Kubeconfig;
use super::kubectl::Kubectl;
use super::session::Session;
use super::spec::Network;
use super::state::Running;
use super::summary::{self, Facts};
use super::{Error, Firmware, Lifetime, Spec, console, left_running};
use crate::progress::interrupt;

/// Folder of the machine's files below the output folder.
const MACHINE: &str = "machine";
/// The kubeconfig that the build leaves in the output folder.
pub const KUBECONFIG: &str = "kubeconfig";
/// Port of the manifest's Service on every node.
const NODE_PORT: u16 = 30080;
/// Size of the machine's disk; a hole in a file, until it is written to.
const DISK_BYTES: u64 = 8 << 30;
/// Without acceleration, on two cores that do other things as well.
const READY: Duration = Duration::from_secs(600);
/// How long the pod may take once the node is Ready.
const POD: Duration = Duration::from_secs(420);
/// How long a single kubectl may take.
const KUBECTL: Duration = Duration::from_secs(120);
/// How long the guest may take to stop its services and switch itself off.
const STOP: Duration = Duration::from_secs(90);

/// What to boot, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The checked cluster file that the image was built from.
    pub cluster: ClusterFile,
    /// This program as it was called, for commands that a person is told to run.
    pub program: PathBuf,
    /// Folder with the image and the kubeconfig.
    pub output: PathBuf,
    /// Name of the node to be; the first if absent.
    pub node: Option<String>,
    /// Manifest of the workload: pods labelled `app=web` behind a Service on port 30080 of the node.
    pub manifest: PathBuf,
    /// The program kubectl.
    pub kubectl: PathBuf,
    /// Cache folder, for the accelerator's verdict.
    pub cache: PathBuf,
    /// Firmware.
    pub firmware: Firmware,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u8,
    /// Leave it running.
    pub keep: bool,
}

/// Where the machine of an output folder has its files.
pub fn machine_folder(output: &Path) -> PathBuf {
    output.join(MACHINE)
}

/// Boots, runs the pod, tells, and stops or leaves it running.
///
/// # Errors
/// Anything that did not come out as it should, the clean stop included. Once the machine was switched on, the
/// console's last lines are printed before an error is returned. [`Error::LeftRunning`] if the machine was to be kept and still runs.
pub fn run(options: &Options) -> Result<(), Error> {
    let folder = machine_folder(&options.output);
    if Running::find(&folder)?.is_some() {
        let (output, down) = (options.output.display(), left_running::down(options, false));
        return Err(Error::State(format!("a machine of {output} is running; stop it with `{down}`")));
    }
    // What the folder's console log says before the machine is switched on is of another boot.
    let session = start(options, &folder)?;
    let Err(error) = follow(options, &folder, session) else { return Ok(()) };
    if matches!(error, Error::Interrupted(_)) {
        // Who presses Ctrl-C does not expect anything to go on.
        let ended = match Running::find(&folder) {
            Ok(Some((running, mut qmp))) => running.kill(&mut qmp, &folder),
            other => other.map(drop),
        };
        if let Err(reason) = ended {
            println!("the machine may still run ({reason}): {}", left_running::down(options, true));
        }
        return Err(error);
    }
    let log = folder.join(super::machine::CONSOLE_LOG);
    println!("\nlast lines of {}:", log.display());
    for line in console::last_lines(&log, 25) {
        println!("  {line}");
    }
    Err(if options.keep { left_running::after_failure(options, error) } else { error })
}

/// Whether a machine that `keep` left runs.
///
/// # Errors
/// Its record cannot be read.
pub fn is_running(output: &Path) -> Result<bool, Error> {
    Ok(Running::find(&machine_folder(output))?.is_some())
}

/// Stops a machine that `keep` left running: by its power button, or with `force` at once.
///
/// # Errors
/// None is running, or it does not stop.
pub fn stop(output: &Path, force: bool) -> Result<(), Error> {
    let folder = machine_folder(output);
    let Some((running, mut qmp)) = Running::find(&folder)? else {
        return Err(Error::State(format!("no lab and no machine of {} is running", output.display())));
    };
    if force { running.kill(&mut qmp, &folder) } else { running.stop(&mut qmp, &folder, STOP) }
}

/// Switches the machine on, and records it if it is to be kept.
fn start(options: &Options, folder: &Path) -> Result<Session, Error> {
    let node = pick_node(options)?;
    let image = image_path(options)?;
    let choice = accelerator::choose(&image, &options.cache)?;
    println!("accelerator  {}", choice.reason);
    println!("booting      {} as {} ({})", image.display(), node.name, describe(options));
    let spec = spec(options, node, &image, &choice, folder)?;
    let mut session = Session::start(spec, |line| println!("  {line}"))?;
    if options.keep
        && let Err(error) = Running::record(session.machine())
    {
        // Without its record nobody would find it again.
        session.machine().kill()?;
        return Err(error);
    }
    Ok(session)
}

/// Waits for the node, runs the pod, tells, and stops the machine or leaves it running.
fn follow(options: &Options, folder: &Path, mut session: Session) -> Result<(), Error> {
    let (node, image) = (pick_node(options)?, image_path(options)?);
    let mut kubeconfig = Kubeconfig::read(&options.output.join(KUBECONFIG))?;
    let api_port = session.machine().host_port(options.cluster.cluster.endpoint_port);
    let api_port = api_port.expect("the API's port is among those that spec() forwards");
    kubeconfig.point_at(&format!("https://127.0.0.1:{api_port}"))?;
    let api = Api::new(&kubeconfig)?;

    let ready = session.wait_node_ready(&api, &node.name, READY)?;
    println!("node {} Ready {:.1} s after power-on", node.name, ready.as_secs_f64());
    let kubectl = Kubectl::new(&options.kubectl, &options.output.join(KUBECONFIG), &folder.join("kubectl"));
    let web_port = session.machine().host_port(NODE_PORT).expect("spec() forwards it");
    let pod = run_workload(&options.manifest, &kubectl, web_port)?;
    let report = session.report()?.unwrap_or_default();
    let memory = summary::memory_in_use(session.machine().qmp()?)?;
    let facts = Facts { image: &image, ready, pod, report: &report, memory, api_port, web_port };
    println!("\n{}", summary::text(options, &facts)?);

    if options.keep {
        return Ok(());
    }
    let took = session.power_off(STOP)?;
    println!("power button pressed; the machine stopped cleanly in {:.1} s", took.as_secs_f64());
    Ok(())
}

/// The image of the node's role.
///
/// # Errors
/// As [`pick_node`].
pub fn image_path(options: &Options) -> Result<PathBuf, Error> {
    Ok(options.output.join(format!("{}.raw", pick_node(options)?.role)))
}

/// The node that the options name.
///
/// # Errors
/// There is none of that name.
pub fn pick_node(options: &Options) -> Result<&Node, Error> {
    let nodes = &options.cluster.nodes;
    match &options.node {
        None => nodes.first().ok_or_else(|| Error::State("the cluster file has no [[node]]".to_owned())),
        Some(name) => nodes.iter().find(|node| node.name == *name).ok_or_else(|| {
            let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            Error::State(format!("the cluster file has no node '{name}', but {}", names.join(", ")))
        }),
    }
}

/// The machine that the cluster file describes, with QEMU's user-mode network around it.
///
/// # Errors
/// The node has no IPv4 address, which that network wants.
pub fn spec(
    options: &Options,
    node: &Node,
    image: &Path,
    choice: &Choice,
    folder: &Path,
) -> Result<Spec, Error> {
    let Some(IpNet::V4(network)) = node.address.of(Family::V4) else {
        return Err(Error::State(format!(
            "node '{}' has no IPv4 address; the lab's network needs one",
            node.name
        )));
    };
    let mac = node.mac.clone().unwrap_or_else(|| "52:54:00:00:00:01".to_owned());
    Ok(Spec {
        name: node.name.clone(),
        folder: folder.to_owned(),
        image: image.to_owned(),
        disk_bytes: DISK_BYTES,
        cpus: options.cpus,
        memory_mib: options.memory_mib,
        firmware: options.firmware,
        accelerator: choice.accelerator,
        mac,
        network: Network::User {
            address: network.addr(),
            prefix_length: network.prefix_len(),
            advertised: None,
            ports: vec![options.cluster.cluster.endpoint_port, NODE_PORT],
        },
        lifetime: if options.keep { Lifetime::Detached } else { Lifetime::Bound },
        arguments: Vec::new(),
    })
}

fn describe(options: &Options) -> String {
    let firmware = match options.firmware {
        Firmware::Bios => "BIOS",
        Firmware::Uefi => "UEFI",
    };
    format!("{firmware}, {} processors, {} MiB", options.cpus, options.memory_mib)
}

/// Applies the manifest, waits for the pod, reaches it through its Service, and finds the request in its
/// log. Returns how long the pod took to be ready.
///
/// # Errors
/// Any of these failed.
pub fn run_workload(manifest: &Path, kubectl: &Kubectl, web_port: u16) -> Result<Duration, Error> {
    let manifest = manifest.to_string_lossy();
    let begin = Instant::now();
    kubectl.retry(&["apply", "-f", &manifest], KUBECTL)?;
    let limit = format!("--timeout={}s", POD.as_secs());
    kubectl.run(&["rollout", "status", &limit, "deployment/web"], POD + KUBECTL)?;
    let took = begin.elapsed();
    println!("pod web is ready after {:.1} s", took.as_secs_f64());

    // The port is open only when kube-proxy has the Service's endpoints. The readiness probe asks for /, so
    // that this path in the log is our request.
    let path = "/index.html";
    let answer = get_until(web_port, path, Instant::now() + POD)?;
    let title = answer.lines().map(str::trim).find(|line| line.starts_with("<title>")).unwrap_or("200 OK");
    println!("its Service answers at http://127.0.0.1:{web_port}{path}: {title}");
    let deadline = Instant::now() + KUBECTL;
    loop {
        // All of it: the readiness probe adds a request each second.
        let log = kubectl.run(&["logs", "-l", "app=web", "--tail=-1"], KUBECTL)?;
        if let Some(line) = log.lines().find(|line| line.contains(path)) {
            println!("and kubectl logs shows the request: {line}");
            return Ok(took);
        }
        if Instant::now() >= deadline {
            let status = "the request is not in the log".to_owned();
            return Err(Error::Kubectl { arguments: "logs -l app=web".to_owned(), status, message: log });
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Asks for a page until it is there, and returns its body.
///
/// # Errors
/// It is not there at `deadline`, or Ctrl-C was pressed.
pub fn get_until(port: u16, path: &str, deadline: Instant) -> Result<String, Error> {
    loop {
        if interrupt::requested() {
            return Err(interrupt::Interrupted.into());
        }
        match get(port, path) {
            Ok(body) => return Ok(body),
            Err(reason) if Instant::now() >= deadline => {
                return Err(Error::Api { address: format!("http://127.0.0.1:{port}{path}"), reason });
            }
            Err(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}

/// One request on a connection of its own: an idle one would hold the balancing of a Service fast.
fn get(port: u16, path: &str) -> Result<String, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let limit = Duration::from_secs(5);
    let mut answer = Vec::new();
    TcpStream::connect_timeout(&address, limit)
        .and_then(|mut stream| {
            stream.set_read_timeout(Some(limit))?;
            stream.set_write_timeout(Some(limit))?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: web\r\n\r\n")?;
            stream.read_to_end(&mut answer)
        })
        .map_err(|error| error.to_string())?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("not an HTTP answer")?;
    if head.split(' ').nth(1) != Some("200") {
        return Err(format!("answered {}", head.lines().next().unwrap_or_default()));
    }
    Ok(body.to_owned())
}
