//! CoreDNS itself, as its pod would run it: the arguments, the Corefile, the account and the probes of the addon, and the
//! real API server. It is in no archive of Debian 12, so that only who has its program (`coredns`, static, of a release
//! for Kubernetes 1.20) can run this: `BOOTWRIGHT_COREDNS=… cargo test … -- --ignored coredns`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bootwright_model::addons::BakedAddon;
use bootwright_model::cluster::{ClusterFile, Dns};
use bootwright_model::kubernetes::dns;
use firstboot::bootstrap::{Api, addons};
use serde_json::Value;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, QTYPE, Question, RCODE, TYPE};

use super::cluster::{Cluster, Identity};
use super::programs::{self, eventually};

const PROGRAM: &str = "BOOTWRIGHT_COREDNS";
const PATIENCE: Duration = Duration::from_secs(120);
/// Where a pod has its account (<https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/>).
const ACCOUNT: &str = "var/run/secrets/kubernetes.io/serviceaccount";
const SYSTEM: &str = "/api/v1/namespaces/kube-system";

#[test]
#[ignore = "needs the program of CoreDNS in BOOTWRIGHT_COREDNS, which no archive has"]
fn the_program_serves_the_clusters_names() {
    if !programs::inside_namespace("coredns::the_program_serves_the_clusters_names") {
        return;
    }
    let program = PathBuf::from(std::env::var_os(PROGRAM).expect("BOOTWRIGHT_COREDNS names the program"));
    let mut cluster = Cluster::start();
    cluster.apply_bootstrap();
    let mut file = cluster.facts().layer.file.clone();
    file.dns = Some(Dns { image: "bootwright.local/coredns:1".to_owned(), replicas: None });
    let api = Api::open(&cluster.roots(), file.cluster.endpoint_port).unwrap();

    let outcome = addons::run(&api, &[addon(&file)], PATIENCE);
    assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
    run(&mut cluster, "coredns", &program, "");
    names_of_the_cluster();
    assert_eq!(ask("example.org"), Err(RCODE::ServerFailure), "nobody is asked");
    let said = cluster.said("coredns");
    assert!(!said.contains("forbidden"), "{said}");
    cluster.kill("coredns");

    // Where there is somebody to ask, who does not answer here.
    file.network.resolvers = vec!["192.0.2.53".parse().unwrap()];
    let outcome = addons::run(&api, &[addon(&file)], PATIENCE);
    assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
    run(&mut cluster, "coredns that forwards", &program, "nameserver 192.0.2.53\n");
    names_of_the_cluster();
}

fn addon(file: &ClusterFile) -> BakedAddon {
    dns::addon(file).unwrap().unwrap()
}

/// Starts it in a root of its own, as a container of the Deployment, and waits until it is ready by the Deployment's probes.
fn run(cluster: &mut Cluster, name: &str, program: &Path, resolv_conf: &str) {
    let admin = Identity::Certificate("admin");
    let config = cluster.get(&admin, &format!("{SYSTEM}/configmaps/coredns"));
    let deployment = cluster.get(&admin, "/apis/apps/v1/namespaces/kube-system/deployments/coredns");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let token = account(cluster, &admin);

    let root = cluster.root().join(name);
    let write = |path: &str, bytes: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("etc/coredns/Corefile", config["data"]["Corefile"].as_str().unwrap().as_bytes());
    write("etc/resolv.conf", resolv_conf.as_bytes());
    for key in ["token", "ca.crt", "namespace"] {
        let value = STANDARD.decode(token["data"][key].as_str().unwrap()).unwrap();
        write(&format!("{ACCOUNT}/{key}"), &value);
    }
    fs::copy(program, root.join("coredns")).unwrap();
    let server = cluster.facts().address.addr().to_string();
    let port = cluster.facts().layer.file.cluster.endpoint_port;
    // Without kube-proxy the API's Service leads nowhere: the pod is told of the server itself.
    let environment =
        [format!("KUBERNETES_SERVICE_HOST={server}"), format!("KUBERNETES_SERVICE_PORT={port}")];
    let arguments = container["args"].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned());
    let arguments: Vec<String> = ["-i".to_owned()]
        .into_iter()
        .chain(environment)
        .chain(["/usr/sbin/chroot".to_owned(), root.display().to_string(), "/coredns".to_owned()])
        .chain(arguments)
        .collect();
    cluster.run(name, Path::new("env"), &arguments);
    for probe in ["readinessProbe", "livenessProbe"] {
        let ask = &container[probe]["httpGet"];
        let url = format!("http://127.0.0.1:{}{}", ask["port"], ask["path"].as_str().unwrap());
        let agent =
            ureq::Agent::config_builder().proxy(None).timeout_global(Some(Duration::from_secs(5))).build();
        let agent = agent.new_agent();
        eventually(&format!("{probe} of {name}"), PATIENCE, || agent.get(&url).call().is_ok());
    }
}

/// The Secret with the token of CoreDNS's account, which the controller manager makes.
fn account(cluster: &Cluster, admin: &Identity) -> Value {
    let mut found = Value::Null;
    eventually("CoreDNS's account has a token", PATIENCE, || {
        let list = cluster.get(admin, &format!("{SYSTEM}/secrets"));
        let mut secrets = list["items"].as_array().into_iter().flatten();
        let of_account = |secret: &&Value| {
            secret["metadata"]["annotations"]["kubernetes.io/service-account.name"] == "coredns"
                && secret["data"]["token"].is_string()
        };
        found = secrets.find(of_account).cloned().unwrap_or_default();
        found.is_object()
    });
    found
}

fn names_of_the_cluster() {
    let address = |text: &str| Ok(vec![text.parse::<IpAddr>().unwrap()]);
    assert_eq!(ask("kubernetes.default.svc.cluster.local"), address("10.96.0.1"));
    assert_eq!(ask("kube-dns.kube-system.svc.cluster.local"), address("10.96.0.10"));
    assert_eq!(ask("nobody.default.svc.cluster.local"), Err(RCODE::NameError));
}

/// What it says that the addresses of a name are.
fn ask(name: &str) -> Result<Vec<IpAddr>, RCODE> {
    let mut packet = Packet::new_query(7);
    packet.set_flags(simple_dns::PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(name).unwrap(),
        QTYPE::TYPE(TYPE::A),
        CLASS::IN.into(),
        false,
    ));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, 53))).unwrap();
    socket.send(&packet.build_bytes_vec().unwrap()).unwrap();
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).unwrap();
    let answer = Packet::parse(&buffer[..length]).unwrap();
    if answer.rcode() != RCODE::NoError {
        return Err(answer.rcode());
    }
    let address = |data: &RData| match data {
        RData::A(v4) => Some(IpAddr::V4(v4.address.into())),
        _ => None,
    };
    Ok(answer.answers.iter().filter_map(|record| address(&record.rdata)).collect())
}
