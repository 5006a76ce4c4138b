//! What an outcome says of the cluster. Pure.

use std::net::IpAddr;

use bootwright_model::probe::{Check as Ask, Greeting, Outcome};
use serde_json::Value;
use time::OffsetDateTime;

use super::plan::{Goal, Planned};
use crate::validate::certificates;
use crate::validate::report::{Check, Finding};

fn check_of(goal: &Goal) -> Check {
    match goal {
        Goal::Pod { .. } => Check::PodToPod,
        Goal::Mtu => Check::Mtu,
        Goal::Service => Check::PodToService,
        Goal::Api => Check::PodToApi,
        Goal::FromNode { .. } => Check::NodeToPod,
        Goal::HostPort { .. } => Check::HostPort,
        Goal::Dns { .. } => Check::Dns,
        Goal::Certificate { .. } => Check::Certificate,
        Goal::Etcd { .. } => Check::EtcdMember,
    }
}

/// That a probe was not asked at all: also of what need not be there, nothing is known then.
pub fn unasked(planned: &Planned, why: &str) -> Finding {
    let why = format!("the probe was not reached through the API server: {why}");
    let advice =
        "find out why the API server, or the node's kubelet behind it, did not answer, and validate again";
    Finding::failed(check_of(&planned.goal), &planned.subject, why, advice)
}

/// The findings of a check. `pods` are the probes that the Service may lead to.
pub fn of(planned: &mut Planned, outcome: &Outcome, pods: &[&str], now: OffsetDateTime) -> Vec<Finding> {
    let subject = planned.subject.as_str();
    let check = check_of(&planned.goal);
    let failed = |why: String| Finding::failed(check, subject, why, advice(check));
    if let Outcome::Failed { why } = outcome {
        // A control plane need not have all of its parts on every node.
        let optional = match planned.goal {
            Goal::Certificate { optional, .. } | Goal::Etcd { optional } => optional,
            _ => false,
        };
        if optional {
            return vec![Finding::skipped(check, subject, format!("it is not there: {why}"))];
        }
        return vec![failed(why.clone())];
    }
    match (&mut planned.goal, outcome) {
        (Goal::Pod { pod, seen_as }, Outcome::Http { status, body, .. }) => match greeting(*status, body) {
            Ok(greeting) if greeting.host == *pod => {
                vec![Finding::passed(check, subject, ""), source(subject, *seen_as, &greeting)]
            }
            Ok(greeting) => vec![failed(format!("somebody else has the pod's address: {}", greeting.host))],
            Err(why) => vec![failed(why)],
        },
        (Goal::FromNode { pod } | Goal::HostPort { pod }, Outcome::Http { status, body, .. }) => {
            vec![match greeting(*status, body) {
                Ok(greeting) if greeting.host == *pod => Finding::passed(check, subject, ""),
                Ok(greeting) => failed(format!("it leads to {} and not to the node's pod", greeting.host)),
                Err(why) => failed(why),
            }]
        }
        (Goal::Service, Outcome::Http { status, body, .. }) => vec![match greeting(*status, body) {
            Ok(greeting) if pods.contains(&greeting.host.as_str()) => Finding::passed(check, subject, ""),
            Ok(greeting) => {
                failed(format!("the Service leads to {}, which is none of its pods", greeting.host))
            }
            Err(why) => failed(why),
        }],
        // 400: it speaks TLS. Any answer has come all the way there and back.
        (Goal::Api, Outcome::Http { .. }) => vec![Finding::passed(check, subject, "")],
        (Goal::Mtu, Outcome::Datagram) => {
            let bytes = match &planned.ask {
                Ask::Datagram { bytes, .. } => *bytes,
                _ => 0,
            };
            vec![Finding::passed(check, subject, format!("{bytes} bytes, whole, there and back"))]
        }
        (Goal::Dns { address }, Outcome::Resolved { resolver, addresses }) => {
            vec![match *address {
                Some(address) if !addresses.contains(&address) => {
                    let found: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                    failed(format!("{resolver} says {}, and it is {address}", found.join(", ")))
                }
                _ => Finding::passed(check, subject, format!("from {resolver}")),
            }]
        }
        (Goal::Certificate { handshake, .. }, Outcome::Exchanged { bytes }) => {
            vec![match handshake.hear(bytes) {
                Ok(Some(certificate)) => certificates::dates(subject, &certificate, now),
                Ok(None) => failed("it answers, and showed no certificate".to_owned()),
                Err(why) => failed(why),
            }]
        }
        (Goal::Etcd { .. }, Outcome::Http { status, body, .. }) => vec![etcd(subject, *status, body)],
        (_, other) => vec![failed(format!("the probe answered something else than it was asked: {other:?}"))],
    }
}

fn greeting(status: u16, body: &str) -> Result<Greeting, String> {
    let begin: String = body.chars().take(100).collect();
    let other = || format!("something else answers there (status {status}): {}", begin.trim());
    if status == 200 { serde_json::from_str(body).map_err(|_| other()) } else { Err(other()) }
}

fn source(subject: &str, seen_as: IpAddr, greeting: &Greeting) -> Finding {
    let check = Check::SourceAddress;
    let caller = greeting.caller.ip();
    if caller == seen_as {
        return Finding::passed(check, subject, "");
    }
    Finding::failed(
        check,
        subject,
        format!("a connection from {seen_as} arrives from {caller}"),
        advice(check),
    )
}

/// etcd's `/health`: `{"health":"true"}`, and with newer releases a reason.
fn etcd(subject: &str, status: u16, body: &str) -> Finding {
    let health: Value = serde_json::from_str(body).unwrap_or_default();
    if health["health"] == "true" {
        return Finding::passed(Check::EtcdMember, subject, "healthy");
    }
    let reason = health["reason"].as_str().unwrap_or(body.trim());
    let why = format!("not healthy (status {status}): {reason}");
    Finding::failed(Check::EtcdMember, subject, why, advice(Check::EtcdMember))
}

fn advice(check: Check) -> &'static str {
    match check {
        Check::PodToPod => {
            "look at the routes of both nodes' pods (`bootwright routes` has them), at UDP of the VXLAN port between the \
             nodes (with mode \"bgp\" at BIRD's log on both), and at what filters packets on the way"
        }
        Check::SourceAddress => {
            "something on the way masquerades packets between pods: network policies and logs see the wrong one. The pod \
             CIDR of the cluster has to be exempt"
        }
        Check::Mtu => {
            "a link on the way takes less than the cluster file's `network.mtu` says: connections will hang once they \
             carry more than a few bytes. Lower `network.mtu`, or raise that of the link"
        }
        Check::PodToService => "kube-proxy of that node makes Services: its log says why it does not",
        Check::PodToApi => {
            "pods that work through the API fail as this does: kube-proxy's log on that node, and the way from its pods \
             to the control plane's address"
        }
        Check::NodeToPod => {
            "kubelets' probes and the API server's proxy go this way: look at the routes of the node to the other's pods"
        }
        Check::HostPort => {
            "the CNI plugin portmap makes these rules when the pod starts: the log of containerd says why not"
        }
        Check::Dns => {
            "look at the pods of the cluster DNS and at their log; resolv.conf of a pod names the first address that the \
             kubelet's clusterDNS has"
        }
        Check::EtcdMember => "etcd's log on that node says which peer or disk it waits for",
        _ => "is the program up? Its log on that node says more; `openssl s_client` shows what is said there",
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::plan::{self, Dns, Targets};
    use super::super::{Place, Probe};
    use super::*;
    use crate::validate::report::{Report, Verdict};

    fn probe(node: &str, place: Place, address: &str) -> Probe {
        let pod = format!("{}-{node}", place.label());
        let addresses = address.split(',').map(|address| address.parse().unwrap()).collect();
        let mtu = (place == Place::Pod).then_some(1450);
        Probe { node: node.to_owned(), place, pod, addresses, control_plane: node == "cp1", mtu }
    }

    fn two_nodes() -> Vec<Probe> {
        vec![
            probe("cp1", Place::Pod, "10.10.0.2"),
            probe("cp1", Place::Node, "10.20.0.10"),
            probe("w1", Place::Pod, "10.10.1.2"),
            probe("w1", Place::Node, "10.20.0.11"),
        ]
    }

    fn targets() -> Targets {
        Targets {
            services: vec!["10.96.7.7:80".parse().unwrap()],
            api: "10.96.0.1:443".parse().ok(),
            api_servers: vec!["10.20.0.10:6443".parse().unwrap()],
            etcd: Vec::new(),
            dns: Some(Dns {
                name: "kubernetes.default.svc.cluster.local".to_owned(),
                address: "10.96.0.1".parse().ok(),
            }),
        }
    }

    /// What a sound cluster answers.
    fn sound(probes: &[Probe], planned: &Planned) -> Outcome {
        let source = probes[planned.source].addresses[0];
        let local = SocketAddr::new(source, 41_000);
        let http = |status, body: String| Outcome::Http { local, status, body };
        match &planned.ask {
            Ask::Http { to, .. } if to.port() == 443 => {
                http(400, "Client sent an HTTP request to an HTTPS server.\n".into())
            }
            Ask::Http { to, .. } if to.port() == 2381 => http(200, r#"{"health":"true"}"#.into()),
            Ask::Http { to, .. } => {
                let node = probes
                    .iter()
                    .find(|probe| probe.addresses.contains(&to.ip()))
                    .map_or("w1", |probe| &probe.node);
                let links = [("eth0".to_owned(), 1450)].into();
                let greeting = Greeting { host: format!("pod-{node}"), caller: local, links };
                http(200, serde_json::to_string(&greeting).unwrap())
            }
            Ask::Datagram { .. } => Outcome::Datagram,
            Ask::Resolve { .. } => Outcome::Resolved {
                resolver: "10.96.0.10:53".parse().unwrap(),
                addresses: vec!["10.96.0.1".parse().unwrap()],
            },
            Ask::Exchange { to, .. } if to.ip().is_loopback() => {
                Outcome::Failed { why: format!("cannot connect to {to}: refused") }
            }
            Ask::Exchange { bytes, .. } => Outcome::Exchanged { bytes: server_says(bytes) },
        }
    }

    /// The first words of a TLS server to these of a client.
    fn server_says(mut hello: &[u8]) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let config =
            rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key.into())
                .unwrap();
        let mut server = rustls::ServerConnection::new(config.into()).unwrap();
        server.read_tls(&mut hello).unwrap();
        server.process_new_packets().unwrap();
        let mut words = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut words).unwrap();
        }
        words
    }

    fn report(whole: bool, change: impl Fn(&Planned, Outcome) -> Outcome) -> Report {
        let (probes, targets) = (two_nodes(), targets());
        let pods = ["pod-cp1", "pod-w1"];
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let mut findings = Vec::new();
        for mut planned in plan::plan(&probes, &targets, whole) {
            let outcome = change(&planned, sound(&probes, &planned));
            findings.extend(of(&mut planned, &outcome, &pods, now));
        }
        findings.extend(plan::skipped(&probes, &targets));
        Report::of("server", findings)
    }

    #[test]
    fn every_pair_and_every_node_is_tried() {
        insta::assert_snapshot!(report(false, |_, outcome| outcome).text(), @r"
        CHECK           RESULT               SEEN
        etcd member     1 passed             cp1: healthy
        certificate     3 passed, 3 skipped  kubelet of cp1, kube-apiserver of cp1, kubelet of w1: until 4096-01-01; etcd of cp1: it is not there: cannot connect to 127.0.0.1:2379: refused; kube-controller-manager of cp1: it is not there: cannot connect to 127.0.0.1:10257: refused; kube-scheduler of cp1: it is not there: cannot connect to 127.0.0.1:10259: refused
        pod to pod      2 passed             cp1 to w1, w1 to cp1
        source address  2 passed             cp1 to w1, w1 to cp1
        MTU             2 passed             cp1 to w1, w1 to cp1: 1450 bytes, whole, there and back
        pod to Service  2 passed             cp1, w1
        pod to API      2 passed             cp1, w1
        node to pod     4 passed             cp1 to cp1, cp1 to w1, w1 to cp1, w1 to w1
        host port       4 passed             pod of cp1 to w1, cp1 to itself, pod of w1 to cp1, w1 to itself
        DNS             2 passed             cp1, w1: from 10.96.0.10:53

        server: 24 passed, 0 failed, 3 skipped
        ");
    }

    #[test]
    fn a_control_plane_of_our_images_has_all_of_its_parts() {
        let report = report(true, |_, outcome| outcome);
        let failed =
            report.findings.iter().filter(|finding| matches!(finding.verdict, Verdict::Failed { .. }));
        let subjects: Vec<&str> = failed.map(|finding| finding.subject.as_str()).collect();
        assert_eq!(subjects, ["etcd of cp1", "kube-controller-manager of cp1", "kube-scheduler of cp1"]);
    }

    #[test]
    fn what_is_not_as_it_should_be_is_told() {
        let report = report(false, |planned, outcome| match (&planned.goal, outcome) {
            // Masqueraded by its node.
            (Goal::Pod { .. }, Outcome::Http { local, status, body }) => {
                let body = body.replace("\"10.10.0.2:", "\"10.20.0.10:");
                Outcome::Http { local, status, body }
            }
            (Goal::Mtu, _) => Outcome::Failed { why: "a packet of 1450 bytes did not come back".to_owned() },
            (Goal::Service, Outcome::Http { local, .. }) => {
                Outcome::Http { local, status: 502, body: "<html>a proxy".to_owned() }
            }
            (Goal::HostPort { .. }, Outcome::Http { local, status, body }) => {
                Outcome::Http { local, status, body: body.replace("pod-", "other-") }
            }
            (Goal::Dns { .. }, _) => Outcome::Resolved {
                resolver: "10.96.0.10:53".parse().unwrap(),
                addresses: vec!["192.0.2.1".parse().unwrap()],
            },
            (Goal::Etcd { .. }, Outcome::Http { local, .. }) => Outcome::Http {
                local,
                status: 503,
                body: r#"{"health":"false","reason":"RAFT NO LEADER"}"#.to_owned(),
            },
            (_, outcome) => outcome,
        });
        let failed: Vec<String> = report
            .findings
            .iter()
            .filter_map(|finding| match &finding.verdict {
                Verdict::Failed { why, .. } => {
                    Some(format!("{}, {}: {why}", finding.check.name(), finding.subject))
                }
                _ => None,
            })
            .collect();
        insta::assert_snapshot!(failed.join("\n"), @r"
        etcd member, cp1: not healthy (status 503): RAFT NO LEADER
        source address, cp1 to w1: a connection from 10.10.0.2 arrives from 10.20.0.10
        MTU, cp1 to w1: a packet of 1450 bytes did not come back
        MTU, w1 to cp1: a packet of 1450 bytes did not come back
        pod to Service, cp1: something else answers there (status 502): <html>a proxy
        pod to Service, w1: something else answers there (status 502): <html>a proxy
        host port, pod of cp1 to w1: it leads to other-w1 and not to the node's pod
        host port, cp1 to itself: it leads to other-cp1 and not to the node's pod
        host port, pod of w1 to cp1: it leads to other-cp1 and not to the node's pod
        host port, w1 to itself: it leads to other-w1 and not to the node's pod
        DNS, cp1: 10.96.0.10:53 says 192.0.2.1, and it is 10.96.0.1
        DNS, w1: 10.96.0.10:53 says 192.0.2.1, and it is 10.96.0.1
        ");
    }
}
