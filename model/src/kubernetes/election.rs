//! How controller managers and schedulers elect who works.

use super::NodeContext;
use super::render::Arguments;

/// With the defaults (15, 10 and 2 seconds) an API server that is busy for ten seconds ends the one that works, and all
/// its controllers begin anew. Not much longer either: one that ended by itself, as when the API server is not healthy
/// ten seconds after the lease, has to wait for its own lease, and so has the next one when a machine is gone.
pub(super) fn times(arguments: Arguments, node: &NodeContext) -> Arguments {
    let arguments =
        arguments.set("--leader-elect-lease-duration", "30s").set("--leader-elect-renew-deadline", "25s");
    // Each attempt is a read that all of etcd agrees on, from each of them. Alone there is nobody to save it for.
    if node.replicated() { arguments.set("--leader-elect-retry-period", "5s") } else { arguments }
}
