//! Whole images in QEMU: the harness that the tests share.
//!
//! The image is built once, by `./run test`, which names its folder in `BOOTWRIGHT_IMAGE`. Each test has
//! a machine and a folder of its own below it, where logs stay to be looked at when a test failed.

pub mod control_plane;
mod disks;
pub mod packages;
pub mod reports;
pub mod screen;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootwright::cli::BuildOptions;
use bootwright::cluster::{self, Loaded};
use bootwright::compose;
use bootwright::image::esp;
use bootwright::lab::accelerator::{self, Choice};
use bootwright::lab::api::Api;
use bootwright::lab::kubeconfig::Kubeconfig;
use bootwright::lab::kubectl::Kubectl;
use bootwright::lab::session::Session;
use bootwright::lab::spec::Network;
use bootwright::lab::{self, Firmware, Lifetime, Spec, console, machine};
use bootwright::progress::Lines;
use bootwright_model::cluster::Node;
pub use disks::{damaged, flip_bit, partition, write_seed};

/// Folder of the built image and its kubeconfig.
const IMAGE: &str = "BOOTWRIGHT_IMAGE";
/// Cluster file that it was built from, relative to the repository.
pub const CLUSTER: &str = "examples/all-in-one.toml";
/// Folder of the images of [`FOUR`].
const FOUR_IMAGES: &str = "BOOTWRIGHT_FOUR";
/// Cluster file of several roles, relative to the repository.
const FOUR: &str = "examples/four.toml";
/// Folder of the images of [`DUAL`].
const DUAL_IMAGES: &str = "BOOTWRIGHT_DUAL";
/// Cluster file of a control plane and a worker with both address families, relative to the repository.
const DUAL: &str = "examples/dual.toml";
/// Folder of the image of [`CLOUD`].
const CLOUD_IMAGE: &str = "BOOTWRIGHT_CLOUD";
/// Cluster file of a node that waits for a cloud's controller manager, relative to the repository.
const CLOUD: &str = "examples/cloud.toml";
/// Folder of the images of [`BGP`].
const BGP_IMAGES: &str = "BOOTWRIGHT_BGP";
/// Cluster file of a control plane and a worker with IPv4, relative to the repository.
const BGP: &str = "examples/bgp.toml";
/// Folder of the images of [`HA`].
const HA_IMAGES: &str = "BOOTWRIGHT_HA";
/// Cluster file of several control planes, relative to the repository.
const HA: &str = "examples/ha.toml";
/// Folder of the image of [`BOND`].
const BOND_IMAGE: &str = "BOOTWRIGHT_BOND";
/// Cluster file of a node with bonds and a VLAN, relative to the repository.
const BOND: &str = "examples/bond.toml";
/// Workload that the image has a container image for.
const MANIFEST: &str = "examples/web.yaml";
/// Port of its Service on the node.
pub const NODE_PORT: u16 = 30080;

/// Bound for a boot to node Ready. Far above what it takes: time is measured elsewhere.
pub const READY: Duration = Duration::from_secs(420);
/// Bound for a boot until its first services are started, or it has failed.
pub const FIRST_SERVICES: Duration = Duration::from_secs(180);
/// Bound for a clean stop.
pub const STOP: Duration = Duration::from_secs(90);

/// The image under test and what it was built from.
pub struct Image {
    folder: PathBuf,
    loaded: Loaded,
    choice: Choice,
}

impl Image {
    /// The image that `BOOTWRIGHT_IMAGE` names.
    ///
    /// # Panics
    /// There is none: a test that cannot get what it needs fails.
    pub fn under_test() -> Image {
        Image::named(IMAGE, CLUSTER)
    }

    /// The images of a control plane and of workers that `BOOTWRIGHT_FOUR` names; what speaks of one image speaks of
    /// the control plane's.
    ///
    /// # Panics
    /// There are none.
    pub fn of_four() -> Image {
        Image::named(FOUR_IMAGES, FOUR)
    }

    /// The images of a control plane and a worker with both address families that `BOOTWRIGHT_DUAL` names.
    ///
    /// # Panics
    /// There are none.
    pub fn of_dual() -> Image {
        Image::named(DUAL_IMAGES, DUAL)
    }

    /// The image of a cloud's node that `BOOTWRIGHT_CLOUD` names.
    ///
    /// # Panics
    /// There is none.
    pub fn of_cloud() -> Image {
        Image::named(CLOUD_IMAGE, CLOUD)
    }

    /// The images of a control plane and a worker with IPv4 alone that `BOOTWRIGHT_BGP` names.
    ///
    /// # Panics
    /// There are none.
    pub fn of_bgp() -> Image {
        Image::named(BGP_IMAGES, BGP)
    }

    /// The images of three control planes and a worker that `BOOTWRIGHT_HA` names.
    ///
    /// # Panics
    /// There are none.
    pub fn of_ha() -> Image {
        Image::named(HA_IMAGES, HA)
    }

    /// The image of a node with bonds and a VLAN that `BOOTWRIGHT_BOND` names.
    ///
    /// # Panics
    /// There is none.
    pub fn of_bond() -> Image {
        Image::named(BOND_IMAGE, BOND)
    }

    /// The cluster's authorities, which are no part of the image of a worker.
    pub fn secrets(&self) -> PathBuf {
        let name = &self.loaded.file.cluster.name;
        repository().join("examples").join("secrets").join(name)
    }

    fn named(variable: &str, cluster_file: &str) -> Image {
        let folder = std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| {
            panic!("{variable} names no folder with built images; ./run test and ./run lab-test build them")
        });
        Image::open(&folder, &repository().join(cluster_file))
    }

    /// The image that `cluster_file` was built into `folder` as.
    ///
    /// # Panics
    /// It is not there.
    pub fn open(folder: &Path, cluster_file: &Path) -> Image {
        let image = Image {
            choice: Choice { accelerator: accelerator::Accelerator::Tcg, reason: String::new() },
            folder: folder.to_owned(),
            loaded: cluster::load(cluster_file, None).expect("the cluster file is good"),
        };
        let choice =
            accelerator::choose(&image.path(), &image.folder).expect("QEMU and the image's kernel are there");
        Image { choice, ..image }
    }

    /// Builds the only image of a cluster file of the test's own into `folder`.
    ///
    /// # Panics
    /// It cannot be built.
    pub fn build(folder: &Path, text: &str) -> Image {
        let kubernetes = repository().join(".cache/kubernetes-1.20.2");
        let text = text.replace("../.cache/kubernetes-1.20.2", &kubernetes.display().to_string());
        let cluster_file = folder.join("cluster.toml");
        std::fs::write(&cluster_file, text).expect("the folder is writable");
        let options = BuildOptions {
            cluster_file,
            output: folder.to_owned(),
            update: false,
            runtime: std::env::var_os("BOOTWRIGHT_RUNTIME").map(Into::into),
            profiles: None,
            cache: None,
            source_date_epoch: None,
            json: false,
        };
        compose::build(&options, &Lines::new(std::io::stdout(), false))
            .unwrap_or_else(|error| panic!("{error}"));
        Image::open(folder, &options.cluster_file)
    }

    /// Its folder, in which each test has one of its own below `tests`.
    pub fn folder(&self, test: &str) -> PathBuf {
        self.folder.join("tests").join(test)
    }

    /// The raw disk image.
    pub fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.raw", self.node().role))
    }

    /// Path of the unified kernel image on the ESP.
    pub fn boot_image(&self) -> String {
        esp::uki_path(&format!("{}.efi", self.node().role))
    }

    /// The root hash, as the description beside the image has it.
    pub fn root_hash(&self) -> String {
        let path = self.path().with_extension("json");
        let text = std::fs::read_to_string(&path).expect("the build describes its image");
        let description: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        description["root-hash"].as_str().expect("it has a root hash").to_owned()
    }

    /// The node that the machines are.
    pub fn node(&self) -> &Node {
        self.loaded.file.nodes.first().expect("the example has a node")
    }

    /// A machine for the test `name`, as a real one would be; a test changes what it is about.
    pub fn spec(&self, name: &str, firmware: Firmware) -> Spec {
        let IpAddr::V4(address) = self.node().address.addr() else {
            panic!("the example has an IPv4 address");
        };
        let folder = self.folder(name);
        // What an earlier run of the test left.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("the folder of the image is writable");
        Spec {
            name: name.to_owned(),
            folder,
            image: self.path(),
            disk_bytes: 8 << 30,
            cpus: 2,
            memory_mib: 2048,
            firmware,
            accelerator: self.choice.accelerator,
            mac: self.node().mac.clone().expect("the example has a MAC address"),
            network: Network::User {
                address,
                prefix_length: self.node().address.primary().prefix_len(),
                advertised: None,
                ports: vec![self.loaded.file.cluster.endpoint_port, NODE_PORT],
            },
            lifetime: Lifetime::Bound,
            arguments: Vec::new(),
        }
    }

    /// The folder that the image was built into.
    pub fn root(&self) -> &Path {
        &self.folder
    }

    /// A lab of the image's cluster file.
    pub fn lab_options(&self) -> lab::cluster::Options {
        lab::cluster::Options {
            cluster: self.loaded.file.clone(),
            output: self.folder.clone(),
            cache: self.folder.clone(),
            firmware: Firmware::Bios,
            memory: Vec::new(),
            cpus: Vec::new(),
            forwards: Vec::new(),
            seed: 1,
            limit: READY,
        }
    }

    /// Switches a machine on. Console lines go to the test's output.
    pub fn boot(&self, spec: Spec) -> Boot<'_> {
        println!("{}: {}", spec.name, self.choice.reason);
        let folder = spec.folder.clone();
        let session = Session::start(spec, |line| println!("{line}")).expect("QEMU starts");
        Boot { image: self, session, folder }
    }
}

/// The repository that the tests are of.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository")
}

/// A running machine.
pub struct Boot<'a> {
    image: &'a Image,
    /// What it says and does.
    pub session: Session,
    folder: PathBuf,
}

impl Boot<'_> {
    /// A client of its API server.
    pub fn api(&mut self) -> Api {
        let port = self.host_port(self.image.loaded.file.cluster.endpoint_port);
        let path = self.folder.join("kubeconfig");
        std::fs::copy(self.image.folder.join("kubeconfig"), &path).expect("the build leaves a kubeconfig");
        let mut kubeconfig = Kubeconfig::read(&path).expect("it was just written");
        kubeconfig.point_at(&format!("https://127.0.0.1:{port}")).expect("it names a server");
        Api::new(&kubeconfig).expect("it has certificates")
    }

    /// kubectl with the kubeconfig that [`Boot::api`] wrote.
    pub fn kubectl(&self) -> Kubectl {
        let kubernetes =
            self.image.loaded.file.kubernetes.directory.as_deref().expect("the example names a folder");
        let program = self.image.loaded.resolve(kubernetes).join("kubectl");
        Kubectl::new(&program, &self.folder.join("kubeconfig"), &self.folder.join("kubectl"))
    }

    /// The example's workload.
    pub fn manifest(&self) -> PathBuf {
        repository().join(MANIFEST)
    }

    /// The port of 127.0.0.1 that leads to a port of the node.
    pub fn host_port(&mut self, guest: u16) -> u16 {
        self.session.machine().host_port(guest).expect("the port is among those of spec()")
    }

    /// Waits until the node is Ready.
    ///
    /// # Panics
    /// It is not in time; with the console's last lines.
    pub fn wait_ready(&mut self, api: &Api) {
        let name = self.image.node().name.clone();
        let outcome = self.session.wait_node_ready(api, &name, READY);
        let took = self.expect("node Ready", outcome);
        println!("node {name} Ready {:.1} s after power-on", took.as_secs_f64());
    }

    /// The value, or a failed test with the console's last lines.
    ///
    /// # Panics
    /// `outcome` is an error.
    pub fn expect<T>(&mut self, what: &str, outcome: Result<T, bootwright::lab::Error>) -> T {
        outcome.unwrap_or_else(|error| {
            let lines = console::last_lines(&self.session.machine().console_log(), 40).join("\n  ");
            panic!("{what}: {error}\nthe console's last lines:\n  {lines}")
        })
    }

    /// Everything that the console has said.
    pub fn console(&mut self) -> String {
        console::last_lines(&self.session.machine().console_log(), usize::MAX).join("\n")
    }
}

impl Drop for Boot<'_> {
    fn drop(&mut self) {
        let _ = self.session.machine().kill();
        // Logs stay to be looked at, the disks do not: there are dozens of them, up to a gigabyte each. What a
        // test made its machine of stays with a failed one.
        let _ = std::fs::remove_file(self.folder.join(machine::DISK));
        for disk in disks(&self.folder) {
            match std::thread::panicking() {
                true => println!("the disk that the test was about: {}", disk.display()),
                false => drop(std::fs::remove_file(disk)),
            }
        }
    }
}

/// The disk images in a folder.
fn disks(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "raw"))
        .collect()
}
