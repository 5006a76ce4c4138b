//! What pods reach: a probe in a pod and one in the node's own network, on each Ready node, driven through the API
//! server's proxy.

mod manifests;
mod namespace;
mod plan;
#[cfg(test)]
mod tests;
mod verdicts;
mod wait;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bootwright_model::probe::{CHECKS_PATH, Check as Ask, Greeting, MOST_CHECKS, Outcome};
use serde_json::Value;
use time::OffsetDateTime;

use self::namespace::Namespace;
use self::plan::{Dns, Planned, Targets};
use super::client::{Client, Refusal};
use super::nodes::NodeView;
use super::report::{Check, Finding};
use super::{ValidateError, patiently, stop_if_asked};

/// Port of a probe in a pod.
const POD_PORT: u16 = 8080;
/// Port of the Service.
const SERVICE_PORT: u16 = 80;
/// How long after the pods are ready the nodes may take to know of a Service or a host port, and how long the API server
/// may be away between two steps, at least.
const SETTLED: Duration = Duration::from_secs(30);
/// And which part of the time that pods have: a cluster that takes long to start a pod takes long to program a Service.
const SETTLING_SHARE: u32 = 5;
/// Before what has not settled is tried again.
const AGAIN: Duration = Duration::from_secs(3);

/// Where a probe runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// In a pod of its own addresses.
    Pod,
    /// In a pod that shares the node's network.
    Node,
}

/// A probe that is ready.
#[derive(Debug, Clone)]
struct Probe {
    /// Its node.
    node: String,
    place: Place,
    /// Name of its pod.
    pod: String,
    /// The pod's addresses, one of each family, the primary one first; they are the node's if it shares its network.
    addresses: Vec<IpAddr>,
    /// Whether its node is part of the control plane.
    control_plane: bool,
    /// MTU of its link, bytes; for those in pods.
    mtu: Option<u16>,
}

/// What is known of the cluster, and how long to wait.
pub struct Settings<'a> {
    /// Its Nodes.
    pub nodes: &'a [NodeView],
    /// DNS domain.
    pub domain: &'a str,
    /// Whether each node of the control plane runs all of it, as those of our images do.
    pub whole_control_plane: bool,
    /// Names and addresses of etcd's machines; none if its members are on the control planes.
    pub etcd: &'a [(String, IpAddr)],
    /// Whether the cluster file has cluster DNS.
    pub dns_expected: bool,
    /// How long the probes may take to be ready.
    pub patience: Duration,
    /// How long what is not answered, or may not have settled, is tried again: [`settled`].
    pub settled: Duration,
    /// The cluster's clock.
    pub now: OffsetDateTime,
    /// Told what goes on.
    pub say: &'a dyn Fn(&str),
}

/// How long what may not have settled is tried again in a cluster whose pods have `patience` to start.
pub fn settled(patience: Duration) -> Duration {
    (patience / SETTLING_SHARE).max(SETTLED)
}

/// Makes a namespace with probes, lets them try everything, and removes the namespace, whatever happens.
///
/// # Errors
/// Ctrl-C. Whatever the cluster refuses is a finding.
pub fn look(client: &Client, settings: &Settings) -> Result<Vec<Finding>, ValidateError> {
    if !settings.nodes.iter().any(|node| node.ready) {
        return Ok(vec![Finding::skipped(Check::ProbePod, "all nodes", "no node is Ready")]);
    }
    let mut namespace = Namespace::new(client, settings.settled);
    let looked = inside(client, settings, &mut namespace);
    let name = namespace.name().to_owned();
    // Here and not when it is dropped, so that a failure is told.
    let removed = namespace.remove();
    let mut findings = match (looked, &removed) {
        (Err(ValidateError::Interrupted), Err(why)) => {
            return Err(ValidateError::Left { namespace: name, why: why.clone() });
        }
        (looked, _) => looked?,
    };
    if let Err(why) = removed {
        let advice = format!("`kubectl delete namespace {name}` removes it");
        findings.push(Finding::failed(
            Check::ProbePod,
            "namespace",
            format!("{name} is left: {why}"),
            advice,
        ));
    }
    Ok(findings)
}

fn inside(
    client: &Client,
    settings: &Settings,
    namespace: &mut Namespace,
) -> Result<Vec<Finding>, ValidateError> {
    let refused = |what: &str, refusal: Refusal| {
        let advice = if refusal.passes() {
            "the API server or its etcd went away: find out why, and validate again"
        } else {
            "the kubeconfig has to be an administrator's: validate makes a namespace with pods and a Service"
        };
        vec![Finding::failed(Check::ProbePod, what, refusal.why, advice)]
    };
    if let Err(refusal) = namespace.create()? {
        return Ok(refused("namespace", refusal));
    }
    (settings.say)(&format!("probes in namespace {}", namespace.name()));
    let service = match service(client, settings, namespace)? {
        Ok(service) => service,
        Err(refusal) => return Ok(refused("Service", refusal)),
    };
    let (mut probes, mut findings) = wait::until_ready(client, settings, namespace)?;
    greet(client, settings, namespace, &mut probes, &mut findings)?;
    let targets = targets(client, settings, &service, &mut findings)?;
    let planned = plan::plan(&probes, &targets, settings.whole_control_plane);
    (settings.say)(&format!("{} checks from {} probes", planned.len(), probes.len()));
    findings.extend(carry_out(client, settings, namespace, &probes, planned)?);
    findings.extend(plan::skipped(&probes, &targets));
    Ok(findings)
}

/// Makes the Service, or finds the one whose making was not answered.
fn service(
    client: &Client,
    settings: &Settings,
    namespace: &Namespace,
) -> Result<Result<Value, Refusal>, ValidateError> {
    let path = namespace.path("services");
    patiently(Instant::now() + settings.settled, || match client.post(&path, &manifests::service()) {
        Err(Refusal { status: Some(409), .. }) => client.get(&format!("{path}/{}", manifests::SERVICE)),
        answer => answer,
    })
}

/// Asks each probe who it is; one that the API server does not reach takes no part.
fn greet(
    client: &Client,
    settings: &Settings,
    namespace: &Namespace,
    probes: &mut Vec<Probe>,
    findings: &mut Vec<Finding>,
) -> Result<(), ValidateError> {
    // Of all of them: a node whose pods nobody reaches is not to cost each of its probes that much.
    let deadline = Instant::now() + settings.settled;
    let mut known = Vec::new();
    for mut probe in probes.drain(..) {
        let greeting = patiently(deadline, || client.get(&namespace.proxy(&probe, "/")))?;
        let greeting = greeting.map_err(|refusal| refusal.why).and_then(|greeting| {
            serde_json::from_value::<Greeting>(greeting).map_err(|error| error.to_string())
        });
        match greeting {
            Ok(greeting) => {
                if probe.place == Place::Pod {
                    let smallest = greeting.links.values().min().copied();
                    probe.mtu = smallest.and_then(|mtu| u16::try_from(mtu).ok());
                }
                known.push(probe);
            }
            Err(why) => findings.push(Finding::failed(
                Check::ProbePod,
                format!("{} on {}", probe.place.name(), probe.node),
                format!("it is ready, and the API server does not reach it: {why}"),
                "the control plane's node has no way to this node's pods: look at its pod routes, at the kubelet's address \
                 of the node, and at what filters packets between the nodes",
            )),
        }
    }
    *probes = known;
    Ok(())
}

/// What the cluster has besides the probes. What it does not let us see is a finding, not something that is not there.
fn targets(
    client: &Client,
    settings: &Settings,
    service: &Value,
    findings: &mut Vec<Finding>,
) -> Result<Targets, ValidateError> {
    let deadline = Instant::now() + settings.settled;
    let mut get = |check: Check, what: &str, path: &str| {
        Ok::<Value, ValidateError>(match patiently(deadline, || client.get(path))? {
            Ok(object) => object,
            Err(Refusal { status: Some(404), .. }) => Value::Null,
            Err(refusal) => {
                let advice = "the API server does not answer this to an administrator: its log says why";
                findings.push(Finding::failed(check, what, refusal.why, advice));
                Value::Null
            }
        })
    };
    let address = |object: &Value| object["spec"]["clusterIP"].as_str().and_then(|text| text.parse().ok());
    // Of both families from 1.20 on, if the cluster has both.
    let addresses = |object: &Value| {
        let all = object["spec"]["clusterIPs"].as_array().into_iter().flatten();
        let all: Vec<IpAddr> = all.filter_map(|text| text.as_str()?.parse().ok()).collect();
        if all.is_empty() { address(object).into_iter().collect() } else { all }
    };
    let at = |address: Option<IpAddr>, port| address.map(|address| SocketAddr::new(address, port));
    let service_of_api = "Service default/kubernetes";
    let kubernetes = get(Check::PodToApi, service_of_api, "/api/v1/namespaces/default/services/kubernetes")?;
    let endpoints =
        get(Check::Certificate, service_of_api, "/api/v1/namespaces/default/endpoints/kubernetes")?;
    // What installs a cluster DNS gives its Service this label, whichever program it is.
    let dns = "/api/v1/namespaces/kube-system/services?labelSelector=k8s-app%3Dkube-dns";
    let dns = get(Check::Dns, "Service of the cluster DNS", dns)?;
    let has_dns = dns["items"].as_array().is_some_and(|services| !services.is_empty());
    if !has_dns && settings.dns_expected {
        findings.push(Finding::failed(
            Check::Dns,
            "Service of the cluster DNS",
            "the cluster file has [dns], and the cluster no such Service",
            "`addons` in /var/log/services of a control plane says what became of its manifests",
        ));
    }
    Ok(Targets {
        services: addresses(service)
            .into_iter()
            .filter_map(|address| at(Some(address), SERVICE_PORT))
            .collect(),
        api: at(address(&kubernetes), 443),
        api_servers: plan::api_servers(&endpoints),
        etcd: settings.etcd.to_vec(),
        dns: has_dns.then(|| Dns {
            name: format!("kubernetes.default.svc.{}", settings.domain),
            address: address(&kubernetes),
        }),
    })
}

/// Lets each probe do its checks; those that may not have settled, or that the API server did not bring to their probe,
/// are tried again for a while.
fn carry_out(
    client: &Client,
    settings: &Settings,
    namespace: &Namespace,
    probes: &[Probe],
    planned: Vec<Planned>,
) -> Result<Vec<Finding>, ValidateError> {
    // From the end of the first round, which takes long where much does not answer.
    let mut deadline = None;
    let pods: Vec<&str> = probes.iter().map(|probe| probe.pod.as_str()).collect();
    let mut waiting = planned;
    let mut findings = Vec::new();
    loop {
        let mut unsettled = Vec::new();
        let outcomes = ask(client, namespace, probes, &waiting)?;
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + settings.settled);
        let over = Instant::now() >= deadline;
        for (mut one, outcome) in waiting.into_iter().zip(outcomes) {
            let (found, again) = match outcome {
                Ok(outcome) => (verdicts::of(&mut one, &outcome, &pods, settings.now), one.settles()),
                Err(why) => (vec![verdicts::unasked(&one, &why)], true),
            };
            if found.iter().any(Finding::is_failed) && again && !over {
                unsettled.push(one);
            } else {
                findings.push((one.order, found));
            }
        }
        if unsettled.is_empty() {
            break;
        }
        waiting = unsettled;
        stop_if_asked()?;
        std::thread::sleep(AGAIN.min(settings.settled));
    }
    findings.sort_by_key(|(order, _)| *order);
    Ok(findings.into_iter().flat_map(|(_, found)| found).collect())
}

/// The outcomes, in the order of `planned`; of a probe that was not asked, why.
fn ask(
    client: &Client,
    namespace: &Namespace,
    probes: &[Probe],
    planned: &[Planned],
) -> Result<Vec<Result<Outcome, String>>, ValidateError> {
    let mut of_source: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, one) in planned.iter().enumerate() {
        of_source.entry(one.source).or_default().push(index);
    }
    let nothing = || Ok(Outcome::Failed { why: "the probe gave no answer to it".to_owned() });
    let mut outcomes: Vec<Result<Outcome, String>> = planned.iter().map(|_| nothing()).collect();
    for (source, indices) in of_source {
        for part in indices.chunks(MOST_CHECKS) {
            stop_if_asked()?;
            let checks: Vec<&Ask> = part.iter().map(|&index| &planned[index].ask).collect();
            let path = format!("{CHECKS_PATH}{}", namespace.token());
            let answer = client.post(&namespace.proxy(&probes[source], &path), &checks);
            let answer = answer.map_err(|refusal| refusal.why);
            let answer = answer.and_then(|list| {
                serde_json::from_value::<Vec<Outcome>>(list).map_err(|error| format!("no outcomes: {error}"))
            });
            match answer {
                Ok(answer) => {
                    part.iter().zip(answer).for_each(|(&index, outcome)| outcomes[index] = Ok(outcome));
                }
                Err(why) => part.iter().for_each(|&index| outcomes[index] = Err(why.clone())),
            }
        }
    }
    Ok(outcomes)
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::Pod => "pod",
            Place::Node => "node's network",
        }
    }

    /// Beginning of the pods' names, and the value of their label.
    fn label(self) -> &'static str {
        match self {
            Place::Pod => "pod",
            Place::Node => "node",
        }
    }
}
