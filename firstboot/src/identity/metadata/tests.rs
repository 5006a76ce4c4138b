use super::*;
use crate::identity::smbios::Firmware;

fn machine(firmware: Firmware) -> Machine {
    Machine { firmware, ..Machine::default() }
}

#[test]
fn the_firmware_tells_the_cloud() {
    let text = |text: &str| Some(text.to_owned());
    let none = Firmware::default;
    let cases = [
        (Firmware { vendor: text("Amazon EC2"), ..none() }, "AWS"),
        (
            Firmware {
                uuid: text("ec2e1916-9099-7caf-fd21-012345abcdef"),
                serial: text("ec2e1916-9099-7caf-fd21-012345abcdef"),
                ..none()
            },
            "AWS",
        ),
        (Firmware { product: text("Google Compute Engine"), ..none() }, "Google Cloud"),
        (Firmware { chassis_asset_tag: text("7783-7084-3265-9085-8269-3286-77"), ..none() }, "Azure"),
        (Firmware { vendor: text("Hetzner"), ..none() }, "Hetzner Cloud"),
        (Firmware { vendor: text("DigitalOcean"), ..none() }, "DigitalOcean"),
        (Firmware { vendor: text("Vultr"), ..none() }, "Vultr"),
        (Firmware { vendor: text("Scaleway"), ..none() }, "Scaleway"),
        (Firmware { chassis_asset_tag: text("OracleCloud.com"), ..none() }, "Oracle Cloud"),
        (Firmware { product: text("Alibaba Cloud ECS"), ..none() }, "Alibaba Cloud"),
        (Firmware { product: text("OpenStack Nova"), ..none() }, "OpenStack"),
        (Firmware { chassis_asset_tag: text("OpenTelekomCloud"), ..none() }, "OpenStack"),
        (Firmware { product: text("CloudStack KVM Hypervisor"), ..none() }, "CloudStack"),
    ];
    for (firmware, name) in cases {
        let clouds: Vec<&str> = CLOUDS
            .into_iter()
            .filter(|cloud| cloud.is_it(&machine(firmware.clone())))
            .map(Cloud::name)
            .collect();
        assert_eq!(clouds, [name], "{firmware:?}");
    }
}

#[test]
fn a_machine_of_no_cloud_asks_nobody() {
    let text = |text: &str| Some(text.to_owned());
    let qemu = Firmware {
        vendor: text("QEMU"),
        product: text("Standard PC (Q35)"),
        uuid: text("ec2e1916-9099-7caf-fd21-012345abcdef"),
        ..Firmware::default()
    };
    assert!(!Metadata.evidence(&machine(qemu)));
}
