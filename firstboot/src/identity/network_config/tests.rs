use proptest::prelude::*;

use super::*;

/// The links of a fixture as a seed has them.
fn read(text: &str) -> String {
    let links = links(text).unwrap_or_else(|error| panic!("{error}"));
    toml::to_string(&bootwright_model::seed::Seed { links, ..Default::default() }).unwrap()
}

#[test]
fn version_1_is_turned_into_links() {
    insta::assert_snapshot!(read(include_str!("fixtures/v1.yaml")));
}

#[test]
fn version_2_is_turned_into_links() {
    insta::assert_snapshot!(read(include_str!("fixtures/v2.yaml")));
}

#[test]
fn network_data_is_turned_into_links() {
    let links = from_network_data(include_str!("fixtures/network_data.json")).unwrap();
    let seed = bootwright_model::seed::Seed { links, ..Default::default() };
    insta::assert_snapshot!(toml::to_string(&seed).unwrap());
}

#[test]
fn what_cannot_be_done_is_said() {
    let v1 = |entry: &str| format!("version: 1\nconfig:\n- {entry}\n");
    let v2 = |devices: &str| format!("version: 2\n{devices}\n");
    let cases = [
        "ethernets: {}".to_owned(),
        "version: 7".to_owned(),
        v1("{type: infiniband, name: ib0}"),
        v1("{type: physical, name: eth0, subnets: [{type: static}]}"),
        v1("{type: physical, name: eth0, subnets: [{type: static, address: 10.0.0.1, netmask: 10.0.0.255}]}"),
        v1("{type: vlan, name: eth0.5, vlan_link: eth0, vlan_id: five}"),
        v1("{type: route, destination: 10.0.0.0/8, gateway: 10.9.9.9}"),
        v2("wifis: {wlan0: {}}"),
        v2("ethernets: {a: {match: {name: 'en*'}}}"),
        v2("ethernets: {a: {addresses: [10.0.0.1]}}"),
        v2("ethernets: {a: {routes: [{to: default}]}}"),
        v2("bonds: {b: {parameters: {mode: fastest}}}"),
        v2("vlans: {v: {id: 5}}"),
        v2("ethernets: {a: {mtu: large}}"),
        "- a\n- b\n".to_owned(),
    ];
    let lines: Vec<String> = cases.iter().map(|text| links(text).unwrap_err().to_string()).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

proptest! {
    /// Parts of documents in any order, and what YAML makes of signs.
    #[test]
    fn nothing_makes_it_panic(text in "(version: [12]|network:|config:|ethernets:|bonds:|a:|- |type: static|address: |1.2.3.4|/24|\\{|\\}|\\[|\\]|,|&x|\\*x|<<:|\n|  |[a-z0-9]){0,40}") {
        let _ = links(&text);
        let _ = links(&format!("version: 1\nconfig:\n{text}"));
        let _ = links(&format!("version: 2\nethernets:\n  {text}"));
    }

    #[test]
    fn a_damaged_document_makes_nothing_panic(place in 0_usize..4000, byte in any::<char>(), cut in 0_usize..4000) {
        for text in [include_str!("fixtures/v1.yaml"), include_str!("fixtures/v2.yaml")] {
            let mut letters: Vec<char> = text.chars().collect();
            let count = letters.len();
            letters[place % count] = byte;
            letters.truncate(count - cut % count);
            let _ = links(&letters.into_iter().collect::<String>());
        }
        let text = include_str!("fixtures/network_data.json");
        let _ = from_network_data(&text.replace(&text[place % text.len()..][..1], &byte.to_string()));
    }
}
