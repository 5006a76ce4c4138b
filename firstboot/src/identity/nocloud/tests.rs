use std::path::Path;

use proptest::prelude::*;

use super::super::drives::tests::{device, folder, iso};
use super::*;
use crate::identity::smbios::Firmware;
use crate::stages::command_line::CommandLine;

/// A machine with a drive of these files.
fn machine(files: &Path) -> (tempfile::TempDir, Machine) {
    let root = tempfile::tempdir().unwrap();
    device(root.path(), "sr0", None, true, &iso(files, "cidata", &["-J", "-r"]));
    let machine = Machine::look(root.path());
    (root, machine)
}

fn claim(files: &[(&str, &str)]) -> Result<Claim, String> {
    let (root, machine) = machine(folder(files).path());
    assert!(NoCloud.evidence(&machine));
    let root = root.path().to_str().unwrap().to_owned();
    NoCloud.read(&machine).remove(0).map_err(|error| error.to_string().replace(&root, ""))
}

#[test]
fn the_example_is_read() {
    let (_root, machine) = machine(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/seeds/nocloud"));
    let claim = NoCloud.read(&machine).remove(0).unwrap();
    assert_eq!(claim.says.name.as_deref(), Some("cp1"));
    assert_eq!(claim.says.links.len(), 1);
    assert_eq!(claim.says.links[0].mac.as_deref(), Some("52:54:00:00:00:01"));
    assert_eq!(claim.says.links[0].addresses, ["10.0.2.15/24".parse().unwrap()]);
}

#[test]
fn what_proxmox_makes_is_a_name_and_a_network() {
    let claim = claim(&[
        ("meta-data", "instance-id: 2c0e3b1a\n"),
        ("user-data", "#cloud-config\nhostname: w1\nmanage_etc_hosts: true\nfqdn: w1.harbor.example\n"),
        (
            "network-config",
            "version: 1\nconfig:\n    - type: physical\n      name: eth0\n      mac_address: 'bc:24:11:7a:00:0c'\n      \
             subnets:\n      - type: static\n        address: '10.20.0.11'\n        netmask: '255.255.255.0'\n        \
             gateway: '10.20.0.1'\n    - type: nameserver\n      address:\n      - '10.20.0.2'\n      search:\n      - \
             'harbor.example'\n",
        ),
    ]);
    let claim = claim.unwrap();
    assert_eq!((claim.says.name, claim.host_name.as_deref()), (None, Some("w1")));
    let link = &claim.says.links[0];
    assert_eq!(link.addresses, ["10.20.0.11/24".parse().unwrap()]);
    assert_eq!(link.routes[0].via, Some("10.20.0.1".parse().unwrap()));
    assert_eq!(link.resolvers, ["10.20.0.2".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(link.search, ["harbor.example"]);
}

#[test]
fn the_host_name_is_taken_without_its_domain_and_after_node_toml() {
    let name = |files: &[(&str, &str)]| {
        let claim = claim(files).unwrap();
        claim.says.name.or(claim.host_name)
    };
    assert_eq!(name(&[("meta-data", "local-hostname: w1.harbor.example\n")]).as_deref(), Some("w1"));
    assert_eq!(name(&[("meta-data", "{\"hostname\": \"w2\"}")]).as_deref(), Some("w2"));
    let both = [("meta-data", "local-hostname: i-1\n"), ("user-data", "name = \"w3\"\n")];
    assert_eq!(name(&both).as_deref(), Some("w3"));
    assert_eq!(name(&[("meta-data", ""), ("user-data", "")]), None);
    assert_eq!(name(&[("meta-data", "instance-id: 7\nlocal-hostname: '12'\n")]).as_deref(), Some("12"));
}

#[test]
fn mistakes_name_the_file_and_the_drive() {
    let files: [&[(&str, &str)]; 4] = [
        &[("user-data", "nahme = \"cp1\"\n")],
        &[("meta-data", "local-hostname: [cp1\n")],
        &[("network-config", "version: 3\n")],
        &[("network-config", "version: 2\ntunnels: {he: {mode: sit}}\n")],
    ];
    let errors: Vec<String> = files.into_iter().map(|files| claim(files).unwrap_err()).collect();
    for (error, file) in errors.iter().zip(["user-data", "meta-data", "network-config", "network-config"]) {
        assert!(error.starts_with(&format!("{file} on /dev/sr0")), "{error}");
    }
    assert!(errors[3].ends_with("he: tunnels cannot be made"), "{errors:?}");
}

#[test]
fn a_serial_number_or_the_command_line_may_give_the_name() {
    let firmware = |serial: &str| Machine {
        firmware: Firmware { serial: Some(serial.to_owned()), ..Firmware::default() },
        ..Machine::default()
    };
    let machine = firmware("ds=nocloud;h=cp1.example;i=7");
    assert!(NoCloud.evidence(&machine));
    let claim = NoCloud.read(&machine).remove(0).unwrap();
    assert_eq!(claim.says.name.as_deref(), Some("cp1"));
    assert_eq!(claim.source, "NoCloud (the firmware's serial number)");
    for serial in ["4711", "ds=nocloud", "ds=nocloud;i=7", "ds=ec2;h=cp1", "ds=nocloud;h=", "ds", "ds=;;;h"] {
        assert!(!NoCloud.evidence(&firmware(serial)), "{serial}");
    }
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("proc")).unwrap();
    std::fs::write(root.path().join("proc/cmdline"), "quiet ds=nocloud-net;local-hostname=cp2;s=http://x/\n")
        .unwrap();
    let machine = Machine { command_line: CommandLine::read(root.path()), ..Machine::default() };
    assert_eq!(NoCloud.read(&machine).remove(0).unwrap().says.name.as_deref(), Some("cp2"));
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(meta in "(local-hostname: |[a-z]|\n|\\{|\\[|&a|\\*a|<<: |: |\t|-){0,20}", bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        for files in [
            BTreeMap::from([(META_DATA, meta.clone().into_bytes())]),
            BTreeMap::from([(NETWORK_CONFIG, format!("version: 2\nethernets: {meta}").into_bytes())]),
            BTreeMap::from([(META_DATA, bytes.clone()), (USER_DATA, bytes.clone()), (NETWORK_CONFIG, bytes.clone())]),
        ] {
            let _ = says(&files, "/dev/sr0");
        }
        let _ = host_name(&meta);
    }
}
