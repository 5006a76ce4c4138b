use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::host::{Fault, Host};
use super::port::{Backdoor, MAGIC, Registers};
use super::rpci::{Channel, MOST_ANSWER_BYTES, RpciError, Step};
use super::*;
use crate::identity::drives::tests::{device, folder, iso};
use crate::stages::problem;

const SEED: &str = "guestinfo.bootwright.seed";
const TEXT: &str = "name = \"w1\"\n";

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// What the host says, and that it is left as it was found.
fn read(host: &mut Host) -> Vec<Result<Claim, SourceError>> {
    let claims = guestinfo::read(host);
    assert!(host.is_closed());
    claims
}

fn claims(values: &[(&str, &[u8])]) -> Vec<Claim> {
    read(&mut Host::new(values)).into_iter().map(Result::unwrap).collect()
}

fn error(values: &[(&str, &[u8])]) -> String {
    let error = read(&mut Host::new(values)).remove(0).unwrap_err();
    assert!(matches!(error, SourceError::Mistake { .. }), "{error:?}");
    error.to_string()
}

fn example(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/seeds").join(path)
}

#[test]
fn the_example_is_read() {
    let seed = std::fs::read(example("vmware/node.toml")).unwrap();
    let claims = claims(&[(SEED, &seed)]);
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].says.name.as_deref(), Some("cp1"));
    assert_eq!(claims[0].source, "VMware's guestinfo.bootwright.seed");
}

#[test]
fn a_seed_is_read_in_each_encoding() {
    let base64 = STANDARD.encode(TEXT).into_bytes();
    let packed = STANDARD.encode(gzip(TEXT)).into_bytes();
    let encodings: [(&[u8], Option<&str>); 7] = [
        (TEXT.as_bytes(), None),
        (&base64, None),
        (&packed, None),
        (&base64, Some("base64")),
        (&base64, Some("b64")),
        (&packed, Some("gzip+base64")),
        (&packed, Some("gz+b64\n")),
    ];
    for (value, encoding) in encodings {
        let mut values = vec![(SEED, value)];
        values.extend(encoding.map(|encoding| ("guestinfo.bootwright.seed.encoding", encoding.as_bytes())));
        assert_eq!(claims(&values)[0].says.name.as_deref(), Some("w1"), "{encoding:?}");
    }
}

#[test]
fn a_key_that_nobody_has_set_says_nothing_and_its_encoding_is_not_asked_for() {
    let mut host = Host::new(&[("guestinfo.userdata", b"---\n"), ("guestinfo.ovfEnv", b" ")]);
    assert!(read(&mut host).is_empty());
    insta::assert_snapshot!(host.commands.join("\n"), @r"
    info-get guestinfo.bootwright.seed
    info-get guestinfo.userdata
    info-get guestinfo.metadata
    info-get guestinfo.ovfEnv
    ");
}

#[test]
fn cloud_inits_documents_give_a_name_and_a_network_in_each_of_its_forms() {
    let network = "version: 2\nethernets:\n  lan: {addresses: [10.20.0.11/24]}\n";
    let part = format!("network:\n  {}\n", network.trim_end().replace('\n', "\n  "));
    let wrapped = STANDARD.encode(format!("network:\n  {}", network.replace('\n', "\n  ")));
    let forms = [
        part,
        "network: {version: 1, config: [{type: physical, name: lan, subnets: [{type: static, address: 10.20.0.11/24}]}]}\n"
            .to_owned(),
        format!("network: |\n  {}", network.replace('\n', "\n  ")),
        format!("network: {}\nnetwork.encoding: base64\n", STANDARD.encode(network)),
        format!("network: {wrapped}\nnetwork.encoding: b64\n"),
        format!("network: {}\nnetwork.encoding: gzip+base64\n", STANDARD.encode(gzip(network))),
    ];
    for form in forms {
        let metadata = format!("instance-id: i-1\nlocal-hostname: W1.harbor.example\n{form}");
        let claims = claims(&[("guestinfo.metadata", metadata.as_bytes()), ("guestinfo.vendordata", b"#!")]);
        assert_eq!(claims[0].host_name.as_deref(), Some("w1"), "{form}");
        assert_eq!(claims[0].says.links[0].name, "lan", "{form}");
        assert_eq!(claims[0].says.links[0].addresses, ["10.20.0.11/24".parse().unwrap()], "{form}");
    }
}

#[test]
fn user_data_comes_before_metadata_and_both_may_be_packed() {
    let user_data = STANDARD.encode(gzip("#cloud-config\nhostname: w2\n")).into_bytes();
    let metadata = STANDARD.encode("{\"local-hostname\": \"w1\", \"network\": null}").into_bytes();
    let mut values: Vec<(&str, &[u8])> = vec![
        ("guestinfo.metadata", &metadata),
        ("guestinfo.metadata.encoding", b"base64"),
        ("guestinfo.userdata", &user_data),
        ("guestinfo.userdata.encoding", b"gzip+base64"),
    ];
    let both = claims(&values);
    assert_eq!(both.len(), 1);
    assert_eq!((both[0].says.name.as_deref(), both[0].host_name.as_deref()), (None, Some("w2")));
    assert_eq!(both[0].source, "VMware's guestinfo.userdata and guestinfo.metadata");
    values.extend([("guestinfo.userdata", TEXT.as_bytes()), ("guestinfo.userdata.encoding", b"")]);
    let written = claims(&values);
    assert_eq!((written[0].says.name.as_deref(), written[0].host_name.as_deref()), (Some("w1"), None));
}

#[test]
fn a_machine_made_from_a_template_is_called_as_its_properties_say() {
    let claims = claims(&[("guestinfo.ovfEnv", include_bytes!("fixtures/vapp.xml"))]);
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].source, "the OVF environment (VMware's guestinfo.ovfEnv)");
    assert_eq!((claims[0].says.name.as_deref(), claims[0].host_name.as_deref()), (None, Some("w1")));
    assert_eq!(claims[0].says.links[0].mac.as_deref(), Some("00:50:56:a8:0b:0c"));
    assert_eq!(claims[0].says.links[0].addresses, ["10.20.0.11/24".parse().unwrap()]);
}

#[test]
fn each_place_is_a_claim_of_its_own_so_that_two_that_disagree_are_seen() {
    let environment = |properties: &str| {
        format!("<Environment><PropertySection>{properties}</PropertySection></Environment>")
    };
    let seed = environment(&format!("<Property key='bootwright.seed' value='{}'/>", STANDARD.encode(TEXT)));
    let claims = claims(&[
        (SEED, b"name = \"w2\""),
        ("guestinfo.metadata", b"local-hostname: w3"),
        ("guestinfo.ovfEnv", seed.as_bytes()),
    ]);
    let said: Vec<String> = claims
        .iter()
        .map(|claim| format!("{:?} {:?} by {}", claim.says.name, claim.host_name, claim.source))
        .collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
    Some("w2") None by VMware's guestinfo.bootwright.seed
    None Some("w3") by VMware's guestinfo.metadata
    Some("w1") None by property bootwright.seed of the OVF environment (VMware's guestinfo.ovfEnv)
    "#);
}

#[test]
fn mistakes_name_the_value() {
    let large = "#".repeat(300 << 10);
    let packed = STANDARD.encode(gzip(&large));
    let huge = "#".repeat(600 << 10);
    let deep = "<a>".repeat(50_000);
    let entities = "<!DOCTYPE e [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><Environment>&b;</Environment>";
    let encoding = "guestinfo.bootwright.seed.encoding";
    let cases: Vec<Vec<(&str, &[u8])>> = vec![
        vec![(SEED, b"nahme = 1")],
        vec![(SEED, b"name = \"w1\""), (encoding, b"base64")],
        vec![(SEED, b"bmFtZQ=="), (encoding, b"gz+b64")],
        vec![(SEED, b"name = \"w1\""), (encoding, b"rot13")],
        vec![(SEED, large.as_bytes())],
        vec![(SEED, packed.as_bytes()), (encoding, b"gzip+base64")],
        vec![(SEED, huge.as_bytes())],
        vec![(SEED, b"\xff\xfe")],
        vec![("guestinfo.userdata", b"hostname: w1")],
        vec![("guestinfo.metadata", b"local-hostname: [w1")],
        vec![("guestinfo.metadata", b"network: {version: 3}")],
        vec![("guestinfo.metadata", b"network: name\nnetwork.encoding: uu")],
        vec![("guestinfo.ovfEnv", b"name = \"w1\"")],
        vec![("guestinfo.ovfEnv", b"<Envelope/>")],
        vec![("guestinfo.ovfEnv", entities.as_bytes())],
        vec![("guestinfo.ovfEnv", deep.as_bytes())],
        vec![(
            "guestinfo.ovfEnv",
            b"<Environment><PropertySection><Property key='network-config' value='version: 3'/></PropertySection></Environment>",
        )],
    ];
    let errors: Vec<String> = cases.iter().map(|values| error(values)).collect();
    insta::assert_snapshot!(errors.join("\n"), @r#"
    node.toml in VMware's guestinfo.bootwright.seed, line 1, column 1: unknown field `nahme`, expected one of `name`, `address`, `gateway`, `mac`, `pod-cidr`, `provider-id`, `link`, `clock`
    VMware's guestinfo.bootwright.seed: it is no base64, which its encoding says that it is: Invalid symbol 34, offset 8.
    VMware's guestinfo.bootwright.seed: it is not packed with gzip, which its encoding says that it is
    VMware's guestinfo.bootwright.seed.encoding: the encoding "rot13" is not known: base64 and gzip+base64 are
    node.toml in VMware's guestinfo.bootwright.seed: it has more than 262144 bytes
    node.toml in VMware's guestinfo.bootwright.seed: it has more than 262144 bytes
    VMware's guestinfo.bootwright.seed: it has 614402 bytes, and 524288 are the most
    node.toml in VMware's guestinfo.bootwright.seed: it is no UTF-8 text
    VMware's guestinfo.userdata, line 1, column 11: key with no value, expected `=`
    VMware's guestinfo.metadata: unclosed bracket '[' at line 1, column 17
    VMware's guestinfo.metadata, network: version 3: versions 1 and 2 are known
    VMware's guestinfo.metadata, network.encoding: the encoding "uu" is not known: base64 and gzip+base64 are
    the OVF environment (VMware's guestinfo.ovfEnv): unknown token at 1:1
    the OVF environment (VMware's guestinfo.ovfEnv): it is a document of the type "Envelope", and no Environment
    the OVF environment (VMware's guestinfo.ovfEnv): XML with DTD detected
    the OVF environment (VMware's guestinfo.ovfEnv): nodes limit reached
    property network-config of the OVF environment (VMware's guestinfo.ovfEnv): version 3: versions 1 and 2 are known
    "#);
}

#[test]
fn a_host_that_does_not_answer_is_one_problem() {
    let faults = [
        Fault::NoBackdoor,
        Fault::NoChannel,
        Fault::Refuses(Step::SendSize),
        Fault::Refuses(Step::ReceivePayload),
        Fault::Silent,
        Fault::WrongType,
    ];
    let problems = faults.map(|fault| {
        let mut host = Host::new(&[(SEED, TEXT.as_bytes())]);
        host.fault = Some(fault);
        let claims = guestinfo::read(&mut host);
        assert_eq!(claims.len(), 1, "{fault:?}");
        let error = claims.into_iter().next().unwrap().unwrap_err();
        assert!(matches!(error, SourceError::Unreadable { .. }), "{error:?}");
        problem(&error).chain.join(": ")
    });
    insta::assert_snapshot!(problems.join("\n"), @r"
    VMware's guestinfo cannot be read: there is no backdoor on I/O port 0x5658
    VMware's guestinfo cannot be read: the hypervisor has the backdoor, version 6, and opens no message channel on it
    VMware's guestinfo.bootwright.seed cannot be read: the hypervisor refuses the step SendSize of a message, status 0x0
    VMware's guestinfo.bootwright.seed cannot be read: the hypervisor refuses the step ReceivePayload of a message, status 0x0
    VMware's guestinfo.bootwright.seed cannot be read: the hypervisor takes a command and gives no answer
    VMware's guestinfo.bootwright.seed cannot be read: the hypervisor answers ReceiveSize with a message of type 2
    ");
}

#[test]
fn a_value_that_is_not_handed_out_is_a_problem_and_the_others_are_asked_for() {
    let mut host = Host::new(&[]);
    host.fault = Some(Fault::Answers(b"0 Permission denied"));
    let problems: Vec<String> =
        read(&mut host).into_iter().map(|said| problem(&said.unwrap_err()).chain.join(": ")).collect();
    insta::assert_snapshot!(problems.join("\n"), @r#"
    VMware's guestinfo.bootwright.seed cannot be read: the hypervisor answers "0 Permission denied"
    VMware's guestinfo.userdata cannot be read: the hypervisor answers "0 Permission denied"
    VMware's guestinfo.ovfEnv cannot be read: the hypervisor answers "0 Permission denied"
    "#);
}

#[test]
fn a_message_that_a_checkpoint_interrupts_is_sent_again() {
    for step in [Step::SendPayload, Step::ReceivePayload, Step::ReceiveStatus] {
        let mut host = Host::new(&[(SEED, TEXT.as_bytes())]);
        host.checkpoints = vec![step; 3];
        let said = read(&mut host).remove(0).unwrap();
        assert_eq!(said.says.name.as_deref(), Some("w1"), "{step:?}");
        host.checkpoints = vec![step; 4];
        let error = Channel::open(&mut host).unwrap().info_get(SEED).unwrap_err();
        assert_eq!(error, RpciError::Interrupted, "{step:?}");
    }
}

#[test]
fn an_old_host_has_channels_without_cookies() {
    let mut host = Host::new(&[(SEED, TEXT.as_bytes())]);
    host.is_old = true;
    assert_eq!(read(&mut host).remove(0).unwrap().says.name.as_deref(), Some("w1"));
}

#[test]
fn an_answer_of_any_length_is_received_and_one_that_is_too_long_refused() {
    for length in 0..9 {
        let value = "x".repeat(length).into_bytes();
        let mut host = Host::new(&[("key", &value)]);
        assert_eq!(Channel::open(&mut host).unwrap().info_get("key").unwrap(), Some(value));
    }
    let mut host = Host::new(&[("key", b"7")]);
    host.fault = Some(Fault::Size(MOST_ANSWER_BYTES + 1));
    let mut channel = Channel::open(&mut host).unwrap();
    // The channel can be used again.
    for _ in 0..2 {
        let error = channel.info_get("key").unwrap_err();
        assert_eq!(error, RpciError::TooLarge { bytes: MOST_ANSWER_BYTES + 1 });
    }
    drop(channel);
    host.fault = Some(Fault::Answers(b"1"));
    assert_eq!(Channel::open(&mut host).unwrap().info_get("key").unwrap(), Some(Vec::new()));
}

#[test]
fn only_a_machine_of_vmwares_is_asked() {
    let machine = |vendor: &str, product: &str| Machine {
        firmware: Firmware {
            vendor: Some(vendor.to_owned()),
            product: Some(product.to_owned()),
            ..Firmware::default()
        },
        ..Machine::default()
    };
    for (vendor, product) in [("VMware, Inc.", "VMware7,1"), ("Phoenix", "VMware Virtual Platform")] {
        assert!(VMware.evidence(&machine(vendor, product)), "{product}");
    }
    for (vendor, product) in [("QEMU", "Standard PC (Q35)"), ("Dell Inc.", "VxRail for VMware"), ("", "")] {
        assert!(!VMware.evidence(&machine(vendor, product)), "{product}");
    }
}

/// A machine that is not VMware's with a disc, so that no port is touched.
fn disc(image: &[u8]) -> Vec<Result<Claim, SourceError>> {
    let root = tempfile::tempdir().unwrap();
    device(root.path(), "sr0", None, true, image);
    let machine = Machine::look(root.path());
    assert!(VMware.evidence(&machine));
    VMware.read(&machine)
}

#[test]
fn the_example_on_a_disc_is_read_whatever_its_names_are_like() {
    for options in [&["-J", "-r"][..], &["-J"], &["-r"], &[]] {
        let claims = disc(&iso(&example("ovf-environment"), "OVF ENV", options));
        let claim = claims.into_iter().next().unwrap().unwrap();
        assert_eq!(claim.says.name.as_deref(), Some("cp1"), "{options:?}");
        assert!(claim.source.starts_with("property bootwright.seed of the OVF environment (/"), "{claim:?}");
        assert!(claim.source.ends_with("/dev/sr0)"), "{claim:?}");
    }
}

#[test]
fn a_disc_without_an_environment_is_told_and_a_mistake_on_it_names_it() {
    let empty = disc(&iso(folder(&[("readme", "")]).path(), "OVF ENV", &["-J"])).remove(0).unwrap_err();
    assert!(matches!(empty, SourceError::Unreadable { .. }));
    let wrong = folder(&[("ovf-env.xml", "<Environment>")]);
    let wrong = disc(&iso(wrong.path(), "OVF ENV", &["-J"])).remove(0).unwrap_err();
    assert!(matches!(wrong, SourceError::Mistake { .. }));
    let large = folder(&[("ovf-env.xml", &"#".repeat(300 << 10))]);
    let large = disc(&iso(large.path(), "OVF ENV", &["-J"])).remove(0).unwrap_err();
    for error in [&empty, &wrong, &large] {
        assert!(error.to_string().contains("/dev/sr0"), "{error}");
    }
    assert!(problem(&large).chain[1].contains("more than 262144 bytes"), "{large:?}");
}

/// A hypervisor that answers anything.
struct Noise(Vec<(u16, Registers)>, usize);

impl Backdoor for Noise {
    fn call(&mut self, asked: Registers) -> Registers {
        let (status, answer) = self.0[self.1 % self.0.len()];
        self.1 += 1;
        assert!(self.1 < 1 << 20, "it goes on without an end");
        // The first is asked for its version.
        let ebx = if self.1 == 1 { MAGIC } else { answer.ebx };
        Registers { ebx, eax: 6, ecx: asked.ecx & 0xffff | u32::from(status) << 16, ..answer }
    }
}

fn registers() -> impl Strategy<Value = (u16, Registers)> {
    let status = prop_oneof![Just(1_u16), Just(3), Just(0x20), any::<u16>()];
    let edx = prop_oneof![Just(1_u32 << 16), Just(2 << 16), any::<u32>()];
    let ebx = prop_oneof![0_u32..64, Just(u32::MAX), any::<u32>()];
    (status, ebx, edx).prop_map(|(status, ebx, edx)| (status, Registers { ebx, edx, ..Registers::default() }))
}

proptest! {
    #[test]
    fn no_host_makes_it_panic_or_go_on_without_an_end(answers in proptest::collection::vec(registers(), 1..40)) {
        let _ = guestinfo::read(&mut Noise(answers, 0));
    }

    #[test]
    fn no_value_makes_it_panic(
        text in "(network: |network.encoding: b64|local-hostname: |[a-z]|\n|\\{|\\[|: |\"|<Environment|<PropertySection>|<Property |key=|value=|'|>|/>|&|;){0,24}",
    ) {
        for key in [SEED, "guestinfo.userdata", "guestinfo.metadata", "guestinfo.ovfEnv"] {
            let _ = guestinfo::read(&mut Host::new(&[(key, text.as_bytes())]));
        }
    }
}
