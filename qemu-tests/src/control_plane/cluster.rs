//! A control plane of processes.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bootwright::lab::console;
use bootwright::pki;
use bootwright_model::agent::BALANCER_PORT;
use bootwright_model::cluster::Node;
use bootwright_model::kubernetes::{ConfigFile, component_below};
use bootwright_model::layout;
use bootwright_model::node::NodeFacts;
use firstboot::bootstrap::{self, BootstrapError};
use firstboot::certificates::{self, Roots};
use serde_json::Value;
use ureq::http::Request;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::node::facts;
use super::programs::{self, eventually};

/// Who calls.
pub enum Identity {
    /// A certificate in the node's folder.
    Certificate(&'static str),
    /// A file with a certificate and its key.
    File(PathBuf),
    /// A bearer token.
    Token(String),
    /// A certificate and its key, PEM.
    Pair(String, String),
    /// Nobody.
    Anonymous,
}

/// Running programs and their folder; both go with it.
pub struct Cluster {
    root: tempfile::TempDir,
    facts: NodeFacts,
    children: Vec<(String, Child)>,
}

impl Cluster {
    /// Starts etcd and the control plane, and waits until they are ready.
    pub fn start() -> Cluster {
        Cluster::start_node(facts())
    }

    /// The same of another node.
    pub fn start_node(facts: NodeFacts) -> Cluster {
        let etcd = |root: &Path, _: &pki::Secrets| {
            component_below(root.to_str().unwrap(), "etcd", &facts).unwrap().arguments
        };
        Cluster::start_with(facts.clone(), etcd)
    }

    /// The same with these arguments for etcd, made from the folder that everything lies in and the secrets.
    pub fn start_with(facts: NodeFacts, etcd: impl FnOnce(&Path, &pki::Secrets) -> Vec<String>) -> Cluster {
        let root = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let secrets = pki::open_or_create(&root.path().join("secrets/harbor"), "harbor", now).unwrap();
        let roots = Roots::below(root.path());
        fs::create_dir_all(&roots.cluster_pki).unwrap();
        for file in secrets.baked_files() {
            let path = roots.cluster_pki.join(file.name);
            fs::write(&path, &file.contents).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(file.mode)).unwrap();
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
        certificates::ensure(&roots, &facts, now).unwrap();

        let mut cluster = Cluster { root, facts, children: Vec::new() };
        fs::create_dir_all(cluster.root.path().join("var/lib")).unwrap();
        let arguments = etcd(cluster.root.path(), &secrets);
        cluster.run("etcd", &programs::etcd(cluster.root.path()), &arguments);
        cluster.spawn("kube-apiserver", &programs::kubernetes("kube-apiserver"));
        cluster.wait("the API server is ready", |cluster| {
            cluster
                .try_call(6443, &Identity::Anonymous, "GET", "/readyz", "*/*", None)
                .is_some_and(|a| a.0 == 200)
        });
        for name in ["kube-controller-manager", "kube-scheduler"] {
            cluster.spawn(name, &programs::kubernetes(name));
        }
        for port in [10257, 10259] {
            cluster.wait("controllers and scheduler are healthy", |cluster| {
                cluster
                    .try_call(port, &Identity::Anonymous, "GET", "/healthz", "*/*", None)
                    .is_some_and(|answer| answer.0 == 200)
            });
        }
        cluster
    }

    fn spawn(&mut self, name: &str, program: &Path) {
        let child = spawn(self.root.path(), name, program, &self.facts);
        self.children.push((name.to_owned(), child));
    }

    /// Starts another program beside the control plane; it is called `name`.
    pub fn run(&mut self, name: &str, program: &Path, arguments: &[impl AsRef<OsStr>]) {
        let log = File::create(log(self.root.path(), name)).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
        self.children.push((name.to_owned(), child));
    }

    /// Where the control plane's certificates lie.
    pub fn roots(&self) -> Roots {
        Roots::below(self.root.path())
    }

    /// The control plane's facts.
    pub fn facts(&self) -> &NodeFacts {
        &self.facts
    }

    /// Waits, and shows the log of a program that ended.
    fn wait(&mut self, what: &str, check: impl Fn(&Cluster) -> bool) {
        eventually(what, Duration::from_secs(900), || {
            for (name, child) in &mut self.children {
                if let Some(status) = child.try_wait().unwrap() {
                    panic!("{name} ended ({status}):\n{}", last_lines(self.root.path(), name, 30));
                }
            }
            check(self)
        });
    }

    /// Ends a program as a power cut would.
    pub fn kill(&mut self, name: &str) {
        let at = self.children.iter().position(|(running, _)| running == name).unwrap();
        let (_, mut child) = self.children.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks a program to end, and waits until it has.
    pub fn terminate(&mut self, name: &str) {
        let at = self.children.iter().position(|(running, _)| running == name).unwrap();
        let (_, mut child) = self.children.remove(at);
        let process = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap();
    }

    /// Starts the agent as on a machine that believes that its control planes are at these addresses.
    pub fn start_agent(&mut self, control_planes: &[&str]) {
        let mut facts = self.facts.clone();
        let baked = facts.layer.file.nodes.iter().find(|node| node.name == "cp1").cloned().unwrap();
        facts.layer.file.nodes.retain(|node| node.name != "cp1");
        for (number, address) in control_planes.iter().enumerate() {
            let name = format!("cp{}", number + 1);
            let address = address.parse().unwrap();
            facts.layer.file.nodes.push(Node { name, address, ..baked.clone() });
        }
        let root = self.root.path().to_owned();
        self.run_agent("agent", &root, &facts, programs::PORTS_OF_THE_AGENT);
    }

    /// Starts the agent of the machine whose files lie below `root`, with these ports of its balancer and its health.
    pub fn run_agent(&mut self, name: &str, root: &Path, facts: &NodeFacts, ports: [u16; 2]) {
        let path = root.join(layout::NODE_FACTS.trim_start_matches('/'));
        fs::write(path, serde_json::to_vec(facts).unwrap()).unwrap();
        let kubeconfig = Roots::below(root).node_pki.join("agent.conf");
        let [balancer, health] = ports.map(|port| OsString::from(port.to_string()));
        let arguments = [
            ("--root", root.into()),
            ("--kubeconfig", kubeconfig.into()),
            ("--balancer-port", balancer),
            ("--health-port", health),
        ];
        let arguments = arguments.map(|(name, value)| [OsString::from(name), value]).concat();
        self.run(name, &programs::agent(), &arguments);
    }

    /// Starts `agent-` and the name: of one of several control planes on this API server, with files and ports of its own.
    pub fn run_agent_of(&mut self, facts: &NodeFacts) {
        let balancer = if facts.name == "cp1" { 7450 } else { 7460 };
        let root = self.root().join(&facts.name);
        let (shared, own) = (self.roots(), Roots::below(&root));
        fs::create_dir_all(&own.cluster_pki).unwrap();
        fs::create_dir_all(&own.node_pki).unwrap();
        fs::copy(shared.cluster_pki.join("ca.crt"), own.cluster_pki.join("ca.crt")).unwrap();
        let kubeconfig = fs::read_to_string(shared.node_pki.join("agent.conf")).unwrap();
        let ports = [BALANCER_PORT, balancer].map(|port| format!("127.0.0.1:{port}"));
        assert!(kubeconfig.contains(&ports[0]), "{kubeconfig}");
        let kubeconfig = kubeconfig.replace(&ports[0], &ports[1]);
        fs::write(own.node_pki.join("agent.conf"), kubeconfig).unwrap();
        self.run_agent(&format!("agent-{}", facts.name), &root, facts, [balancer, balancer + 1]);
    }

    /// Process of a running program.
    pub fn pid(&self, name: &str) -> u32 {
        self.children.iter().find(|(running, _)| running == name).unwrap().1.id()
    }

    /// Where the control plane's files lie.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Everything that a program said.
    pub fn said(&self, name: &str) -> String {
        fs::read_to_string(log(self.root.path(), name)).unwrap()
    }

    /// What `firstboot apply` does; the number of objects.
    pub fn apply_bootstrap(&self) -> usize {
        bootstrap::run(&Roots::below(self.root.path()), &self.facts).unwrap()
    }

    /// The same for a machine that believes to have another pod CIDR.
    pub fn apply_bootstrap_with_pod_cidr(&self, pod_cidr: &str) -> Result<usize, BootstrapError> {
        let facts = NodeFacts { pod_cidr: pod_cidr.parse().ok(), ..self.facts.clone() };
        bootstrap::run(&Roots::below(self.root.path()), &facts)
    }

    /// The same for a machine that the cloud calls by another name.
    pub fn apply_bootstrap_as(&self, provider_id: &str) -> Result<usize, BootstrapError> {
        let facts = NodeFacts { provider_id: Some(provider_id.to_owned()), ..self.facts.clone() };
        bootstrap::run(&Roots::below(self.root.path()), &facts)
    }

    /// The token that nodes join with.
    pub fn bootstrap_token(&self) -> String {
        let path = Roots::below(self.root.path()).cluster_pki.join("bootstrap-token");
        fs::read_to_string(path).unwrap().trim().to_owned()
    }

    /// The object at a path; it must be there.
    pub fn get(&self, identity: &Identity, path: &str) -> Value {
        let (status, answer) = self.call(identity, "GET", path, "*/*", None);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Makes an object below a path, and returns it; it must be new.
    pub fn create(&self, identity: &Identity, path: &str, object: &Value) -> Value {
        let body = object.to_string();
        let (status, answer) = self.call(identity, "POST", path, "application/json", Some(body.as_bytes()));
        assert_eq!(status, 201, "{path}: {answer}");
        answer
    }

    /// Status and body of a call to the API server.
    pub fn call(
        &self,
        identity: &Identity,
        method: &str,
        path: &str,
        content_type: &str,
        body: Option<&[u8]>,
    ) -> (u16, Value) {
        self.call_at(6443, identity, method, path, content_type, body)
    }

    /// The same to another component.
    pub fn call_at(
        &self,
        port: u16,
        identity: &Identity,
        method: &str,
        path: &str,
        content_type: &str,
        body: Option<&[u8]>,
    ) -> (u16, Value) {
        self.try_call(port, identity, method, path, content_type, body)
            .unwrap_or_else(|| panic!("no answer to {method} {path}; {}", self.last_words()))
    }

    fn try_call(
        &self,
        port: u16,
        identity: &Identity,
        method: &str,
        path: &str,
        content_type: &str,
        body: Option<&[u8]>,
    ) -> Option<(u16, Value)> {
        let server = SocketAddr::from(([127, 0, 0, 1], port));
        self.try_call_to(server, identity, method, path, content_type, body)
    }

    /// Whether the API server answers at an address, which its certificate has to be good for.
    pub fn is_ready_at(&self, server: SocketAddr) -> bool {
        let answer = self.try_call_to(server, &Identity::Anonymous, "GET", "/readyz", "*/*", None);
        answer.is_some_and(|answer| answer.0 == 200)
    }

    fn try_call_to(
        &self,
        server: SocketAddr,
        identity: &Identity,
        method: &str,
        path: &str,
        content_type: &str,
        body: Option<&[u8]>,
    ) -> Option<(u16, Value)> {
        let roots = Roots::below(self.root.path());
        let read = |path: PathBuf| fs::read(path).unwrap();
        let authority = Certificate::from_pem(&read(roots.cluster_pki.join("ca.crt"))).unwrap();
        let mut tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[authority]));
        let pair = match identity {
            Identity::Certificate(name) => {
                let file = |ending| read(roots.node_pki.join(format!("{name}.{ending}")));
                Some((file("crt"), file("key")))
            }
            Identity::File(path) => Some((read(path.clone()), read(path.clone()))),
            Identity::Pair(certificate, key) => Some((certificate.clone().into(), key.clone().into())),
            Identity::Token(_) | Identity::Anonymous => None,
        };
        if let Some((certificate, key)) = pair {
            tls = tls.client_cert(Some(ClientCert::new_with_certs(
                &[Certificate::from_pem(&certificate).unwrap()],
                PrivateKey::from_pem(&key).unwrap(),
            )));
        }
        let agent = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://{server}{path}"))
            .header("Content-Type", content_type);
        if let Identity::Token(token) = identity {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = match body {
            Some(body) => agent.run(request.body(body).unwrap()),
            None => agent.run(request.body(()).unwrap()),
        }
        .ok()?;
        let text = response.body_mut().with_config().limit(64 << 20).read_to_string().ok()?;
        Some((response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    fn last_words(&self) -> String {
        last_lines(self.root.path(), "kube-apiserver", 20)
    }
}

/// Starts a component with everything of it below `root`.
pub fn spawn(root: &Path, name: &str, program: &Path, facts: &NodeFacts) -> Child {
    let rendered = component_below(root.to_str().unwrap(), name, facts).unwrap();
    for ConfigFile { path, contents, mode } in &rendered.files {
        fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
        fs::set_permissions(path, Permissions::from_mode(*mode)).unwrap();
    }
    fs::create_dir_all(root.join("var/lib")).unwrap();
    let log = File::create(log(root, name)).unwrap();
    Command::new(program)
        .args(&rendered.arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()))
}

/// Ends the programs in reverse order; shows their logs if the test failed.
impl Drop for Cluster {
    fn drop(&mut self) {
        for (name, child) in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                let end = last_lines(self.root.path(), name, 40);
                let _ = writeln!(std::io::stderr(), "--- {name}\n{end}");
            }
        }
    }
}

/// What the program `name` says.
fn log(root: &Path, name: &str) -> PathBuf {
    root.join(format!("{name}.log"))
}

/// What it said last; empty if it was never started.
fn last_lines(root: &Path, name: &str, count: usize) -> String {
    console::last_lines(&log(root, name), count).join("\n")
}
