//! A cluster whose packages are made for the test: an archive on loopback, a cluster file, a profile, our
//! two programs, and a folder of host tools.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bootwright::digests::sha256;
use bootwright::image::bios::GRUB_FILES;

use crate::image::small_stub;
use crate::sources::testing::{Deb, Packing, Repository, Server};

/// Bytes of the package that fetching takes time with; they cannot be compressed.
const PAYLOAD: usize = 4 << 20;

const PROFILE: &str = r#"
role = "all-in-one"
description = "for a test"
kubernetes = ["1.20"]
binaries = ["kubelet"]
[kernel]
flavour = "cloud"
modules = []
initramfs-modules = []
[packages]
install = ["containerd", "etcd-server", "payload"]
[[service]]
name = "etcd"
command = ["/usr/bin/etcd"]
"#;

/// Everything that a build takes, and where it puts what it makes.
pub struct World {
    folder: tempfile::TempDir,
    repository: Repository,
    pub server: Server,
}

impl World {
    pub fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let repository = repository();
        let server = Server::new(repository.root());
        let world = World { folder, repository, server };
        world.write("kubernetes/kubelet", &program());
        for name in ["firstboot", "agent", "pause", "probe"] {
            world.write(&format!("runtime/{name}"), &program());
        }
        world.write("profiles/all-in-one.toml", PROFILE.as_bytes());
        world.write("cluster.toml", world.cluster_file(&world.server.url()).as_bytes());
        let output = format!(
            "while [ \"$1\" != --output ]; do shift; done\nexec /bin/cp {} \"$2\"",
            world.path("core.img").display()
        );
        world.tool("grub-mkimage", &output);
        world.write("core.img", &core_image());
        world
    }

    pub fn cluster_file(&self, mirror: &str) -> String {
        format!(
            "[cluster]\nname = \"harbor\"\nendpoint = \"10.20.0.10\"\npod-cidr = \"10.10.0.0/16\"\n\
             service-cidr = \"10.96.0.0/16\"\n[kubernetes]\nversion = \"1.20.2\"\ndirectory = \"kubernetes\"\n\
             [base]\nmirror = \"{mirror}\"\nkeyring = \"{}\"\n[[node]]\nname = \"cp1\"\nrole = \"all-in-one\"\n\
             mac = \"52:54:00:00:00:01\"\naddress = \"10.20.0.10/24\"\ngateway = \"10.20.0.1\"\n",
            self.repository.path("key.gpg").display()
        )
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub fn write(&self, below: &str, bytes: &[u8]) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A host tool that comes before the machine's own.
    pub fn tool(&self, name: &str, script: &str) {
        self.write(&format!("tools/{name}"), format!("#!/bin/sh\n{script}\n").as_bytes());
        let path = self.path(&format!("tools/{name}"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn remove_tool(&self, name: &str) {
        fs::remove_file(self.path(&format!("tools/{name}"))).unwrap();
    }

    /// Path of the payload's package on the server.
    pub fn payload(&self) -> String {
        format!("/{}", Repository::pool("payload", "1"))
    }

    /// The index of the packages on the server, by its digest.
    pub fn index_by_hash(&self) -> String {
        let folder = "dists/bookworm/main/binary-amd64";
        let index = fs::read(self.repository.path(&format!("{folder}/Packages.xz"))).unwrap();
        format!("/{folder}/by-hash/SHA256/{}", sha256(&index))
    }

    /// The partial download of the payload.
    pub fn partial(&self) -> PathBuf {
        let package = fs::read(self.repository.path(&self.payload()[1..])).unwrap();
        self.path(&format!("cache/partial/{}.part", sha256(&package)))
    }

    /// `bootwright build` in this world.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootwright"));
        command.args(["build", "--cache", "cache", "--runtime", "runtime", "-o", "out"]);
        command.current_dir(self.folder.path());
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path("tools").display()));
        command.env_remove("SOURCE_DATE_EPOCH").env_remove("XDG_CACHE_HOME");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn build(&self) -> Ended {
        Ended::from(self.command().output().unwrap())
    }

    pub fn start(&self) -> Running {
        Running(Some(self.command().spawn().unwrap()))
    }

    /// Names in a folder of this world; none if it is not there.
    pub fn names(&self, below: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(below)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Nothing is under a temporary name, and what has its final name is whole.
    pub fn assert_tidy(&self) {
        assert_eq!(self.names("cache/tmp"), [""; 0], "temporary files of the cache");
        for folder in [".", "out", "secrets", "cache/layers"] {
            let hidden: Vec<String> =
                self.names(folder).into_iter().filter(|name| name.starts_with('.')).collect();
            let known = if folder == "secrets" { vec![".gitignore".to_owned()] } else { Vec::new() };
            assert!(hidden.is_empty() || hidden == known, "{folder}: {hidden:?}");
        }
        for path in self.objects() {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(sha256(&fs::read(&path).unwrap()), name, "an object of the cache is not whole");
        }
    }

    /// The objects of the cache.
    pub fn objects(&self) -> Vec<PathBuf> {
        let shards = self.names("cache/objects").into_iter().map(|shard| format!("cache/objects/{shard}"));
        let objects = shards.flat_map(|shard| {
            let names = self.names(&shard);
            names.into_iter().map(move |name| format!("{shard}/{name}"))
        });
        objects.map(|object| self.path(&object)).collect()
    }

    /// Requests for packages so far, by path, with the ranges.
    pub fn pool_requests(&self) -> Vec<String> {
        let requests = self.server.requests().into_iter();
        requests.filter(|request| request.starts_with("/pool/")).collect()
    }
}

/// A build under way; it is ended with the test.
pub struct Running(Option<Child>);

impl Running {
    /// Bounded wait for `met`.
    pub fn until(&mut self, what: &str, met: impl Fn() -> bool) {
        let child = self.0.as_mut().unwrap();
        let begin = Instant::now();
        while !met() {
            assert!(begin.elapsed() < Duration::from_secs(60), "{what} did not happen in a minute");
            assert!(child.try_wait().unwrap().is_none(), "the build ended before {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = self.0.as_ref().unwrap().id();
        let id = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// The end, which has to come in `most`.
    pub fn end_within(mut self, most: Duration) -> Ended {
        let mut child = self.0.take().unwrap();
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begin.elapsed() > most {
                let _ = child.kill();
                let output = child.wait_with_output().unwrap();
                panic!("the build still ran after {most:?}: {}", Ended::from(output).stderr);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ended::from(child.wait_with_output().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a build left on its way out.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Ended {
    /// It built.
    pub fn assert_built(&self) {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
    }

    /// Standard error without the line breaks and the margin of diagnostics.
    pub fn said(&self) -> String {
        let margin = ["│", "|", "×", "x", "╰─▶", "`->", "├─▶", "|->"];
        let words = self.stderr.split_whitespace().filter(|word| !margin.contains(word));
        words.collect::<Vec<_>>().join(" ")
    }
}

/// Packages of a root, small enough to be made at each start of a test.
fn repository() -> Repository {
    let mut repository = Repository::new();
    let mut grub = Deb::new("grub-pc-bin", "2.06-13");
    for name in GRUB_FILES {
        let contents = if name == "boot.img" { boot_image() } else { name.as_bytes().to_vec() };
        grub = grub.file(&format!("/usr/lib/grub/i386-pc/{name}"), contents);
    }
    let modules = "/usr/lib/modules/6.1-t";
    let debs = [
        Deb::new("containerd", "1.6.20~ds1-1").file("/usr/bin/containerd", "c"),
        Deb::new("etcd-server", "3.4.23-4").file("/usr/bin/etcd", "e"),
        Deb::new("payload", "1").contents(noise(PAYLOAD)),
        Deb::new("linux-image-cloud-amd64", "6.1-t")
            .file("/boot/vmlinuz-6.1-t", "kernel")
            .file(&format!("{modules}/modules.builtin"), "kernel/fs/ext4/ext4.ko\n")
            .file(&format!("{modules}/modules.builtin.modinfo"), "ext4.license=GPL\0")
            .file(&format!("{modules}/modules.order"), ""),
        Deb::new("systemd-boot-efi", "252.1-1")
            .file("/usr/lib/systemd/boot/efi/linuxx64.efi.stub", small_stub(5))
            .file("/usr/lib/systemd/boot/efi/systemd-bootx64.efi", small_stub(5)),
        grub,
    ];
    for deb in debs {
        repository.add("bookworm", deb, Packing::Zstd);
    }
    repository.publish();
    repository
}

/// Bytes that look random and are always the same (xorshift).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}

/// The header of a static x86-64 program: what the builder looks at.
fn program() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    bytes.resize(52, 0);
    bytes.extend([64, 0, 56, 0, 0, 0, 64, 0, 0, 0, 0, 0]);
    bytes
}

/// A boot sector with the fields that are patched where GRUB has them. GRUB itself is not needed: these
/// tests do not boot what they build.
fn boot_image() -> Vec<u8> {
    let mut bytes = vec![0; 512];
    bytes[0x5c] = 1;
    bytes[0x66..0x68].copy_from_slice(&[0xeb, 0x05]);
    bytes[510..].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

/// Two blocks whose block list says so.
fn core_image() -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[508] = 1;
    bytes
}

/// Digest of each file of a folder, by name.
pub fn digests(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let digest = |path: PathBuf| sha256(&fs::read(path).unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), digest(entry.path()))).collect()
}
