//! Control planes of which only etcd runs, started as on a machine.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bootwright::pki;
use bootwright_model::kubernetes::component_below;
use bootwright_model::node::NodeFacts;
use firstboot::bootstrap::etcd::{Place, Start, Step, promote};
use firstboot::certificates::{self, Roots};
use network_namespaces::Namespace;
use serde_json::{Value, json};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::inventory::{address, facts};
use super::namespace::of_machine;
use crate::programs::{self, eventually, ip};

/// Generous: others may have the processors.
const PATIENCE: Duration = Duration::from_secs(300);

/// Three machines on a switch.
pub struct Machines {
    machines: Vec<Machine>,
    etcd: PathBuf,
    _folder: tempfile::TempDir,
}

struct Machine {
    name: String,
    namespace: Arc<Namespace>,
    root: PathBuf,
    facts: NodeFacts,
    power: Option<Power>,
    said: Arc<Mutex<String>>,
}

/// What runs on a machine that is on.
struct Power {
    off: Arc<AtomicBool>,
    place: JoinHandle<Option<Child>>,
}

/// A member: its name, identity, and whether it has a vote.
pub type Member = (String, String, bool);

impl Machines {
    /// All off, with empty disks.
    pub fn new() -> Machines {
        let folder = tempfile::tempdir().unwrap();
        let etcd = programs::etcd(folder.path());
        let now = SystemTime::now();
        let secrets = pki::open_or_create(&folder.path().join("secrets/harbor"), "harbor", now).unwrap();
        ip("link add br0 type bridge");
        ip("link set br0 up");
        let machines = ["cp1", "cp2", "cp3"].into_iter().zip(21..).map(|(name, last)| {
            let root = folder.path().join(name);
            let facts = facts(name, last);
            let roots = Roots::below(&root);
            fs::create_dir_all(&roots.cluster_pki).unwrap();
            fs::create_dir_all(root.join("var/lib")).unwrap();
            for file in secrets.baked_files() {
                let path = roots.cluster_pki.join(file.name);
                fs::write(&path, &file.contents).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(file.mode)).unwrap();
            }
            let namespace = Arc::new(of_machine(&format!("to-{name}"), &facts.address.to_string()));
            let said = Arc::default();
            let machine = Machine { name: name.to_owned(), namespace, root, facts, power: None, said };
            machine.issue_certificates();
            machine
        });
        Machines { machines: machines.collect(), etcd, _folder: folder }
    }

    fn machine(&self, name: &str) -> &Machine {
        self.machines.iter().find(|machine| machine.name == name).unwrap()
    }

    fn machine_mut(&mut self, name: &str) -> &mut Machine {
        self.machines.iter_mut().find(|machine| machine.name == name).unwrap()
    }

    pub fn power_on(&mut self, name: &str) {
        let etcd = self.etcd.clone();
        self.machine_mut(name).power_on(etcd);
    }

    /// As a power cut would.
    pub fn power_off(&mut self, name: &str) {
        self.machine_mut(name).power_off();
    }

    /// As a disk that was written to again.
    pub fn wipe(&self, name: &str) {
        fs::remove_dir_all(self.machine(name).data()).unwrap();
    }

    pub fn has_data(&self, name: &str) -> bool {
        self.machine(name).data().join("member/wal").exists()
    }

    /// Joins, and has lost its power when etcd should have started.
    pub fn be_cut_off_while_joining(&self, name: &str) {
        let machine = self.machine(name);
        let mut place = machine.place();
        eventually("it is added", PATIENCE, || {
            machine.namespace.enter(|| matches!(place.look().unwrap(), Step::Start(_)))
        });
        // etcd makes its database before it asks the others.
        let member = machine.data().join("member");
        fs::create_dir_all(member.join("snap")).unwrap();
        fs::create_dir_all(member.join("wal.tmp")).unwrap();
        fs::write(member.join("snap/db"), [0; 20_480]).unwrap();
    }

    /// Its image is one of a cluster file that names this control plane first.
    pub fn expect_to_begin(&mut self, name: &str, first: &str) {
        let nodes = &mut self.machine_mut(name).facts.layer.file.nodes;
        nodes.sort_by_key(|node| (node.name != first, node.name.clone()));
    }

    /// It is switched on with this as the last byte of its address; by its cluster file and by all others'.
    pub fn renumber(&mut self, name: &str, last: u8) {
        for machine in &mut self.machines {
            let node = machine.facts.layer.file.nodes.iter_mut().find(|node| node.name == name).unwrap();
            node.address = address(last).parse().unwrap();
        }
        let machine = self.machine_mut(name);
        let old = std::mem::replace(&mut machine.facts.address, address(last).parse().unwrap());
        machine.namespace.enter(|| {
            ip(&format!("address delete {old} dev eth0"));
            ip(&format!("address add {} dev eth0", address(last)));
        });
        machine.issue_certificates();
    }

    /// Nothing that is sent to it comes back: it is not even said that nobody is there.
    pub fn unplug(&self, name: &str) {
        let machine = self.machine(name);
        machine.namespace.enter(|| ip("link set eth0 down"));
        // The neighbours would ask in vain, and say so soon.
        let node = &machine.facts;
        for other in self.machines.iter().filter(|other| other.name != name) {
            let address = node.address.addr();
            other.namespace.enter(|| {
                ip(&format!("neighbour replace {address} lladdr 02:00:00:00:00:01 nud permanent dev eth0"));
            });
        }
    }

    /// Where the others look for a member, as one of them says.
    pub fn peer_url(&self, of: &str, name: &str) -> Option<String> {
        let told = self.machine(of).call("cluster/member/list", &json!({}))?;
        let told = told["members"].as_array()?.iter().find(|told| told["name"] == name)?.clone();
        Some(told["peerURLs"][0].as_str()?.to_owned())
    }

    /// Waits for a line of `firstboot etcd`.
    pub fn says(&self, name: &str, words: &str) {
        let said = Arc::clone(&self.machine(name).said);
        let what = format!("{name} says \"{words}\"");
        eventually(&what, PATIENCE, || said.lock().unwrap().contains(words));
    }

    /// What the machine says at etcd's peer port to somebody on it, who has a certificate of etcd's authority or not.
    pub fn state(&self, name: &str, known: bool) -> Option<String> {
        let machine = self.machine(name);
        let agent = machine.caller(known);
        let url = format!("https://{}:2380/members", machine.facts.address.addr());
        let response = machine.namespace.enter(|| agent.get(&url).call().ok())?;
        Some(response.headers().get("X-Bootwright-Etcd")?.to_str().ok()?.to_owned())
    }

    /// None of these starts etcd within a time.
    pub fn stay_without_etcd(&self, names: &[&str], time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            for name in names {
                let machine = self.machine(name);
                let place = &machine.power.as_ref().unwrap().place;
                assert!(!place.is_finished(), "{name} started etcd: {}", machine.said.lock().unwrap());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until every machine says that exactly these are members with a vote.
    pub fn have_votes(&self, names: &[&str]) {
        for machine in &self.machines {
            eventually(&format!("all have votes by {}", machine.name), PATIENCE, || {
                let members = self.members(&machine.name).unwrap_or_default();
                let have: Vec<&str> = members.iter().map(|(name, _, _)| name.as_str()).collect();
                have == names && members.iter().all(|(_, _, votes)| *votes)
            });
        }
    }

    /// By name; none if the member does not answer.
    pub fn members(&self, name: &str) -> Option<Vec<Member>> {
        let told = self.machine(name).call("cluster/member/list", &json!({}))?;
        let mut members: Vec<Member> = told["members"].as_array()?.iter().map(member).collect();
        members.sort();
        Some(members)
    }

    pub fn member_id(&self, of: &str, name: &str) -> Option<String> {
        self.members(of)?.into_iter().find(|member| member.0 == name).map(|member| member.1)
    }

    pub fn cluster_id(&self, name: &str) -> Value {
        self.machine(name).call("cluster/member/list", &json!({})).unwrap()["header"]["cluster_id"].clone()
    }

    pub fn put(&self, on: &str, key: &str, value: &str) {
        let body = json!({ "key": STANDARD.encode(key), "value": STANDARD.encode(value) });
        self.machine(on).call("kv/put", &body).unwrap();
    }

    /// What a majority says.
    pub fn get(&self, from: &str, key: &str) -> Option<String> {
        let told = self.machine(from).call("kv/range", &json!({ "key": STANDARD.encode(key) }))?;
        String::from_utf8(STANDARD.decode(told["kvs"][0]["value"].as_str()?).ok()?).ok()
    }

    /// What a person does with etcdctl.
    pub fn remove(&self, on: &str, name: &str) {
        let id = self.member_id(on, name).unwrap();
        self.machine(on).call("cluster/member/remove", &json!({ "ID": id })).unwrap();
    }
}

fn member(told: &Value) -> Member {
    let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
    (text("name"), text("ID"), told["isLearner"] != true)
}

impl Machine {
    fn data(&self) -> PathBuf {
        self.root.join("var/lib/etcd")
    }

    fn log(&self) -> PathBuf {
        self.root.join("etcd.log")
    }

    fn issue_certificates(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        certificates::ensure(&Roots::below(&self.root), &self.facts, now).unwrap();
    }

    fn place(&self) -> Place {
        Place::new(Roots::below(&self.root), &self.facts, self.data()).unwrap()
    }

    fn power_on(&mut self, etcd: PathBuf) {
        assert!(self.power.is_none());
        self.said.lock().unwrap().clear();
        let off = Arc::new(AtomicBool::new(false));
        let (namespace, said, told) = (Arc::clone(&self.namespace), Arc::clone(&self.said), Arc::clone(&off));
        let (mut place, root, facts, log) = (self.place(), self.root.clone(), self.facts.clone(), self.log());
        let place = std::thread::spawn(move || {
            namespace.enter(|| {
                let say = |line: &str| {
                    let mut said = said.lock().unwrap();
                    said.push_str(line);
                    said.push('\n');
                };
                let start = wait(&mut place, &told, say)?;
                drop(place);
                let child = start_etcd(&etcd, &root, &facts, &start, &log);
                let (roots, said, namespace) =
                    (Roots::below(&root), Arc::clone(&said), Arc::clone(&namespace));
                std::thread::spawn(move || {
                    // A machine that is switched off meanwhile is no failure here.
                    let _ = namespace.enter(|| {
                        promote::run(&roots, &facts, |line| {
                            let mut said = said.lock().unwrap();
                            said.push_str(line);
                            said.push('\n');
                        })
                    });
                });
                Some(child)
            })
        });
        self.power = Some(Power { off, place });
    }

    fn power_off(&mut self) {
        let Some(Power { off, place }) = self.power.take() else { return };
        off.store(true, Ordering::SeqCst);
        if let Ok(Some(mut child)) = place.join() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A call to the member on this machine; none if it does not answer well.
    fn call(&self, path: &str, body: &Value) -> Option<Value> {
        let agent = self.caller(true);
        let text = self.namespace.enter(|| {
            let url = format!("https://127.0.0.1:2379/v3/{path}");
            let mut response = agent.post(&url).send(body.to_string()).ok()?;
            response.status().is_success().then(|| response.body_mut().read_to_string().ok())?
        })?;
        serde_json::from_str(&text).ok()
    }

    /// Somebody with etcd's authority, and with a certificate of it or not.
    fn caller(&self, known: bool) -> ureq::Agent {
        let roots = Roots::below(&self.root);
        let authority =
            Certificate::from_pem(&fs::read(roots.cluster_pki.join("etcd-ca.crt")).unwrap()).unwrap();
        let file =
            |ending: &str| fs::read(roots.node_pki.join(format!("etcd-health-client.{ending}"))).unwrap();
        let own = Certificate::from_pem(&file("crt")).unwrap();
        let mut tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[authority]));
        if known {
            let key = PrivateKey::from_pem(&file("key")).unwrap();
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&[own], key)));
        }
        let config = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(20)));
        config.build().new_agent()
    }
}

/// Ends the programs; shows what was said if the test failed.
impl Drop for Machine {
    fn drop(&mut self) {
        self.power_off();
        if std::thread::panicking() {
            let said = self.said.lock().map(|said| said.clone()).unwrap_or_default();
            let log = bootwright::lab::console::last_lines(&self.log(), 15).join("\n");
            eprintln!("--- {}\n{said}--- etcd of {}\n{log}", self.name, self.name);
        }
    }
}

/// Looks until etcd may start; none if the power goes before.
fn wait(place: &mut Place, off: &AtomicBool, say: impl Fn(&str)) -> Option<Start> {
    while !off.load(Ordering::SeqCst) {
        match place.look().unwrap() {
            Step::Start(start) => {
                say(&start.reason);
                return Some(start);
            }
            Step::Wait(reason) => say(&reason),
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    None
}

fn start_etcd(program: &Path, root: &Path, facts: &NodeFacts, start: &Start, log: &Path) -> Child {
    let rendered = component_below(root.to_str().unwrap(), "etcd", facts).unwrap();
    let log = File::options().create(true).append(true).open(log).unwrap();
    Command::new(program)
        .args(&rendered.arguments)
        .args(&start.flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
