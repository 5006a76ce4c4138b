//! Power cuts: the machine boots again, ten times in a row, and has what it had.

use std::time::Duration;

use bootwright::lab::Firmware;
use qemu_tests::{Image, SERVICES};
use serde_json::json;

/// When each boot is cut, after its first services were started, milliseconds: while etcd and containerd write
/// their first files, while the control plane writes its first objects, and much later.
const CUTS_MS: [u64; 10] = [0, 400, 6_000, 1_000, 100, 3_000, 12_000, 700, 2_000, 50];

#[test]
fn ten_power_cuts_in_a_row_leave_a_node_that_boots() {
    let image = Image::under_test();
    let mut boot = image.boot(image.spec("resets", Firmware::Bios));
    let api = boot.api();
    boot.wait_ready(&api);
    let body = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "before"}, "data": {"a": "1"},
    });
    api.post("/api/v1/namespaces/default/configmaps", &body.to_string()).unwrap();

    for (index, cut) in CUTS_MS.into_iter().enumerate() {
        // Half of them by the reset button, which leaves the disk's cache as it is, half by the plug.
        if index % 2 == 0 {
            boot.session.machine().kill().unwrap();
            boot.session.start_again().unwrap();
        } else {
            boot.session.reset().unwrap();
        }
        let outcome = boot.session.wait_report("the first services", SERVICES, |report| {
            report.stages.iter().any(|stage| stage.name == "services")
        });
        let report = boot.expect(&format!("the boot after cut {}", index + 1), outcome);
        println!("boot {} after a cut: {}", index + 1, report.boot_id);
        std::thread::sleep(Duration::from_millis(cut));
    }

    boot.session.reset().unwrap();
    boot.wait_ready(&api);
    assert_eq!(api.get("/api/v1/namespaces/default/configmaps/before").unwrap()["data"]["a"], "1");
}
