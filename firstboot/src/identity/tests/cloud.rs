//! What a cloud calls a machine.

use super::*;

#[test]
fn what_a_cloud_calls_a_machine_counts_only_if_nothing_else_tells() {
    let called =
        |name: &str| Claim::new("the cloud", Told { host_name: Some(name.to_owned()), ..Told::default() });
    let two =
        || layer(vec![node("cp1", "all-in-one", Some(&mac(1)), 15), node("cp2", "all-in-one", None, 16)]);
    let one = || layer(vec![node("cp1", "all-in-one", None, 15)]);
    let name = |said: &[Claim], layer: ClusterLayer, ours: u8| {
        resolve(said, &layer, &macs(&[mac(ours)])).unwrap().name
    };
    assert_eq!(name(&[called("ubuntu-4gb-nbg1-1")], two(), 1), "cp1", "its MAC");
    assert_eq!(name(&[called("cp1"), seed_named("cp2")], two(), 9), "cp2", "the seed");
    assert_eq!(name(&[called("ubuntu-4gb-nbg1-1")], one(), 9), "cp1", "the only one of its role");
    assert_eq!(name(&[called("cp2")], two(), 9), "cp2", "nothing else");
    let identity = resolve(&[called("cp2")], &two(), &macs(&[mac(9)])).unwrap();
    insta::assert_snapshot!(
        identity.sources.join("; "),
        @"name, address, gateway, pod-cidr by the inventory's node cp2 (called so by the cloud)"
    );
    // A node that the inventory does not know has to be told the rest.
    let full = Seed {
        address: "10.0.2.99/24".parse().ok(),
        pod_cidr: "10.10.99.0/24".parse().ok(),
        ..Seed::default()
    };
    let full = Claim { says: full, ..called("cp9") };
    assert_eq!(name(&[full], two(), 9), "cp9");
    let error = resolve(&[called("CP_9")], &two(), &macs(&[mac(9)])).unwrap_err().to_string();
    assert!(error.starts_with("the cloud: name `CP_9`"), "{error}");
}

#[test]
fn a_provider_id_that_nobody_asks_for_is_no_conflict() {
    let said =
        |id: &str| Claim::new("the cloud", Seed { provider_id: Some(id.to_owned()), ..Seed::default() });
    let mut layer = layer(vec![node("cp1", "all-in-one", None, 15)]);
    let both = [said("x://a"), said("x://A")];
    assert_eq!(resolve(&both, &layer, &macs(&[])).unwrap().provider_id, None);
    layer.file.cloud.provider = bootwright_model::cloud::CloudProvider::External;
    assert!(matches!(resolve(&both, &layer, &macs(&[])), Err(IdentityError::Conflict { .. })));
}

fn seed_named(name: &str) -> Claim {
    seed(Seed { name: Some(name.to_owned()), ..Seed::default() })
}
