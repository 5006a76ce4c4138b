//! Whether a cluster is what it should be: nodes, control plane, certificates, and what pods reach. It asks the API
//! server alone, and changes nothing but a namespace of its own, which it removes.

mod certificates;
mod client;
mod components;
mod error;
mod expected;
mod kubeconfig;
mod nodes;
mod probes;
mod report;

use std::path::Path;
use std::time::{Duration, Instant};

pub use self::error::ValidateError;
pub use self::expected::Expected;
pub use self::report::{Check, Finding, Report, Verdict};

use self::client::Client;
use self::kubeconfig::Kubeconfig;
use self::nodes::NodeView;
use crate::progress::interrupt;

/// Kubernetes' own default, for clusters whose file is not at hand.
const DEFAULT_DOMAIN: &str = "cluster.local";

/// How long what looks wrong may take to come right before it is told: in a node's first minute some does.
const SETTLED: Duration = Duration::from_secs(60);
/// Before it is looked at again.
const AGAIN: Duration = Duration::from_secs(3);

/// What to look at.
pub struct Options<'a> {
    /// Kubeconfig of an administrator.
    pub kubeconfig: &'a Path,
    /// What the cluster file says, if it is at hand.
    pub expected: Option<Expected>,
    /// How long the probes may take to be ready.
    pub patience: Duration,
    /// Told what goes on.
    pub say: &'a dyn Fn(&str),
}

/// Looks at everything.
///
/// # Errors
/// The kubeconfig cannot be used, the API server does not answer, or Ctrl-C. All that is wrong with a cluster whose API
/// answers is a finding.
pub fn validate(options: &Options) -> Result<Report, ValidateError> {
    let kubeconfig = Kubeconfig::read(options.kubeconfig)?;
    let client = Client::new(&kubeconfig)?;
    (options.say)(&format!("nodes, control plane and certificates of {}", client.server()));
    let api = |why: String| ValidateError::Api { server: client.server().to_owned(), why };
    let expected = options.expected.as_ref();
    let deadline = Instant::now() + SETTLED;
    let mut told = false;
    // A cluster whose nodes have just become Ready still makes its last objects.
    let (views, mut findings, now) = loop {
        let list = client.get("/api/v1/nodes").map_err(|refusal| api(refusal.why))?;
        let objects =
            list["items"].as_array().ok_or_else(|| api("its list of Nodes is no list".to_owned()))?;
        let mut findings = nodes::verdicts(objects, expected);
        stop_if_asked()?;
        let (of_components, now) = components::look(&client, expected);
        findings.extend(of_components);
        if Instant::now() >= deadline || !findings.iter().any(Finding::is_failed) {
            break (objects.iter().map(NodeView::of).collect::<Vec<_>>(), findings, now);
        }
        stop_if_asked()?;
        if !told {
            (options.say)(&format!(
                "not everything is well yet; looking again for {} s at most",
                SETTLED.as_secs()
            ));
            told = true;
        }
        std::thread::sleep(AGAIN);
    };
    findings.extend(certificates::of_kubeconfig(&kubeconfig, now));
    stop_if_asked()?;
    // Before the probes look at certificates: it waits for those that a node which has just joined is about to get.
    findings.extend(components::kubelets(&client, &views)?);
    let settings = probes::Settings {
        nodes: &views,
        domain: expected.map_or(DEFAULT_DOMAIN, |expected| &expected.domain),
        whole_control_plane: expected.is_some(),
        etcd: expected.map_or(&[], |expected| &expected.etcd),
        dns_expected: expected.is_some_and(|expected| expected.dns),
        patience: options.patience,
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
