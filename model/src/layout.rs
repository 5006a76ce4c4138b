//! Where things lie: on the disk, in the initramfs and in the running node.
//!
//! The builder writes to these places and first boot reads from them, so they are named once.

/// Partition label (GPT name and FAT volume label) of the node seed.
pub const SEED_LABEL: &str = "SEED";
/// Partition and filesystem label of the state partition, mounted at `/var`.
pub const STATE_LABEL: &str = "STATE";
/// Name of the ESP in the partition table.
pub const ESP_LABEL: &str = "ESP";

/// Type of the EFI system partition (UEFI specification, section 5.3.3).
pub const TYPE_ESP: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
/// `root-x86-64` of the Discoverable Partitions Specification.
pub const TYPE_ROOT_X86_64: &str = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
/// `root-x86-64-verity` of the Discoverable Partitions Specification.
pub const TYPE_ROOT_VERITY_X86_64: &str = "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5";
/// `linux-generic` of the Discoverable Partitions Specification.
pub const TYPE_LINUX_GENERIC: &str = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";

/// Kernel command line key of the dm-verity root hash, as systemd's generators spell it. The root
/// partition's UUID is the first 128 bits of the hash, the verity partition's the last 128 bits.
pub const CMDLINE_ROOT_HASH: &str = "roothash";

/// Folder of the cluster layer in the initramfs, a cpio segment of its own. First boot moves it to
/// [`RUN_CLUSTER`] before it leaves the initramfs.
pub const INITRAMFS_CLUSTER: &str = "/bootwright/cluster";
/// Folder of the modules in the initramfs, `modules.dep` included, as under `/usr/lib/modules/<release>`.
pub const INITRAMFS_MODULES: &str = "/usr/lib/modules";

/// Volatile state of first boot.
pub const RUN: &str = "/run/bootwright";
/// The cluster layer on the running node: mode 0700, a tmpfs, so that a CA key never reaches a disk
/// other than inside the boot image.
pub const RUN_CLUSTER: &str = "/run/bootwright/cluster";
/// File of the cluster layer, a [`crate::baked::ClusterLayer`] as JSON.
pub const CLUSTER_FILE: &str = "cluster.json";
/// File of the cluster layer of control planes, a list of [`crate::addons::BakedAddon`] as JSON; absent without
/// addons.
pub const CLUSTER_ADDONS: &str = "addons.json";
/// Folder of CA certificates and keys inside the cluster layer.
pub const CLUSTER_PKI: &str = "pki";
/// This machine's [`crate::node::NodeFacts`] as JSON, for programs beside PID 1.
pub const NODE_FACTS: &str = "/run/bootwright/node.json";
/// The lease of this machine's address, if a DHCP server lent it; for the service that renews it.
pub const LEASE: &str = "/run/bootwright/lease.json";
/// The links of this machine as they are to be; for the service that follows them.
pub const LINKS: &str = "/run/bootwright/links.json";
/// There on a machine that nobody described, which asks the cluster for its pod CIDR: for the service that does. Empty.
pub const ADMITTED: &str = "/run/bootwright/admitted";
/// Folder with a file for each further link that asks for a lease. It is there if any link of the machine asks for one.
pub const LEASES: &str = "/run/bootwright/leases";
/// The IPv6 address of this machine, if a router or a DHCPv6 server gave it; for the service that keeps it.
pub const LEASE_IPV6: &str = "/run/bootwright/lease-ipv6.json";
/// Folder with a file for each further link that asks for an IPv6 address. It is there if any link of the machine asks for one.
pub const LEASES_IPV6: &str = "/run/bootwright/leases-ipv6";
/// Folder of what each source says of resolvers, of which `/etc/resolv.conf` is put together.
pub const RESOLVERS: &str = "/run/bootwright/resolvers";
/// The boot report, a [`crate::report::BootReport`] as JSON.
pub const BOOT_REPORT: &str = "/run/bootwright/boot.json";

/// The profile baked into the OS layer, a [`crate::profile::Profile`] as JSON.
pub const PROFILE_FILE: &str = "/usr/lib/bootwright/profile.json";
/// What the OS layer is made of, an [`crate::baked::OsRelease`] as JSON.
pub const OS_FILE: &str = "/usr/lib/bootwright/os.json";
/// First boot in the root; the initramfs has the same file as `/init`.
pub const FIRSTBOOT: &str = "/usr/lib/bootwright/firstboot";
/// The agent in the root.
pub const AGENT: &str = "/usr/lib/bootwright/agent";
/// OCI archive (one tar, any number of images) that is imported into containerd.
pub const IMAGES_ARCHIVE: &str = "/usr/lib/bootwright/images.tar";
/// Folder of the CNI plugins in the root.
pub const CNI_BIN: &str = "/usr/lib/cni";

/// The pod CIDR that the cluster gave a machine that nobody described, so that its pods have a network at the next boot
/// before the API can be asked.
pub const GIVEN_POD_CIDR: &str = "/var/lib/bootwright/pod-cidr.json";
/// Leaf certificates, their keys and kubeconfigs, issued on the node and kept over reboots.
pub const NODE_PKI: &str = "/var/lib/bootwright/pki";
/// Certificates that the kubelet of a node without authorities was given, and their keys.
pub const KUBELET_PKI: &str = "/var/lib/kubelet/pki";
/// Logs of the services, one size-capped file each.
pub const SERVICE_LOGS: &str = "/var/log/services";
/// Configuration files that first boot renders (a tmpfs overlay over the root's `/etc`).
pub const ETC_KUBERNETES: &str = "/etc/kubernetes";
