//! chronyd: `chrony.conf(5)`.

use super::{Component, ConfigFile, KubernetesError, NodeContext};

/// chronyd serves nobody: no NTP port, and commands through its socket only. It makes the folder named
/// by `dumpdir` itself, which holds the drift file too.
const BASE: &str = "\
port 0
cmdport 0
dumpdir /var/lib/chrony
driftfile /var/lib/chrony/drift
pidfile /run/chrony/chronyd.pid
makestep 1 3
rtcsync
";

pub(super) fn render(node: &NodeContext) -> Result<Component, KubernetesError> {
    let mut contents = String::new();
    for server in &node.facts.layer.file.clock.servers {
        contents.push_str(&format!("server {server} iburst\n"));
    }
    if contents.is_empty() {
        contents.push_str("# The cluster file names no server: the clock runs free.\n");
    }
    contents.push_str(BASE);
    let path = node.path("/etc/chrony/chrony.conf");
    // -d: in the foreground, with messages on the standard error output.
    let arguments = vec!["-d".to_owned(), "-f".to_owned(), path.clone()];
    Ok(Component { arguments, files: vec![ConfigFile { path, contents, mode: 0o644 }] })
}
