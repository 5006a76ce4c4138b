//! A hypervisor that answers calls as VMware's does, and insists on the order in which they come.

use std::collections::BTreeMap;

use super::port::{Backdoor, MAGIC, PORT, Registers};
use super::rpci::{ANSWER_WAITS, CHECKPOINT, GET_VERSION, MESSAGE, RPCI, SUCCESS, Step, WITH_COOKIE};

const CHANNEL: u16 = 5;
const COOKIE: (u32, u32) = (0x1234_5678, 0x9abc_def0);
/// `MESSAGE_STATUS_HB`: the rest could go through memory.
const HIGH_BANDWIDTH: u16 = 0x10;
const STEPS: [Step; 7] = [
    Step::Open,
    Step::SendSize,
    Step::SendPayload,
    Step::ReceiveSize,
    Step::ReceivePayload,
    Step::ReceiveStatus,
    Step::Close,
];

/// What it does not do as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is another hypervisor.
    NoBackdoor,
    /// It is QEMU.
    NoChannel,
    /// It refuses this step.
    Refuses(Step),
    /// It answers no command.
    Silent,
    /// It sends where it is to say how much.
    WrongType,
    /// It says that its answer has so many bytes.
    Size(u32),
    /// It answers every command so.
    Answers(&'static [u8]),
}

/// Where a channel is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Closed,
    Idle,
    Command { size: usize, bytes: Vec<u8> },
    Answer { bytes: Vec<u8>, sent: Option<usize> },
}

/// The hypervisor.
pub struct Host {
    values: BTreeMap<String, Vec<u8>>,
    phase: Phase,
    cookie: (u32, u32),
    /// Whether it is too old for cookies.
    pub is_old: bool,
    /// Steps at which the machine is suspended, one after the other.
    pub checkpoints: Vec<Step>,
    /// What it does wrong.
    pub fault: Option<Fault>,
    /// Commands that it was sent.
    pub commands: Vec<String>,
}

impl Host {
    /// With these values of guestinfo.
    pub fn new(values: &[(&str, &[u8])]) -> Host {
        let values = values.iter().map(|(key, value)| (key.to_lowercase(), value.to_vec())).collect();
        Host {
            values,
            phase: Phase::Closed,
            cookie: COOKIE,
            is_old: false,
            checkpoints: Vec::new(),
            fault: None,
            commands: Vec::new(),
        }
    }

    /// Whether no channel is left open.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    fn message(&mut self, step: Step, asked: Registers) -> Registers {
        if step == Step::Open {
            return self.open(asked);
        }
        assert_eq!(asked.edx >> 16, u32::from(CHANNEL), "{step:?}");
        assert_eq!((asked.esi, asked.edi), self.cookie, "{step:?}");
        if self.fault == Some(Fault::Refuses(step)) {
            return status(asked, 0);
        }
        if self.checkpoints.first() == Some(&step) {
            self.checkpoints.remove(0);
            self.phase = match self.phase.clone() {
                Phase::Command { .. } => Phase::Idle,
                Phase::Answer { bytes, .. } => Phase::Answer { bytes, sent: None },
                phase => phase,
            };
            return status(asked, CHECKPOINT);
        }
        match step {
            Step::Open | Step::SendSize | Step::SendPayload => self.take(step, asked),
            Step::ReceiveSize | Step::ReceivePayload | Step::ReceiveStatus => self.give(step, asked),
            Step::Close => {
                self.phase = Phase::Closed;
                status(asked, SUCCESS)
            }
        }
    }

    fn open(&mut self, asked: Registers) -> Registers {
        assert_eq!(self.phase, Phase::Closed);
        assert_eq!(asked.ebx & !WITH_COOKIE, RPCI);
        let wants_cookie = asked.ebx & WITH_COOKIE != 0;
        if self.is_old && wants_cookie {
            return status(asked, 0);
        }
        self.phase = Phase::Idle;
        self.cookie = if wants_cookie { COOKIE } else { (0, 0) };
        let edx = u32::from(CHANNEL) << 16;
        // One that knows none leaves in these registers what it likes.
        Registers { edx, esi: COOKIE.0, edi: COOKIE.1, ..status(asked, SUCCESS) }
    }

    /// The guest sends.
    fn take(&mut self, step: Step, asked: Registers) -> Registers {
        match (step, &mut self.phase) {
            (Step::SendSize, Phase::Idle) => {
                self.phase = Phase::Command { size: asked.ebx as usize, bytes: Vec::new() };
            }
            (Step::SendPayload, Phase::Command { size, bytes }) if bytes.len() < *size => {
                bytes.extend(asked.ebx.to_le_bytes());
                if bytes.len() >= *size {
                    bytes.truncate(*size);
                    let command = String::from_utf8(bytes.clone()).unwrap();
                    self.phase = Phase::Answer { bytes: self.answer(&command), sent: None };
                    self.commands.push(command);
                }
            }
            (step, phase) => panic!("{step:?} in {phase:?}"),
        }
        status(asked, SUCCESS | HIGH_BANDWIDTH)
    }

    /// The guest receives.
    fn give(&mut self, step: Step, asked: Registers) -> Registers {
        let fault = self.fault;
        let Phase::Answer { bytes, sent } = &mut self.phase else { panic!("{step:?} in {:?}", self.phase) };
        match (step, *sent) {
            (Step::ReceiveSize, None) => {
                if fault == Some(Fault::Silent) {
                    return status(asked, SUCCESS);
                }
                *sent = Some(0);
                let with = if fault == Some(Fault::WrongType) { Step::SendPayload } else { Step::SendSize };
                let size = match fault {
                    Some(Fault::Size(size)) => size,
                    _ => u32::try_from(bytes.len()).unwrap(),
                };
                let answer = status(asked, SUCCESS | ANSWER_WAITS | HIGH_BANDWIDTH);
                Registers { ebx: size, edx: (with as u32) << 16, ..answer }
            }
            // It was not received.
            (Step::ReceivePayload, Some(_)) if asked.ebx == 0 => {
                self.phase = Phase::Idle;
                status(asked, SUCCESS)
            }
            (Step::ReceivePayload, Some(from)) if from < bytes.len() => {
                assert_eq!(asked.ebx, u32::from(SUCCESS));
                // What is behind the end is anything.
                let byte = |place: usize| bytes.get(from + place).copied().unwrap_or(0xaa);
                let ebx = u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)]);
                *sent = Some(from + 4);
                Registers { ebx, edx: (Step::SendPayload as u32) << 16, ..status(asked, SUCCESS) }
            }
            (Step::ReceiveStatus, Some(sent)) if sent >= bytes.len() => {
                assert_eq!(asked.ebx, u32::from(SUCCESS));
                self.phase = Phase::Idle;
                status(asked, SUCCESS)
            }
            (step, sent) => panic!("{step:?} after {sent:?} bytes"),
        }
    }

    fn answer(&self, command: &str) -> Vec<u8> {
        if let Some(Fault::Answers(answer)) = self.fault {
            return answer.to_vec();
        }
        let Some(key) = command.strip_prefix("info-get ") else { return b"0 Unknown command".to_vec() };
        match self.values.get(&key.to_lowercase()) {
            Some(value) => [b"1 ", value.as_slice()].concat(),
            None => b"0 No value found".to_vec(),
        }
    }
}

fn status(asked: Registers, status: u16) -> Registers {
    Registers { ecx: asked.ecx & 0xffff | u32::from(status) << 16, ..asked }
}

impl Backdoor for Host {
    fn call(&mut self, asked: Registers) -> Registers {
        assert_eq!(asked.eax, MAGIC);
        assert_eq!(asked.edx & 0xffff, u32::from(PORT));
        let (command, what) = ((asked.ecx & 0xffff) as u16, (asked.ecx >> 16) as usize);
        // What QEMU answers where there is nothing, and to commands that it does not know.
        let nothing = Registers { eax: u32::MAX, ..asked };
        match (command, self.fault) {
            (_, Some(Fault::NoBackdoor)) | (MESSAGE, Some(Fault::NoChannel)) => nothing,
            (GET_VERSION, _) => Registers { eax: 6, ebx: MAGIC, ..asked },
            (MESSAGE, _) => self.message(STEPS[what], asked),
            _ => panic!("command {command}"),
        }
    }
}
