//! Who a machine is, as hypervisors and clouds hand it over: each way in a machine of its own, until its network is up.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bootwright::lab::Firmware;
use bootwright_model::report::{BootReport, Outcome, Stage};
use qemu_tests::{FIRST_SERVICES, Image, reports, repository};
use tiny_http::{Response, Server};

#[test]
fn a_seed_by_fw_cfg_names_the_node() {
    let file = seeds().join("fw_cfg/node.toml");
    let argument = format!("name=opt/bootwright/seed,file={}", file.display());
    let said = identity("fw-cfg", |_| vec!["-fw_cfg".to_owned(), argument]);
    assert_eq!(said[0], "name by QEMU's fw_cfg opt/bootwright/seed");
    assert!(said[1].contains("(named by QEMU's fw_cfg opt/bootwright/seed)"), "{said:?}");
}

#[test]
fn a_seed_in_an_oem_string_names_the_node() {
    let seed = STANDARD.encode(read(&seeds().join("smbios/node.toml")));
    let argument = format!("type=11,value=bootwright:seed={seed}");
    let said = identity("smbios", |_| vec!["-smbios".to_owned(), argument]);
    assert_eq!(said[0], "name by the firmware's OEM string bootwright:seed");
}

#[test]
fn a_nocloud_disc_names_the_node() {
    let said = identity("nocloud", |folder| {
        drive("cidata", &seeds().join("nocloud"), &folder.join("seed.iso"));
        // As Proxmox and libvirt's tools attach it.
        let drive = "if=none,id=seed,format=raw,readonly=on,media=cdrom,file=seed.iso";
        let devices = ["-device", "virtio-scsi-pci,id=scsi", "-device", "scsi-cd,bus=scsi.0,drive=seed"];
        ["-drive", drive].into_iter().chain(devices).map(str::to_owned).collect()
    });
    assert_eq!(said[0], "name, link by NoCloud (/dev/sr0)");
}

#[test]
fn an_openstack_config_drive_names_the_node() {
    let said = identity("config-2", |folder| {
        drive("config-2", &seeds().join("config-2"), &folder.join("seed.iso"));
        let drive = "if=none,id=seed,format=raw,readonly=on,file=seed.iso";
        ["-drive", drive, "-device", "virtio-blk-pci,drive=seed"].map(str::to_owned).into()
    });
    assert_eq!(said[0], "name, link by the OpenStack config drive (/dev/vdb)");
}

/// QEMU has VMware's backdoor, of which it does not know the messages: the disc alone says who the machine is.
#[test]
fn a_disc_with_an_ovf_environment_names_the_node() {
    let report = boot("ovf-environment", |folder| {
        drive("OVF ENV", &seeds().join("ovf-environment"), &folder.join("seed.iso"));
        let drive = "if=none,id=seed,format=raw,readonly=on,media=cdrom,file=seed.iso";
        let disc = ["-drive", drive, "-device", "virtio-scsi-pci", "-device", "scsi-cd,drive=seed"];
        vmwares().into_iter().chain(disc).map(str::to_owned).collect()
    });
    assert_eq!(said(&report)[0], "name by property bootwright.seed of the OVF environment (/dev/sr0)");
    assert_without_guestinfo(&report);
}

#[test]
fn a_backdoor_without_messages_is_told_and_gone_on_without() {
    let report = boot("vmware-backdoor", |_| vmwares().map(str::to_owned).into());
    assert!(said(&report)[0].contains("by the inventory's node"), "{:?}", said(&report));
    assert_without_guestinfo(&report);
}

/// A machine that is VMware's as far as firmware and port tell.
fn vmwares() -> [&'static str; 4] {
    ["-machine", "vmport=on", "-smbios", "type=1,manufacturer=VMware,, Inc.,product=VMware7,,1"]
}

/// The stage says why there is no guestinfo, and nothing else that is wrong.
fn assert_without_guestinfo(report: &BootReport) {
    let Outcome::Degraded { problems } = &stage(report).outcome else { panic!("{:?}", stage(report)) };
    let chains: Vec<String> = problems.iter().map(|problem| problem.chain.join(": ")).collect();
    assert_eq!(
        chains,
        [
            "VMware's guestinfo cannot be read: the hypervisor has the backdoor, version 6, and opens no message channel on it"
        ]
    );
    let others = report.stages.iter().filter(|stage| stage.name != "identity");
    for stage in others {
        assert_eq!(stage.outcome, Outcome::Passed, "stage {}", stage.name);
    }
}

/// The service is behind a second card, so that first boot has to find out on which it answers.
#[test]
fn a_clouds_metadata_service_names_the_node() {
    let server = Server::http("127.0.0.1:0").expect("loopback has a free port");
    let port = server.server_addr().to_ip().expect("it was given an address").port();
    let said = std::thread::scope(|scope| {
        scope.spawn(|| serve(&server));
        let _end = Unblock(&server);
        identity("metadata", |_| {
            // Of all clouds' networks the one that QEMU's user-mode network can be: it has no link-local server.
            let network = "user,id=cloud,restrict=on,net=100.100.100.0/24,dhcpstart=100.100.100.15";
            let forward = format!("guestfwd=tcp:100.100.100.200:80-tcp:127.0.0.1:{port}");
            let network = format!("{network},{forward}");
            let card = "virtio-net-pci,netdev=cloud,romfile=,mac=52:54:00:00:00:c1";
            ["-smbios", "type=1,product=Alibaba Cloud ECS", "-netdev", &network, "-device", card]
                .map(str::to_owned)
                .into()
        })
    });
    assert_eq!(said[0], "name by the metadata service of Alibaba Cloud");
}

/// Ends the service, also if the machine does not come up.
struct Unblock<'a>(&'a Server);

impl Drop for Unblock<'_> {
    fn drop(&mut self) {
        self.0.unblock();
    }
}

/// Answers as Alibaba Cloud does, until it is unblocked.
fn serve(server: &Server) {
    for request in server.incoming_requests() {
        let (status, body) = match request.url() {
            "/latest/api/token" => (200, b"AQAEAF==".to_vec()),
            "/latest/meta-data/hostname" => (200, b"iZbp1abcZ".to_vec()),
            "/latest/user-data" => (200, read(&seeds().join("alibaba/user-data"))),
            _ => (404, Vec::new()),
        };
        // A machine that has given up does not hear it.
        let _ = request.respond(Response::from_data(body).with_status_code(status));
    }
}

/// What the stage says who gave which value, on a machine as [`boot`] starts it, of which every stage has passed.
fn identity(name: &str, arguments: impl FnOnce(&Path) -> Vec<String>) -> Vec<String> {
    let report = boot(name, arguments);
    reports::assert_passed(&report);
    said(&report)
}

/// Boots a machine with further arguments of QEMU, which are made with its folder, until its network is up.
fn boot(name: &str, arguments: impl FnOnce(&Path) -> Vec<String>) -> BootReport {
    let image = Image::under_test();
    let mut spec = image.spec(&format!("identity-{name}"), Firmware::Bios);
    spec.arguments = arguments(&spec.folder);
    let mut boot = image.boot(spec);
    let outcome = boot.session.wait_report("the network", FIRST_SERVICES, |report| {
        report.stages.iter().any(|stage| stage.name == "network")
    });
    let report = boot.expect("the boot report", outcome);
    let stage = stage(&report);
    println!("{name}: identity took {} ms: {}", stage.duration_us / 1000, stage.summary);
    assert_eq!(report.node.as_ref(), Some(&image.node().name));
    report
}

fn stage(report: &BootReport) -> &Stage {
    report.stages.iter().find(|stage| stage.name == "identity").expect("it comes before the network")
}

/// Who gave which value, by the stage's summary.
fn said(report: &BootReport) -> Vec<String> {
    let node = report.node.as_ref().expect("it is known");
    let summary = &stage(report).summary;
    let said = summary.strip_prefix(&format!("{node} (")).expect("the node comes first");
    said.split("; ").map(str::to_owned).collect()
}

/// The examples that users are shown.
fn seeds() -> PathBuf {
    repository().join("examples/seeds")
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("it is one of the examples")
}

/// A drive as clouds make it.
fn drive(label: &str, files: &Path, image: &Path) {
    let mut command = Command::new("genisoimage");
    command.args(["-quiet", "-V", label, "-J", "-r", "-o"]).args([image, files]);
    let done = command.output().expect("setup/packages has genisoimage");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
