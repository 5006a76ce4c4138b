//! A role profile: what the OS layer of a role is made of, and which services it runs.
//!
//! `profiles/<role>.toml` is written by a person; the builder resolves it and bakes it as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::addons::Addon;
use crate::parts::When;

/// `profiles/<role>.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Profile {
    /// Role that nodes ask for with `role = "…"`; the file's name without `.toml`.
    pub role: String,
    /// One line for `bootwright plan`.
    pub description: String,
    /// Kubernetes minor versions that the profile can run, for example `["1.20"]`.
    pub kubernetes: Vec<String>,
    /// Files `parts/<name>.toml` that the profile is put together from, the first at the bottom; what the
    /// profile says itself comes on top ([`crate::parts`]). None in a profile that has been put together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// In a part only: where it applies. Everywhere if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// Kernel, modules.
    pub kernel: KernelProfile,
    /// Debian packages, besides the kernel.
    pub packages: Packages,
    /// Binaries from the Kubernetes directory or release, put into `/usr/bin`.
    #[serde(default)]
    pub binaries: Vec<String>,
    /// Folders of `rootfs-overlays/` laid over the tree, in this order.
    #[serde(default)]
    pub overlays: Vec<String>,
    /// What maintainer scripts would have done and the node needs.
    #[serde(default)]
    pub setup: Setup,
    /// Kernel parameters set by the mounts stage, `net.ipv4.ip_forward = "1"`.
    #[serde(default)]
    pub sysctl: BTreeMap<String, String>,
    /// Services, in no particular order: `after` decides.
    #[serde(default, rename = "service")]
    pub services: Vec<Service>,
    /// Manifests that a node of this role applies once its API is ready; of no effect in a role without an API server.
    #[serde(default, rename = "addon", skip_serializing_if = "Vec::is_empty")]
    pub addons: Vec<Addon>,
}

/// Kernel of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KernelProfile {
    /// `cloud` or `full`: `linux-image-cloud-amd64` or `linux-image-amd64`. The cluster file may override.
    pub flavour: KernelFlavour,
    /// Command line besides the root hash.
    #[serde(default)]
    pub command_line: Vec<String>,
    /// Module names or globs on module paths (`kernel/drivers/net/**`) kept in the root; dependencies
    /// are closed over.
    pub modules: Vec<String>,
    /// The same for the initramfs: what it takes to reach the root partition.
    pub initramfs_modules: Vec<String>,
    /// Loaded by name at boot, whatever the buses say.
    #[serde(default)]
    pub load: Vec<String>,
    /// With the full kernel only: packages that device firmware and microcode are taken from, as far as a module of
    /// the image asks for it. One that the archive does not have is left out. The cluster file may override.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<String>,
}

/// Debian kernel package flavour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum KernelFlavour {
    /// Drivers of virtual machines only.
    Cloud,
    /// Every driver Debian builds.
    Full,
}

impl KernelFlavour {
    /// The meta package whose dependency names the current kernel.
    pub fn package(self) -> &'static str {
        match self {
            KernelFlavour::Cloud => "linux-image-cloud-amd64",
            KernelFlavour::Full => "linux-image-amd64",
        }
    }
}

/// Debian packages of a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Packages {
    /// Names to install with their `Depends` and `Pre-Depends`; never `Recommends`.
    pub install: Vec<String>,
    /// Names never installed even if depended upon: shells, package managers, interpreters.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Globs of absolute paths left out of the root: documentation, locales, unit files.
    #[serde(default)]
    pub prune: Vec<String>,
    /// Globs kept although `prune` matches them.
    #[serde(default)]
    pub keep: Vec<String>,
}

/// What maintainer scripts would have done, declared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Setup {
    /// Link path to target, both in the root: `/usr/sbin/iptables` to `/usr/sbin/xtables-nft-multi`.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// Empty folders to exist, path to octal mode: `"/var/lib" = "0755"`.
    #[serde(default)]
    pub folders: BTreeMap<String, String>,
    /// Users and their primary groups of the same name and id.
    #[serde(default)]
    pub users: Vec<User>,
    /// Concatenate the certificates below this folder into `/etc/ssl/certs/ca-certificates.crt`.
    #[serde(default)]
    pub ca_certificates: Option<String>,
}

/// A system user in `/etc/passwd` and `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User and group id.
    pub id: u32,
    /// Home folder.
    pub home: String,
}

/// One service that PID 1 supervises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Service {
    /// Unique name; its log file and cgroup leaf are named after it.
    pub name: String,
    /// Program and arguments. `{placeholder}`s are replaced by first boot (see [`crate::placeholders`]).
    pub command: Vec<String>,
    /// A component of [`crate::kubernetes`]: its version-gated flags are appended to `command` and its
    /// configuration files rendered.
    #[serde(default)]
    pub component: Option<String>,
    /// A file or folder of first boot without which the service is not part of this machine: `/run/bootwright/leases`, which
    /// only a machine has of which a link asks for an address by DHCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_with: Option<String>,
    /// Services that must be ready (a one-shot: must have ended well) first.
    #[serde(default)]
    pub after: Vec<String>,
    /// Services that it uses and does not wait for at the start, since it tries again by itself until they
    /// answer. They are stopped after it, like those in `after`.
    #[serde(default)]
    pub uses: Vec<String>,
    /// Runs once and ends; a service after it waits for that.
    #[serde(default)]
    pub oneshot: bool,
    /// For a one-shot: what makes it run once and not on every boot.
    #[serde(default)]
    pub once: Option<Once>,
    /// When it counts as ready; absent: as soon as it runs.
    #[serde(default)]
    pub ready: Option<Readiness>,
    /// Environment, in addition to `PATH`.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// User to run as; root if absent.
    #[serde(default)]
    pub user: Option<String>,
    /// cgroup v2 leaf below the root, without a leading slash; `system/<name>` if absent.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// cgroup of processes that the service runs on behalf of others, `kubepods` for containerd. They are
    /// ended before the service is asked to stop, and the service's own leaf is not emptied when it is
    /// restarted: containerd's shims hold running pods.
    #[serde(default)]
    pub workloads: Option<String>,
    /// `/proc/<pid>/oom_score_adj`.
    #[serde(default)]
    pub oom_score: i16,
    /// Share of the processors when there are too few, against that of the other services: `cpu.weight` of its
    /// cgroup, 1 to 10000. 100 is what the kernel gives one that says nothing.
    #[serde(default)]
    pub cpu_weight: Option<u16>,
    /// The same until it is ready, for one that others wait for; `cpu-weight` if absent.
    #[serde(default)]
    pub starting_cpu_weight: Option<u16>,
    /// For a program written in Go: memory that its collector tries to keep it within (`GOMEMLIMIT`).
    #[serde(default)]
    pub go_memory: Option<GoMemory>,
    /// Signal that asks it to stop.
    #[serde(default)]
    pub stop_signal: StopSignal,
    /// Seconds until SIGKILL after the stop signal.
    #[serde(default = "default_stop_seconds")]
    pub stop_seconds: u32,
    /// First and largest pause before a restart, milliseconds; doubles in between.
    #[serde(default = "default_restart_milliseconds")]
    pub restart_milliseconds: [u32; 2],
    /// Without it the node is not ready: `true` for all but conveniences such as the time service.
    #[serde(default = "default_true")]
    pub essential: bool,
}

/// A soft limit for the memory of a program written in Go: its collector works harder when it comes near, and
/// lets it grow on if all of it is in use. Programs built with Go older than 1.19 take no notice.
///
/// <https://go.dev/doc/gc-guide#Memory_limit>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GoMemory {
    /// Share of the machine's memory, percent, 1 to 100. A share, as a limit below what the program has in use
    /// would have it collect without end, and large machines run large clusters.
    pub percent: u8,
    /// But no less than this, MiB: what the program has in use on the smallest machine.
    pub least_mib: u32,
}

impl GoMemory {
    /// The limit on a machine with `memory` bytes, in bytes.
    pub fn bytes(self, memory: u64) -> u64 {
        (memory / 100 * u64::from(self.percent)).max(u64::from(self.least_mib) << 20)
    }
}

/// A one-shot that runs once for each value of a key.
///
/// After success the key is kept in a marker file on the state partition, and with the same key the service
/// counts as done without running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Once {
    /// What the work depends on, placeholders replaced: `{root-hash}` for what the OS layer brings.
    pub key: String,
    /// Folders whose contents are removed, before any service starts, if a run was cut off (the machine lost
    /// power): what it half wrote cannot be told from what is whole.
    #[serde(default)]
    pub clears: Vec<String>,
}

/// Signal that asks a service to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum StopSignal {
    /// The usual one.
    #[default]
    #[serde(rename = "SIGTERM")]
    Term,
    /// As from a terminal.
    #[serde(rename = "SIGINT")]
    Int,
    /// Some servers finish open requests on it.
    #[serde(rename = "SIGQUIT")]
    Quit,
    /// Hang-up.
    #[serde(rename = "SIGHUP")]
    Hup,
}

/// Readiness probe of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Readiness {
    /// `address:port/path` answering 200 over HTTPS, verified against the cluster's CA, without a client
    /// certificate.
    Https(String),
    /// `address:port/path` answering 200 over plain HTTP on loopback.
    Http(String),
    /// `address:port` accepting a connection.
    Tcp(String),
    /// Path of a unix socket accepting a connection, stream or datagram.
    Unix(String),
}

fn default_stop_seconds() -> u32 {
    10
}

fn default_restart_milliseconds() -> [u32; 2] {
    [200, 30_000]
}

fn default_true() -> bool {
    true
}
