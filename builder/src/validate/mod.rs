//! Whether a cluster is what it should be: nodes, control plane, certificates, and what pods reach. It asks the API
//! server alone, and changes nothing but a namespace of its own, which it removes.

mod certificates;
mod client;
mod components;
mod error;
mod expected;
mod kubeconfig;
mod looks;
mod nodes;
mod probes;
mod report;
#[cfg(test)]
mod testing;

use std::path::Path;
use std::time::{Duration, Instant};

pub use self::error::ValidateError;
pub use self::expected::Expected;
pub use self::report::{Check, Finding, Report, Verdict};

use self::client::{Client, Refusal};
use self::kubeconfig::Kubeconfig;
use self::looks::Seen;
use crate::progress::interrupt;

/// Kubernetes' own default, for clusters whose file is not at hand.
const DEFAULT_DOMAIN: &str = "cluster.local";

/// How long what looks wrong may take to come right before it is told: in a node's first minute some does.
const SETTLED: Duration = Duration::from_secs(60);
/// Before it is looked at again.
const AGAIN: Duration = Duration::from_secs(3);
/// Before a request that was not answered is made again.
const BRIEFLY: Duration = Duration::from_millis(500);

/// What to look at.
pub struct Options<'a> {
    /// Kubeconfig of an administrator.
    pub kubeconfig: &'a Path,
    /// What the cluster file says, if it is at hand.
    pub expected: Option<Expected>,
    /// How long the probes may take to be ready; what settles after that has a share of it.
    pub patience: Duration,
    /// Told what goes on.
    pub say: &'a dyn Fn(&str),
}

/// Looks at everything.
///
/// # Errors
/// The kubeconfig cannot be used, the API server does not answer at all or not to us, or Ctrl-C. All that is wrong with
/// a cluster whose API has answered is a finding, and so is an API that goes away.
pub fn validate(options: &Options) -> Result<Report, ValidateError> {
    let kubeconfig = Kubeconfig::read(options.kubeconfig)?;
    let client = Client::new(&kubeconfig)?;
    (options.say)(&format!("nodes, control plane and certificates of {}", client.server()));
    let expected = options.expected.as_ref();
    let looks = looks::Looks { settled: SETTLED, again: AGAIN, say: options.say };
    let Seen { nodes, mut findings, now } = looks.until_well(&client, expected)?;
    findings.extend(certificates::of_kubeconfig(&kubeconfig, now));
    stop_if_asked()?;
    let Some(nodes) = nodes else {
        let why = "the API server does not list the Nodes any more";
        findings
            .extend([Check::Kubelet, Check::ProbePod].map(|check| Finding::skipped(check, "all nodes", why)));
        return Ok(Report::of(client.server(), findings));
    };
    // Before the probes look at certificates: it waits for those that a node which has just joined is about to get.
    findings.extend(components::kubelets(&client, &nodes)?);
    let settings = probes::Settings {
        nodes: &nodes,
        domain: expected.map_or(DEFAULT_DOMAIN, |expected| &expected.domain),
        whole_control_plane: expected.is_some(),
        etcd: expected.map_or(&[], |expected| &expected.etcd),
        dns_expected: expected.is_some_and(|expected| expected.dns),
        patience: options.patience,
        settled: probes::settled(options.patience),
        now,
        say: options.say,
    };
    findings.extend(probes::look(&client, &settings)?);
    Ok(Report::of(client.server(), findings))
}

/// Between any two requests.
fn stop_if_asked() -> Result<(), ValidateError> {
    if interrupt::requested() { Err(ValidateError::Interrupted) } else { Ok(()) }
}

/// Asks until there is an answer that stays, or it is over: an API server may be away for a moment.
///
/// # Errors
/// Ctrl-C.
fn patiently<T>(
    deadline: Instant,
    mut ask: impl FnMut() -> Result<T, Refusal>,
) -> Result<Result<T, Refusal>, ValidateError> {
    loop {
        stop_if_asked()?;
        match ask() {
            Err(refusal) if refusal.passes() && Instant::now() < deadline => {
                let left = deadline.saturating_duration_since(Instant::now());
                std::thread::sleep(BRIEFLY.min(left));
            }
            answer => return Ok(answer),
        }
    }
}
