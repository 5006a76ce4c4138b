use std::path::Path;

use proptest::prelude::*;

use super::super::drives::tests::{device, folder, iso};
use super::*;

fn machine(files: &Path) -> (tempfile::TempDir, Machine) {
    let root = tempfile::tempdir().unwrap();
    let image = iso(files, "config-2", &["-J", "-r"]);
    // A partition, as some clouds have it.
    device(root.path(), "sda", None, false, &[0; 512]);
    device(root.path(), "sda5", Some("sda"), false, &image);
    let machine = Machine::look(root.path());
    (root, machine)
}

#[test]
fn the_example_is_read() {
    let (_root, machine) = machine(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/seeds/config-2"));
    assert!(ConfigDrive.evidence(&machine));
    let claim = ConfigDrive.read(&machine).remove(0).unwrap();
    assert_eq!((claim.says.name.as_deref(), claim.host_name), (Some("cp1"), None));
    assert_eq!(claim.says.links[0].addresses, ["10.0.2.15/24".parse().unwrap()]);
    assert_eq!(claim.says.links[0].routes[0].via, Some("10.0.2.2".parse().unwrap()));
}

#[test]
fn a_host_name_loses_its_domain_and_node_toml_comes_first() {
    let name = |files: &[(&str, &str)]| {
        let (_root, machine) = machine(folder(files).path());
        let claim = ConfigDrive.read(&machine).remove(0).unwrap();
        claim.says.name.or(claim.host_name)
    };
    let meta = (META_DATA, "{\"uuid\": \"1\", \"hostname\": \"w1.novalocal\", \"name\": \"w 1\"}");
    assert_eq!(name(&[meta]).as_deref(), Some("w1"));
    assert_eq!(name(&[meta, (USER_DATA, "name = \"w2\"\n")]).as_deref(), Some("w2"));
    assert_eq!(name(&[meta, (USER_DATA, "#cloud-config\nusers: []\n")]).as_deref(), Some("w1"));
}

#[test]
fn mistakes_name_the_file_and_the_drive() {
    for (file, text) in
        [(META_DATA, "{"), (NETWORK_DATA, "{\"links\": [{\"id\": \"a\"}]}"), (USER_DATA, "w1")]
    {
        let (_root, machine) = machine(folder(&[(file, text)]).path());
        let error = ConfigDrive.read(&machine).remove(0).unwrap_err();
        assert!(matches!(error, SourceError::Mistake { .. }));
        assert!(error.to_string().starts_with(&format!("{file} on ")), "{error}");
    }
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(text in "(\\{|\\}|\\[|\\]|\"links\"|\"networks\"|\"id\"|:|,|\"a\"|null|1|-){0,20}") {
        let bytes = text.into_bytes();
        let _ = says(&BTreeMap::from([(META_DATA, bytes.clone()), (NETWORK_DATA, bytes)]), "/dev/sda5", NEXT);
    }
}
