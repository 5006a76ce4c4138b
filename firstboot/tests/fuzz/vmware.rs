//! What VMware's hypervisor hands over: answers in registers, and the OVF environment.

use firstboot::identity::vmware::port::{Backdoor, MAGIC, Registers};
use firstboot::identity::vmware::rpci::{ANSWER_WAITS, SUCCESS, Step};
use firstboot::identity::vmware::{guestinfo, ovf};

use crate::ITERATIONS;
use crate::corpus::Corpus;

#[test]
fn ovf_environment() {
    let corpus = Corpus::of(
        "ovf_environment",
        &["../examples/seeds/ovf-environment/ovf-env.xml", "src/identity/vmware/fixtures/vapp.xml"],
        &[
            "<!DOCTYPE a [<!ENTITY a \"b\">]>",
            "&a;",
            "&#0;",
            "<![CDATA[",
            "<PropertySection>",
            "<Property oe:key=\"hostname\" oe:value=\"",
            "xmlns:oe=\"\"",
            "<!--",
            "<?xml",
            "/>",
        ],
    );
    let read = |bytes: &[u8]| {
        let claims = ovf::claims(bytes, "ovf-env.xml", "");
        !claims.is_empty() && claims.iter().all(Result::is_ok)
    };
    try_changes!(corpus, read, ITERATIONS);
}

#[test]
fn rpci() {
    let corpus = Corpus::made(vec![
        ("a seed".into(), answers(b"1 name = \"w1\"\n")),
        ("a seed that fills its last part".into(), answers(b"1 name = \"cp1\"")),
    ]);
    let read = |bytes: &[u8]| {
        let mut host = Recorded { answers: bytes.to_vec(), next: 0 };
        guestinfo::read(&mut host).first().is_some_and(Result::is_ok)
    };
    try_changes!(corpus, read, ITERATIONS);
}

/// Bytes of an answer: a status and two registers.
const ANSWER_BYTES: usize = 10;

/// A hypervisor that gives one answer after the other, and refuses everything after the last.
struct Recorded {
    answers: Vec<u8>,
    next: usize,
}

impl Backdoor for Recorded {
    fn call(&mut self, asked: Registers) -> Registers {
        let mut bytes = [0; ANSWER_BYTES];
        if let Some(rest) = self.answers.get(self.next..) {
            let length = rest.len().min(ANSWER_BYTES);
            bytes[..length].copy_from_slice(&rest[..length]);
        }
        self.next += ANSWER_BYTES;
        let [s0, s1, b0, b1, b2, b3, d0, d1, d2, d3] = bytes;
        let status = u32::from(u16::from_le_bytes([s0, s1]));
        Registers {
            eax: 6,
            ebx: u32::from_le_bytes([b0, b1, b2, b3]),
            ecx: asked.ecx & 0xffff | status << 16,
            edx: u32::from_le_bytes([d0, d1, d2, d3]),
            ..asked
        }
    }
}

/// The answers of a host that has a seed and says nothing of its encoding, to all that is asked until that is known.
fn answers(seed: &[u8]) -> Vec<u8> {
    let opened = vec![(0, MAGIC, 0), (SUCCESS, 0, 7 << 16)];
    let seed = exchange("info-get guestinfo.bootwright.seed", seed);
    let encoding = exchange("info-get guestinfo.bootwright.seed.encoding", b"0 No value found");
    let bytes = |(status, ebx, edx): (u16, u32, u32)| {
        [&status.to_le_bytes()[..], &ebx.to_le_bytes(), &edx.to_le_bytes()].concat()
    };
    [opened, seed, encoding].concat().into_iter().flat_map(bytes).collect()
}

/// The answers to the steps of one command: status, `ebx` and `edx`.
fn exchange(command: &str, answer: &[u8]) -> Vec<(u16, u32, u32)> {
    let of = |step: Step| (step as u32) << 16;
    let mut answers = vec![(SUCCESS, 0, 0); 1 + command.len().div_ceil(4)];
    let size = u32::try_from(answer.len()).unwrap();
    answers.push((SUCCESS | ANSWER_WAITS, size, of(Step::SendSize)));
    for part in answer.chunks(4) {
        let mut bytes = [0; 4];
        bytes[..part.len()].copy_from_slice(part);
        answers.push((SUCCESS, u32::from_le_bytes(bytes), of(Step::SendPayload)));
    }
    answers.push((SUCCESS, 0, 0));
    answers
}
