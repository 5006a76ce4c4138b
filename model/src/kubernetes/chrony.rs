//! chronyd: `chrony.conf(5)`.

use super::{Component, ConfigFile, KubernetesError, NodeContext, control_planes};
use crate::clock::served_networks;

/// Stratum of a control plane that knows no time but its own: chrony's usual one, far below that of any real server, so
/// that one of those wins as soon as it answers.
const LOCAL_STRATUM: u8 = 10;

/// Without `port 0` chronyd would answer NTP requests. Commands come through its socket only.
fn base(node: &NodeContext) -> String {
    // chronyd makes the folder named by `dumpdir` itself, which holds the drift file too.
    let (dumps, drift) = (node.path("/var/lib/chrony"), node.path("/var/lib/chrony/drift"));
    let pid = node.path("/run/chrony/chronyd.pid");
    format!("cmdport 0\ndumpdir {dumps}\ndriftfile {drift}\npidfile {pid}\nmakestep 1 3\nrtcsync\n")
}

pub(super) fn render(node: &NodeContext) -> Result<Component, KubernetesError> {
    let serves = node.facts.layer.file.clock.serve && node.is_control_plane();
    let mut contents = String::new();
    for server in node.facts.time_servers.iter().cloned().chain(peers(node, serves)) {
        contents.push_str(&format!("server {server} iburst\n"));
    }
    if contents.is_empty() {
        contents.push_str("# No time server is known: the clock runs free.\n");
    }
    contents.push_str(&if serves { service(node) } else { "port 0\n".to_owned() });
    contents.push_str(&base(node));
    let path = node.path("/etc/chrony/chrony.conf");
    // -d: in the foreground, with messages on the standard error output.
    let arguments = vec!["-d".to_owned(), "-f".to_owned(), path.clone()];
    Ok(Component { arguments, files: vec![ConfigFile { path, contents, mode: 0o644 }] })
}

/// The other control planes, if they give the time to the cluster: without the outside they are to agree.
fn peers(node: &NodeContext, serves: bool) -> Vec<String> {
    let others = control_planes(&node.facts.layer.file).filter(|other| other.name != node.facts.name);
    others.filter(|_| serves).map(|other| other.address.addr().to_string()).collect()
}

/// Gives the time to the nodes, its own if there is no better one. Of several that know none, all but one follow that
/// one (`orphan`).
fn service(node: &NodeContext) -> String {
    let file = &node.facts.layer.file;
    let allowed = served_networks(file).into_iter().map(|network| format!("allow {network}\n"));
    let orphan = if node.replicated() { " orphan" } else { "" };
    allowed.collect::<String>() + &format!("local stratum {LOCAL_STRATUM}{orphan}\n")
}
