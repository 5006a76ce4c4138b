//! The program `agent`.

use std::process::ExitCode;
use std::sync::Arc;

use agent::approver::rules::Inventory;
use agent::balancer::probe::{Prober, Timing};
use agent::balancer::{self, Balancer};
use agent::peers::pods::Pods;
use agent::ranges::plan::Pools;
use agent::settings::{Arguments, Settings};
use agent::vip::{self, Farewell};
use agent::{api, approver, health, peers, ranges, tasks};
use bootwright_model::cluster::NetworkMode;
use clap::Parser;
use pod_network::baked_peers;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread: there is nothing to compute, and a second one would have stacks and an arena of its own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail("it cannot wait for anything", &error),
    };
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> ExitCode {
    let settings = match Settings::read(&arguments.root) {
        Ok(settings) => settings,
        Err(error) => return fail("it does not know its cluster", &error),
    };
    let roots = match api::roots(&settings.authority) {
        Ok(roots) => roots,
        Err(why) => {
            return fail("the cluster's authority is no certificate in PEM", &std::io::Error::other(why));
        }
    };
    let listening =
        tokio::try_join!(balancer::listen(arguments.balancer_port), health::listen(arguments.health_port));
    let (entries, health) = match listening {
        Ok(listening) => listening,
        Err(error) => {
            let ports = format!("ports {} and {}", arguments.balancer_port, arguments.health_port);
            return fail(&format!("it cannot listen at {ports} of loopback"), &error);
        }
    };
    let prober = Prober::new(roots, Timing::of_cluster(settings.facts.layer.file.nodes.len()));
    let balancer = Balancer::start(settings.control_planes.clone(), settings.first(), prober);
    tokio::spawn(health::serve(health, Arc::clone(&balancer)));
    let serve = Arc::clone(&balancer).serve(entries);
    let farewell = Farewell::default();
    tokio::select! {
        () = serve => ExitCode::FAILURE,
        () = with_the_api(&arguments, &settings, balancer, &farewell) => ExitCode::FAILURE,
        () = asked_to_stop(&farewell) => ExitCode::SUCCESS,
    }
}

/// What begins once the API can be called.
async fn with_the_api(
    arguments: &Arguments,
    settings: &Settings,
    balancer: Arc<Balancer>,
    farewell: &Farewell,
) {
    let client = api::wait_for_client(&arguments.kubeconfig).await;
    let endpoints =
        tasks::keep("endpoints", || balancer::endpoints::follow(client.clone(), Arc::clone(&balancer)));
    let inventory = Inventory::from(&settings.facts.layer.file);
    let approver = async {
        if settings.is_control_plane() {
            tasks::keep("approver", || approver::run(client.clone(), inventory.clone())).await;
        }
    };
    let facts = &settings.facts;
    let peers = async {
        // In the other modes BIRD, a network plugin or the cloud leads packets to pods.
        if matches!(facts.layer.file.network.mode, NetworkMode::Routes | NetworkMode::Vxlan) {
            tasks::keep("peers", || {
                peers::run(client.clone(), facts.name.clone(), baked_peers(facts), Pods::new(facts))
            })
            .await;
        }
    };
    let vip = async {
        if let Some(virtual_ip) = settings.virtual_ip() {
            let balancer = &balancer;
            let hold =
                || vip::run(client.clone(), virtual_ip.clone(), Arc::clone(balancer), farewell.clone());
            tasks::keep("vip", hold).await;
        }
    };
    let ranges = async {
        let file = &facts.layer.file;
        if settings.is_control_plane() && file.cluster.admit_unknown_workers {
            let pools = Pools::from(file);
            tasks::keep("ranges", || ranges::run(client.clone(), facts.name.clone(), pools.clone())).await;
        }
    };
    tokio::join!(endpoints, approver, peers, vip, ranges);
}

/// Waits for SIGTERM, and then until what others wait for is given back.
async fn asked_to_stop(farewell: &Farewell) {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            terminate.recv().await;
            farewell.say().await;
        }
        // SIGKILL ends it then, which loses nothing.
        Err(_) => std::future::pending().await,
    }
}

fn fail(what: &str, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("agent: {what}: {}", agent::chain(error));
    ExitCode::FAILURE
}
