//! The one table of options that came or went between the oldest and the newest supported release.
//!
//! Options that every supported release knows are not listed. Sources: the `options` packages and
//! change logs of the Kubernetes components at their tags, etcd's and containerd's release notes.

use super::version::{Release, Version};

/// One option and the releases that know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// Whose option; its version decides (Kubernetes' for its components).
    pub component: &'static str,
    /// A flag with its dashes, a field of the configuration file, or the key of a label.
    pub option: &'static str,
    /// First release that knows it; the oldest supported one if it was there before.
    pub since: Release,
    /// First release that no longer knows it.
    pub until: Option<Release>,
}

impl Gate {
    /// Whether this version knows the option.
    pub fn open(&self, version: Version) -> bool {
        let release = version.release();
        release >= self.since && self.until.is_none_or(|until| release < until)
    }
}

macro_rules! gates {
    ($($(#[$comment:meta])* $name:ident: $component:literal $option:literal, $since:expr, $until:expr;)*) => {
        $($(#[$comment])* pub const $name: Gate =
            Gate { component: $component, option: $option, since: $since, until: $until };)*
        /// Every gate, for checks over the whole table.
        pub const ALL: &[Gate] = &[$($name),*];
    };
}

gates! {
    /// Two address families in one cluster: alpha in 1.20, open by default from 1.21, and no gate any more later.
    DUAL_STACK: "feature-gate" "IPv6DualStack", (1, 20), Some((1, 21));
    /// A kubelet that leaves addresses to a cloud takes one `--node-ip` only before KEP-3705 is beta.
    CLOUD_DUAL_STACK_NODE_IPS: "feature-gate" "CloudDualStackNodeIPs", (1, 29), None;

    /// `external` keeps the loops that talk to a cloud off. Nothing is left for it to keep off from 1.31, which has no
    /// cloud built in any more.
    CONTROLLER_MANAGER_CLOUD_PROVIDER: "kube-controller-manager" "--cloud-provider", (1, 20), Some((1, 31));

    /// Serves metrics and health without TLS or authorisation, on every address unless it is 0.
    CONTROLLER_MANAGER_PORT: "kube-controller-manager" "--port", (1, 20), Some((1, 24));
    /// As above.
    SCHEDULER_PORT: "kube-scheduler" "--port", (1, 20), Some((1, 24));

    /// `remote` is the only choice from 1.24, and the flag is gone with 1.27.
    CONTAINER_RUNTIME: "kubelet" "--container-runtime", (1, 20), Some((1, 27));
    /// Moved to the configuration file.
    CONTAINER_RUNTIME_ENDPOINT_FLAG: "kubelet" "--container-runtime-endpoint", (1, 20), Some((1, 27));
    /// Where the flag went.
    CONTAINER_RUNTIME_ENDPOINT: "kubelet" "containerRuntimeEndpoint", (1, 27), None;
    /// Keeps the kubelet's image collector away from the pause image; later containerd says so itself.
    POD_INFRA_CONTAINER_IMAGE: "kubelet" "--pod-infra-container-image", (1, 20), Some((1, 35));
    /// Age at which unused images go whatever the disk has free.
    IMAGE_MAXIMUM_GC_AGE: "kubelet" "imageMaximumGCAge", (1, 29), None;

    /// What the Node is tainted with when the kubelet makes it.
    REGISTER_WITH_TAINTS_FLAG: "kubelet" "--register-with-taints", (1, 20), Some((1, 23));
    /// Where the flag went.
    REGISTER_WITH_TAINTS: "kubelet" "registerWithTaints", (1, 23), None;

    /// Taint of control planes in its old spelling.
    MASTER_TAINT: "taint" "node-role.kubernetes.io/master", (1, 20), Some((1, 25));
    /// The same in its new spelling.
    CONTROL_PLANE_TAINT: "taint" "node-role.kubernetes.io/control-plane", (1, 24), None;

    /// Label of control planes in its old spelling.
    MASTER_LABEL: "node" "node-role.kubernetes.io/master", (1, 20), Some((1, 24));

    /// Compares the data with the peers' before serving.
    ETCD_INITIAL_CORRUPT_CHECK: "etcd" "--experimental-initial-corrupt-check", (3, 4), Some((3, 6));
    /// Where the check went.
    ETCD_FEATURE_GATES: "etcd" "--feature-gates", (3, 6), None;
    /// How often an idle watch is told the current revision. 3.4 got it in a late patch release only.
    ETCD_EXPERIMENTAL_WATCH_PROGRESS: "etcd" "--experimental-watch-progress-notify-interval", (3, 5), Some((3, 6));
    /// Its final name.
    ETCD_WATCH_PROGRESS: "etcd" "--watch-progress-notify-interval", (3, 6), None;

    /// Folder of the CNI plugins.
    CNI_BIN_DIR: "containerd" "bin_dir", (1, 4), Some((2, 1));
    /// A list from 2.1.
    CNI_BIN_DIRS: "containerd" "bin_dirs", (2, 1), None;
}

#[cfg(test)]
mod tests {
    use super::super::version::{SUPPORTED, SUPPORTED_CONTAINERD, SUPPORTED_ETCD};
    use super::*;

    fn at(release: Release) -> Version {
        Version { major: release.0, minor: release.1, patch: 0 }
    }

    #[test]
    fn opens_at_the_first_release_and_closes_at_the_last() {
        for gate in ALL {
            assert!(gate.open(at(gate.since)), "{gate:?}");
            if let Some((major, minor)) = gate.until {
                assert!(gate.open(at((major, minor - 1))) || minor == 0, "{gate:?}");
                assert!(!gate.open(at((major, minor))), "{gate:?}");
                assert!(gate.since < (major, minor), "{gate:?} is never open");
            }
        }
    }

    #[test]
    fn lies_within_the_supported_releases_and_names_nothing_twice() {
        for gate in ALL {
            let [first, last] = match gate.component {
                "etcd" => SUPPORTED_ETCD,
                "containerd" => SUPPORTED_CONTAINERD,
                _ => SUPPORTED,
            };
            assert!(gate.since >= first && gate.since <= last, "{gate:?}");
            assert!(gate.until.is_none_or(|until| until > first && until <= last), "{gate:?}");
            let same = |other: &&Gate| other.component == gate.component && other.option == gate.option;
            assert_eq!(ALL.iter().filter(same).count(), 1, "{gate:?}");
        }
    }
}
