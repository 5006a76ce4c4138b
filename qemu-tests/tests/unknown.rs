//! A worker that nobody described, of a cluster that takes such machines: it names itself, gets its address from the DHCP
//! server of QEMU's user-mode network, and comes to its services.

use bootwright::lab::Firmware;
use bootwright::lab::spec::Network;
use bootwright_model::report::{BootReport, Outcome};
use qemu_tests::{Boot, CLUSTER, FIRST_SERVICES, Image, repository};

/// Of no node.
const MAC: &str = "52:54:00:20:00:a1";
const UUID: &str = "4c4c4544-0042-3510-8054-b7c04f4a3832";
/// After the MAC address, and after the UUID.
const NAMES: [&str; 2] = ["worker-5254002000a1", "worker-78785d6a7206"];

#[test]
fn a_worker_that_nobody_described_comes_to_its_services() {
    let folder = Image::under_test().folder("unknown");
    // What an earlier run of the test left.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the folder of the image is writable");
    let example = std::fs::read_to_string(repository().join(CLUSTER)).expect("there is an example");
    let (text, _) = example.split_once("\n[[image]]\n").expect("the example has an image");
    // The server lends the first machine the address that the example's node has.
    let text = text.replace("10.0.2.15", "10.0.2.99");
    let image =
        Image::build(&folder, &text.replacen("[cluster]\n", "[cluster]\nadmit-unknown-workers = true\n", 1));

    for (name, uuid) in NAMES.into_iter().zip([None, Some(UUID)]) {
        let mut spec = image.spec(name, Firmware::Bios);
        spec.image = image.root().join("worker.raw");
        spec.mac = MAC.to_owned();
        if let Network::User { ports, .. } = &mut spec.network {
            ports.clear();
        }
        spec.arguments = uuid.map_or(Vec::new(), |uuid| vec!["-uuid".to_owned(), uuid.to_owned()]);
        let mut boot = image.boot(spec);
        let report = services(&mut boot);
        assert_eq!(report.node.as_deref(), Some(name));
        let sign = uuid.map_or(format!("MAC address {MAC}"), |uuid| format!("UUID {uuid}"));
        let identity = format!("{name} (name by this machine's {sign}, as nobody describes it)");
        assert_eq!(summary(&report, "identity"), identity);
        assert!(summary(&report, "network").contains(", lent by "), "{}", summary(&report, "network"));
        assert_eq!(
            summary(&report, "pod-network"),
            "none yet: the cluster gives this machine a pod CIDR when it has joined"
        );
        boot.session.machine().kill().expect("QEMU ends");
    }
}

/// Waits until the services are started, and the kubelet asks for its certificate.
fn services(boot: &mut Boot) -> BootReport {
    let outcome = boot.session.wait_report("the agent, and who waits for it", FIRST_SERVICES, |report| {
        let state = |name: &str| {
            report
                .services
                .iter()
                .find(|one| one.name == name)
                .map(|one| one.state.as_str())
                .unwrap_or_default()
        };
        state("agent") == "ready"
            && state("dhcp") == "ready"
            && !state("pod-cidr").is_empty()
            && report.stages.iter().any(|stage| stage.name == "pod-network")
    });
    boot.expect("the boot report", outcome)
}

fn summary(report: &BootReport, name: &str) -> String {
    let stage = report.stages.iter().find(|stage| stage.name == name).expect("the stage is in the report");
    assert_eq!(stage.outcome, Outcome::Passed, "{stage:?}");
    stage.summary.clone()
}
