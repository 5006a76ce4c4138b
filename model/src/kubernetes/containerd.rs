//! containerd: the container runtime, `config.toml`.

use serde_json::{Map, Value, json};

use super::render::Arguments;
use super::version::Version;
use super::{Component, ConfigFile, KubernetesError, NodeContext, gates};
use crate::layout;

/// Where the runtime service listens.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";
/// Debian's runc.
const RUNC: &str = "/usr/sbin/runc";

/// Plugins that a node never uses: each one probes the system or opens a socket while containerd starts.
/// A name that a build does not have is ignored.
const DISABLED: [&str; 9] = [
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
];

pub(super) fn render(node: &NodeContext) -> Result<Component, KubernetesError> {
    let version = Version::containerd(&node.facts.os.containerd)?;
    check_runtime_interface(node.version, version)?;
    let mut config = json!({
        "root": node.path("/var/lib/containerd"),
        "state": node.path("/run/containerd"),
        "disabled_plugins": DISABLED,
        "grpc": { "address": node.path(SOCKET) },
    });
    let (format, plugins) = if version.release() < (2, 0) {
        (2, plugins_v2(node, version))
    } else {
        (3, plugins_v3(node, version))
    };
    config["version"] = format.into();
    config["plugins"] = plugins;
    config.sort_all_objects();
    let contents = toml::Value::try_from(&config)
        .ok()
        .and_then(|config| toml::to_string(&config).ok())
        .expect("strings, numbers, booleans and tables have a TOML form");
    let path = node.path("/etc/containerd/config.toml");
    Ok(Arguments::new(version).set("--config", &path).with_files(vec![ConfigFile {
        path,
        contents,
        mode: 0o644,
    }]))
}

/// A kubelet and a containerd that have no CRI version in common fail minutes later with an obscure
/// message, so such an image is refused here.
fn check_runtime_interface(kubernetes: Version, containerd: Version) -> Result<(), KubernetesError> {
    let (kubelet, runtime) = (kubernetes.release(), containerd.release());
    let advice = if kubelet < (1, 23) && runtime >= (2, 0) {
        // v1alpha2 is all that such a kubelet speaks, and containerd 2.0 dropped it.
        "take containerd 1.4 to 1.7, or Kubernetes 1.23 or newer"
    } else if kubelet >= (1, 26) && runtime < (1, 6) {
        // The other way round: v1 came with containerd 1.6.
        "take containerd 1.6 or newer"
    } else if kubelet >= (1, 36) && runtime < (2, 2) {
        "take containerd 2.2 or newer"
    } else {
        return Ok(());
    };
    Err(KubernetesError::RuntimeMismatch { kubernetes, containerd, advice })
}

/// containerd 1.x: one CRI plugin.
fn plugins_v2(node: &NodeContext, version: Version) -> Value {
    json!({ "io.containerd.grpc.v1.cri": {
        // Pinned to the baked image: the default names one in a registry that no node can reach.
        "sandbox_image": node.facts.os.pause_image,
        "stream_server_address": "127.0.0.1",
        // There is no apparmor_parser in the image to load a profile with.
        "disable_apparmor": true,
        "tolerate_missing_hugetlb_controller": true,
        "containerd": {
            "snapshotter": "overlayfs",
            "default_runtime_name": "runc",
            "runtimes": { "runc": runc() },
        },
        "cni": cni(node, version),
    } })
}

/// containerd 2.x: images, runtime and the server apart.
fn plugins_v3(node: &NodeContext, version: Version) -> Value {
    json!({
        "io.containerd.cri.v1.images": {
            "snapshotter": "overlayfs",
            "pinned_images": { "sandbox": node.facts.os.pause_image },
        },
        "io.containerd.cri.v1.runtime": {
            "disable_apparmor": true,
            "tolerate_missing_hugetlb_controller": true,
            "containerd": {
                "default_runtime_name": "runc",
                "runtimes": { "runc": runc() },
            },
            "cni": cni(node, version),
        },
        "io.containerd.grpc.v1.cri": { "stream_server_address": "127.0.0.1" },
    })
}

/// cgroups through the filesystem: there is no systemd to ask.
fn runc() -> Value {
    json!({
        "runtime_type": "io.containerd.runc.v2",
        "options": { "BinaryName": RUNC, "SystemdCgroup": false },
    })
}

fn cni(node: &NodeContext, version: Version) -> Value {
    let mut cni = Map::new();
    cni.insert("conf_dir".to_owned(), node.path("/etc/cni/net.d").into());
    if gates::CNI_BIN_DIR.open(version) {
        cni.insert(gates::CNI_BIN_DIR.option.to_owned(), layout::CNI_BIN.into());
    }
    if gates::CNI_BIN_DIRS.open(version) {
        cni.insert(gates::CNI_BIN_DIRS.option.to_owned(), json!([layout::CNI_BIN]));
    }
    Value::Object(cni)
}

#[cfg(test)]
mod tests {
    use super::super::component;
    use super::super::tests::facts;

    #[test]
    fn containerd_formats() {
        let config = |containerd: &str| {
            let rendered = component("containerd", &facts("1.30.0", containerd, "3.5.9")).unwrap();
            rendered.files[0].contents.parse::<toml::Table>().unwrap()
        };
        let old = config("1.7.24");
        assert_eq!(old["version"].as_integer(), Some(2));
        let cri = &old["plugins"]["io.containerd.grpc.v1.cri"];
        assert_eq!(cri["sandbox_image"].as_str(), Some("bootwright.local/pause:1"));
        assert_eq!(cri["cni"]["bin_dir"].as_str(), Some("/usr/lib/cni"));

        let new = config("2.0.1");
        assert_eq!(new["version"].as_integer(), Some(3));
        let images = &new["plugins"]["io.containerd.cri.v1.images"];
        assert_eq!(images["pinned_images"]["sandbox"].as_str(), Some("bootwright.local/pause:1"));
        assert!(new["plugins"]["io.containerd.cri.v1.runtime"]["cni"].get("bin_dir").is_some());

        let newer = config("2.1.0");
        let cni = &newer["plugins"]["io.containerd.cri.v1.runtime"]["cni"];
        assert!(cni.get("bin_dir").is_none());
        assert_eq!(cni["bin_dirs"][0].as_str(), Some("/usr/lib/cni"));
    }

    #[test]
    fn pairs_without_a_common_runtime_interface_are_refused() {
        let result =
            |kubernetes, containerd| component("containerd", &facts(kubernetes, containerd, "3.5.9"));
        insta::assert_snapshot!(result("1.20.2", "2.0.0").unwrap_err(), @"kubelet 1.20.2 and containerd 2.0.0 have no CRI version in common: take containerd 1.4 to 1.7, or Kubernetes 1.23 or newer");
        insta::assert_snapshot!(result("1.26.0", "1.5.9").unwrap_err(), @"kubelet 1.26.0 and containerd 1.5.9 have no CRI version in common: take containerd 1.6 or newer");
        insta::assert_snapshot!(result("1.36.0", "2.1.0").unwrap_err(), @"kubelet 1.36.0 and containerd 2.1.0 have no CRI version in common: take containerd 2.2 or newer");
        assert!(result("1.23.0", "2.0.0").is_ok());
        assert!(result("1.25.0", "1.4.13").is_ok());
        assert!(result("1.35.0", "1.7.24").is_ok());
    }
}
