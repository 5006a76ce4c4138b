//! Everything that first boot reads of others, with documents as they are and as they come when somebody damages them.
//!
//! Each target begins with a corpus: the examples and fixtures of the repository, and `corpus/<target>/` for what is in no
//! other place. A document that once did harm is kept in `corpus/<target>/damaged/`. `cargo test` tries every document and
//! some thousand changes of them; more with `BOLERO_RANDOM_ITERATIONS=1000000` and `BOLERO_RANDOM_TEST_TIME_MS=600000`.

// Clippy allows it in functions marked as tests only; here every function is part of one.
#![allow(clippy::unwrap_used)]

/// Reads every document of a corpus, which is to succeed, and then changes of them, which must not panic. A macro, as bolero
/// names a target by where it is called.
macro_rules! try_changes {
    ($corpus:expr, $read:expr, $iterations:expr) => {
        $corpus.is_read($read);
        bolero::check!()
            .with_iterations($iterations)
            .with_test_time($crate::TIME)
            .with_type::<$crate::mutated::Mutated>()
            .for_each(|input| {
                $read(&input.of(&$corpus));
            });
    };
}

mod corpus;
mod drives;
mod mutated;
mod vmware;

use std::net::Ipv6Addr;
use std::time::Duration;

use corpus::Corpus;
use firstboot::identity::{document, network_config, smbios};
use firstboot::kmsg;
use firstboot::network::dhcp::message::Client;
use firstboot::network::dhcp6;
use firstboot::network::dhcp6::advertisement::Advertisement;
use firstboot::network::given_range::Kept;
use firstboot::stages::firmware;

/// What a target may take at every change, whichever is reached first.
const ITERATIONS: usize = 4_000;
const TIME: Duration = Duration::from_secs(3);

#[test]
fn seed() {
    let corpus = Corpus::of(
        "seed",
        &["../examples/seeds/fw_cfg/node.toml", "../examples/seeds/seed-partition/node.toml"],
        &[
            "name = ",
            "[[link]]\n",
            "[link.bond]\n",
            "[clock]\n",
            "addresses = [",
            "\"::/0\"",
            "'",
            "\"\"\"",
            "{",
            "\\u",
        ],
    );
    let read = |bytes: &[u8]| document::seed(bytes, "node.toml", "").is_ok();
    try_changes!(corpus, read, ITERATIONS);
}

#[test]
fn user_data() {
    let corpus = Corpus::of(
        "user_data",
        &["../examples/seeds/nocloud/user-data", "../examples/seeds/alibaba/user-data"],
        &["#cloud-config\n", "hostname: ", "fqdn: ", "#!", "{", "\x1f\u{8b}", "&a [*a", "<<: *a", "\n- "],
    );
    let read = |bytes: &[u8]| document::user_data(bytes, "user-data", "").is_ok();
    try_changes!(corpus, read, ITERATIONS);
}

#[test]
fn network_config() {
    let corpus = Corpus::of(
        "network_config",
        &[
            "src/identity/network_config/fixtures/v1.yaml",
            "src/identity/network_config/fixtures/v2.yaml",
            "../examples/seeds/nocloud/network-config",
        ],
        &[
            "version: ",
            "network:\n",
            "- type: ",
            "bond",
            "null",
            "~",
            "{",
            "[",
            "&a ",
            "*a",
            "<<: ",
            "0x",
            "\n  ",
        ],
    );
    let read = |bytes: &[u8]| network_config::links(&String::from_utf8_lossy(bytes)).is_ok();
    try_changes!(corpus, read, ITERATIONS);
}

#[test]
fn network_data() {
    let corpus = Corpus::of(
        "network_data",
        &[
            "src/identity/network_config/fixtures/network_data.json",
            "../examples/seeds/config-2/openstack/latest/network_data.json",
        ],
        &["null", "[]", "{}", "\"links\":", "\"networks\":", "\"id\":", "\"\"", "-1", "1e9", "\"ipv6\""],
    );
    let read = |bytes: &[u8]| network_config::from_network_data(&String::from_utf8_lossy(bytes)).is_ok();
    try_changes!(corpus, read, ITERATIONS);
}

#[test]
fn dmi() {
    let corpus = Corpus::of(
        "dmi",
        &["src/identity/smbios/fixtures/qemu-oem-strings.bin"],
        &["\0\0", "\x0b\x05", "\x7f\x04"],
    );
    let read = |bytes: &[u8]| !smbios::tables::oem_strings(bytes).is_empty();
    try_changes!(corpus, read, ITERATIONS);
}

#[test]
fn pod_cidr() {
    let corpus =
        Corpus::of("pod_cidr", &[], &["\"pod-cidr\":", "[\"", "/129", "/0", "::", "null", "\\u0000", "{"]);
    let read = |bytes: &[u8]| Kept::read(bytes).is_ok();
    try_changes!(corpus, read, ITERATIONS);
}

#[test]
fn dhcp() {
    let corpus =
        Corpus::of("dhcp", &[], &["\x79\x01\x21", "\x77\x02\u{0}", "\x35\x01\x05", "\x34\x01\x03", "\x7f"]);
    let client = Client { mac: [0x52, 0x54, 0, 0, 0, 1], identifier: vec![1; 7], host_name: "w1".to_owned() };
    let read = |bytes: &[u8]| matches!(client.read(bytes, 7), Ok(Some(_)));
    try_changes!(corpus, read, ITERATIONS);
}

#[test]
fn kernel_log() {
    let corpus = Corpus::of(
        "kernel_log",
        &[],
        &[
            "Direct firmware load for ",
            ": ",
            " failed with error ",
            "-2\n",
            ";",
            ",",
            "\n ",
            "\\x0a",
            "18446744073709551616",
        ],
    );
    let read = |bytes: &[u8]| !firmware::missed(&kmsg::parse(bytes)).is_empty();
    try_changes!(corpus, read, ITERATIONS);
}

#[test]
fn dhcp6() {
    let words = [
        "\0\x03\0\x28",
        "\0\x05\0\x18",
        "\0\x0d\0\x02",
        "\0\x18\0\x05\x03abc\0",
        "\0\x38\0\x04",
        "\0\x02\0\x0e",
    ];
    let corpus = Corpus::of("dhcp6", &[], &words);
    let client =
        dhcp6::message::Client { duid: vec![0, 3, 0, 1, 0x52, 0x54, 0, 0, 0, 1], iaid: [0, 0, 0, 1] };
    let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let read = |bytes: &[u8]| client.read(bytes, [1, 2, 3], from).is_some();
    try_changes!(corpus, read, ITERATIONS);
}

#[test]
fn router_advertisement() {
    let words = ["\x03\x04@", "\x19\x03\0\0", "\x1f\x02\0\0", "\x05\x01\0\0", "\x01\0", "\x03abc\0"];
    let corpus = Corpus::of("router_advertisement", &[], &words);
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let read = |bytes: &[u8]| Advertisement::of(bytes, router, 255).is_ok();
    try_changes!(corpus, read, ITERATIONS);
}
