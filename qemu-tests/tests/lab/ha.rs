//! Three control planes of which any may fail, in any way, and the pods that notice nothing.

use std::time::{Duration, Instant};

use bootwright::lab::api::Api;
use bootwright::lab::cluster::layout::{VIRTUAL_IP, Wish};
use bootwright::lab::cluster::status::Ready;
use bootwright::lab::cluster::{Request, Status, Supervisor, commands};
use bootwright::lab::kubeconfig::Kubeconfig;
use bootwright::lab::switch::Fault;
use bootwright::validate::Expected;
use qemu_tests::{Image, READY};
use serde_json::{Value, json};

use super::members::{CLIENTS, Members, Told};
use super::{of, pods, validated, wait};

const CONTROL_PLANES: [&str; 3] = ["cp1", "cp2", "cp3"];
const WORKER: &str = "w1";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/bootwright-virtual-ip";
/// How long the rest may take to serve again. Far above what it takes, which is printed.
const AGAIN: Duration = Duration::from_secs(180);
/// Until a node that is silent is not Ready any more: the controller manager's grace of 40 s, and an election before it.
const NOTICED: Duration = Duration::from_secs(240);

#[test]
#[ignore = "three emulated control planes keep two processors busy for a quarter of an hour: ./run lab-test"]
fn a_control_plane_outlives_each_of_its_nodes() {
    let image = Image::of_ha();
    let mut options = image.lab_options();
    let wish = |node: &str| Wish { node: node.to_owned(), port: CLIENTS, host: None };
    options.forwards = CONTROL_PLANES.map(wish).into();
    let expected = Expected::of(&options.cluster);
    // What an earlier run left that was killed.
    commands::down(image.root(), true).unwrap();
    let mut lab = Supervisor::start(options, &mut |line| println!("{line}")).unwrap();
    // Three begin one etcd one after the other, on two processors.
    wait(&mut lab, "Ready", 3 * READY, Status::is_ready);
    let ways = Ways::of(&image, &lab);
    pods::reach_each_other(&ways.any, &[WORKER], Instant::now() + READY);
    // Now and not at the end: three control planes leave two processors nothing, and one that has just come back is not
    // Ready now and then until all have caught up.
    validated(&lab, expected, 3 * READY);

    the_one_that_does_most_loses_its_power(&mut lab, &ways);
    one_is_cut_off_and_heals(&mut lab, &ways);
    one_is_written_again(&mut lab, &ways);
    the_worker_loses_its_power(&mut lab, &ways);

    assert!(lab.end(false, |_| {}).unwrap().is_empty());
}

/// From outside to the cluster.
struct Ways {
    /// Through any control plane.
    any: Api,
    /// Through the virtual address alone.
    virtual_ip: Kubeconfig,
    members: Members,
}

impl Ways {
    fn of(image: &Image, lab: &Supervisor) -> Ways {
        let port = |name: &str| lab.forwarded(name).unwrap().host;
        let folder = lab.folder().path();
        let kubeconfig = Kubeconfig::read(&folder.join("kubeconfig")).unwrap();
        let address = format!("https://127.0.0.1:{}", port(VIRTUAL_IP));
        let virtual_ip = kubeconfig.pointed_at(&address, &folder.join("kubeconfig-virtual")).unwrap();
        let members = CONTROL_PLANES.map(|node| (node.to_owned(), port(node)));
        Ways { any: lab.api().unwrap(), virtual_ip, members: Members::new(&image.secrets(), members.into()) }
    }

    /// Who has the virtual address, as all see it.
    fn holder(&self) -> String {
        let lease = self.any.get(LEASE).unwrap();
        lease["spec"]["holderIdentity"].as_str().unwrap().to_owned()
    }

    /// Writes through both ways, which takes an etcd that has a leader; how long it took until both did. To the virtual
    /// address it makes a connection of its own.
    fn serve_again(&self, name: &str) {
        let began = Instant::now();
        let virtual_ip = Api::new(&self.virtual_ip).unwrap();
        for (way, api) in [("any control plane", &self.any), ("the virtual address", &virtual_ip)] {
            let name = format!("{name}-{}", way.replace(' ', "-"));
            let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
            let configmaps = "/api/v1/namespaces/default/configmaps";
            while let Err(error) = api.post(configmaps, &body.to_string()) {
                // Written, and the answer was lost on the way.
                if error.to_string().contains("already exists") {
                    break;
                }
                assert!(began.elapsed() < AGAIN, "{name}: {error}");
                std::thread::sleep(Duration::from_millis(100));
            }
            println!("{name}: written after {:.1} s", began.elapsed().as_secs_f64());
        }
    }

    /// The containers of the web server, and since when they run.
    fn containers(&self) -> Vec<Value> {
        let pods = self.any.get("/api/v1/namespaces/default/pods?labelSelector=app%3Dweb").unwrap();
        let containers = |pod: &Value| {
            let container = &pod["status"]["containerStatuses"][0];
            json!([pod["metadata"]["uid"], container["restartCount"], container["state"]["running"]])
        };
        pods["items"].as_array().unwrap().iter().map(containers).collect()
    }
}

/// It has the virtual address and leads etcd.
fn the_one_that_does_most_loses_its_power(lab: &mut Supervisor, ways: &Ways) {
    ways.members.all_vote(Instant::now() + AGAIN);
    let holder = ways.holder();
    ways.members.lead(&holder, Instant::now() + AGAIN);
    assert_eq!(ways.holder(), holder, "the address stays where it is when etcd's leader changes");
    let containers = ways.containers();
    lab.obey(Request::Kill(holder.clone())).unwrap();
    ways.serve_again("killed");
    let successor = ways.holder();
    println!("{holder} had the virtual address and led etcd; now {successor} has the address");
    assert_ne!(successor, holder);
    pods::reach_each_other(&ways.any, &[WORKER], Instant::now() + READY);
    assert_eq!(ways.containers(), containers, "pods go on");
    lab.obey(Request::Start { node: holder, reflash: false }).unwrap();
    wait(lab, "Ready again", 2 * READY, Status::is_ready);
    ways.members.all_vote(Instant::now() + AGAIN);
}

/// The one that has the virtual address: from the other nodes, and not from the outside, which sees whether two have it.
fn one_is_cut_off_and_heals(lab: &mut Supervisor, ways: &Ways) {
    let holder = ways.holder();
    let before = ways.members.all_vote(Instant::now() + AGAIN);
    for other in CONTROL_PLANES.into_iter().chain([WORKER]).filter(|node| *node != holder) {
        let other = Some(other.to_owned());
        lab.obey(Request::Add { one: holder.clone(), other, fault: Fault::Cut }).unwrap();
    }
    ways.serve_again("cut");
    assert_ne!(ways.holder(), holder);
    // Nothing can be written at the one that is cut off: all these come to the other, each by a connection of its own.
    for attempt in 0..10 {
        ways.serve_again(&format!("cut-{attempt}"));
    }
    let gone = |status: &Status| of(status, &holder).ready == Ready::No;
    wait(lab, &format!("{holder} not Ready"), NOTICED, gone);
    lab.obey(Request::Heal { one: None, other: None }).unwrap();
    wait(lab, "Ready after the cut", READY, Status::is_ready);
    let identities = |told: &[Told]| told.iter().map(|one| one.member.clone()).collect::<Vec<_>>();
    let after = ways.members.all_vote(Instant::now() + AGAIN);
    assert_eq!(identities(&after), identities(&before), "a cut changes no member");
}

/// It comes back as a new member, without a vote at first.
fn one_is_written_again(lab: &mut Supervisor, ways: &Ways) {
    let before = ways.members.all_vote(Instant::now() + AGAIN);
    let node = CONTROL_PLANES[1];
    lab.obey(Request::Kill(node.to_owned())).unwrap();
    lab.obey(Request::Start { node: node.to_owned(), reflash: true }).unwrap();
    wait(lab, "Ready from an empty disk", 2 * READY, Status::is_ready);
    let after = ways.members.all_vote(Instant::now() + READY);
    for (one, other) in before.iter().zip(&after) {
        assert_eq!(one.cluster, other.cluster);
        assert_eq!(one.member == other.member, one.node != node, "{one:?} {other:?}");
    }
}

fn the_worker_loses_its_power(lab: &mut Supervisor, ways: &Ways) {
    lab.obey(Request::Kill(WORKER.to_owned())).unwrap();
    lab.obey(Request::Start { node: WORKER.to_owned(), reflash: false }).unwrap();
    wait(lab, "worker Ready again", READY, Status::is_ready);
    pods::started_again(&ways.any, WORKER, Instant::now() + READY);
}
