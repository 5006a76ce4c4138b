//! A cloud's metadata service, or a server that the kernel command line names, asked with an address that a DHCP server lends
//! for that.

use std::net::TcpListener;
use std::time::Instant;

use firstboot::identity::Claim;
use firstboot::identity::kernel_command_line::KernelCommandLine;
use firstboot::identity::machine::Machine;
use firstboot::identity::metadata::Metadata;
use firstboot::identity::smbios::Firmware;
use firstboot::identity::source::{Source, SourceError};
use firstboot::stages::command_line::CommandLine;
use network_namespaces::process::isolated;
use serde_json::json;
use tiny_http::{Response, Server};

use crate::world::{MAC, World};

const RANGE: &str = "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,600";

/// CloudStack's is asked at the DHCP server's address.
fn ask(world: &World) -> Result<Claim, SourceError> {
    let product = Some("CloudStack KVM Hypervisor".to_owned());
    let firmware = Firmware { product, ..Firmware::default() };
    let machine = Machine { root: world.root().to_owned(), firmware, ..Machine::default() };
    assert!(Metadata.evidence(&machine));
    world.machine.enter(|| Metadata.read(&machine)).remove(0)
}

/// The link as it was before.
fn is_untouched(world: &World) {
    assert_eq!(world.address(), None);
    let link = &world.machine.ip("link show dev eth0")[0];
    assert!(!link["flags"].as_array().unwrap().contains(&json!("UP")), "{link}");
}

#[test]
fn the_address_is_borrowed_and_given_back() {
    isolated("metadata::the_address_is_borrowed_and_given_back", || {
        let world = World::new();
        let server = world.server(&[RANGE, "--dhcp-option=option:router,10.9.0.1"]);
        let service = world.other.enter(|| Server::http("10.9.0.1:80")).unwrap();
        let claim = std::thread::scope(|scope| {
            scope.spawn(|| serve(&service));
            let _end = Unblock(&service);
            ask(&world).unwrap()
        });
        assert_eq!(claim.source, "the metadata service of CloudStack");
        assert_eq!((claim.says.name.as_deref(), claim.host_name.as_deref()), (Some("w9"), Some("vm-17")));
        is_untouched(&world);
        // A name that may be wrong is kept from the server.
        assert!(!server.log().contains("client provides name"), "{}", server.log());
        // The node's own network is set up afterwards, with the same address.
        let borrowed = server.log();
        let (facts, summary) = world.stage().unwrap();
        assert!(summary.contains("lent by 10.9.0.1"), "{summary}");
        let address = facts.address.addr();
        assert!(borrowed.contains(&format!("DHCPACK(srv) {address} {MAC}")), "{address}: {borrowed}");
    });
}

#[test]
fn a_service_that_does_not_answer_is_a_problem_within_a_bound() {
    isolated("metadata::a_service_that_does_not_answer_is_a_problem_within_a_bound", || {
        let world = World::new();
        let _server = world.server(&[RANGE]);
        // The kernel takes connections and requests, and nobody reads them.
        let _service = world.other.enter(|| TcpListener::bind("10.9.0.1:80")).unwrap();
        let begin = Instant::now();
        let error = ask(&world).unwrap_err();
        assert!(matches!(error, SourceError::Unreadable { .. }), "{error}");
        assert_eq!(error.to_string(), "the metadata service of CloudStack says nothing");
        // It is asked again and again for the 15 s that the stage promises, with room for a busy machine: four answers
        // alone, each with its own patience, would take more.
        let took = begin.elapsed();
        assert!((14.0..20.0).contains(&took.as_secs_f64()), "{took:?}");
        is_untouched(&world);
    });
}

#[test]
fn a_seed_is_fetched_from_where_the_command_line_says() {
    isolated("metadata::a_seed_is_fetched_from_where_the_command_line_says", || {
        let world = World::new();
        let _server = world.server(&[RANGE]);
        let service = world.other.enter(|| Server::http("10.9.0.1:80")).unwrap();
        let sum = "a77a99ff22b44f8513e57a40d3535f9c9d84a2a742a5cdc52107df7ff4058a8e";
        let url = "bootwright.seed=http://10.9.0.1/latest/user-data#sha256=";
        let fetch = |sum: &str| {
            std::fs::create_dir_all(world.root().join("proc")).unwrap();
            std::fs::write(world.root().join("proc/cmdline"), format!("quiet {url}{sum}\n")).unwrap();
            let command_line = CommandLine::read(world.root());
            let machine = Machine { root: world.root().to_owned(), command_line, ..Machine::default() };
            world.machine.enter(|| KernelCommandLine.read(&machine)).remove(0)
        };
        let (right, wrong) = std::thread::scope(|scope| {
            scope.spawn(|| serve(&service));
            let _end = Unblock(&service);
            (fetch(sum), fetch(&format!("{}0", &sum[..63])))
        });
        let claim = right.unwrap();
        assert_eq!(claim.says.name.as_deref(), Some("w9"));
        assert_eq!(claim.source, "the kernel command line's http://10.9.0.1:80/latest/user-data");
        let error = wrong.unwrap_err();
        assert!(matches!(&error, SourceError::Mistake { message, .. } if message.contains(sum)), "{error}");
        is_untouched(&world);
    });
}

fn serve(service: &Server) {
    for request in service.incoming_requests() {
        let (status, body) = match request.url() {
            "/latest/meta-data/local-hostname" => (200, "VM-17\n"),
            "/latest/user-data" => (200, "name = \"w9\"\n"),
            _ => (404, ""),
        };
        // A machine that has given up does not hear it.
        let _ = request.respond(Response::from_string(body).with_status_code(status));
    }
}

/// Ends the service, also if the test fails.
struct Unblock<'a>(&'a Server);

impl Drop for Unblock<'_> {
    fn drop(&mut self) {
        self.0.unblock();
    }
}
