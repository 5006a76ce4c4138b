//! RPCI, the message channel over the backdoor by which a guest asks VMware's hypervisor for values, as vmtoolsd does
//! (open-vm-tools, `lib/message/message.c`, `lib/include/guest_msg_def.h`, `lib/rpcOut/rpcout.c`).
//!
//! A message goes four bytes at a time. The hypervisor may offer to move it at once through memory (the high-bandwidth
//! port), which need not be accepted: what is asked here is small.

use super::port::{Backdoor, MAGIC, PORT, Registers};

/// Command: which version the hypervisor has, `BDOOR_CMD_GETVERSION`.
pub const GET_VERSION: u16 = 10;
/// Command: one step of a message, `BDOOR_CMD_MESSAGE`.
pub const MESSAGE: u16 = 30;
/// The protocol of commands that are answered, `RPCI_PROTOCOL_NUM`: its name in ASCII.
pub const RPCI: u32 = 0x4943_5052;
/// The channel is to have a cookie, without which another program of the guest could use it, `GUESTMSG_FLAG_COOKIE`.
pub const WITH_COOKIE: u32 = 0x8000_0000;

/// Bytes of an answer: more than the largest document is in base64 with line ends. The rest is refused before it is
/// received.
pub const MOST_ANSWER_BYTES: u32 = 512 << 10;
/// How often an operation is tried that the machine was suspended or moved in the middle of.
const ATTEMPTS: usize = 4;

/// Steps of a message, `MessageType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Opens a channel.
    Open = 0,
    /// Says how long the guest's message is; of an answer, how long the hypervisor's is.
    SendSize = 1,
    /// Four bytes of it.
    SendPayload = 2,
    /// Asks whether there is an answer.
    ReceiveSize = 3,
    /// Asks for its next four bytes.
    ReceivePayload = 4,
    /// Says that it was received.
    ReceiveStatus = 5,
    /// Closes the channel.
    Close = 6,
}

/// `MESSAGE_STATUS_SUCCESS`, in both directions.
pub const SUCCESS: u16 = 1;
/// `MESSAGE_STATUS_DORECV`: there is an answer.
pub const ANSWER_WAITS: u16 = 2;
/// `MESSAGE_STATUS_CPT`: the machine was suspended or moved in the middle of an operation, which has to begin again.
pub const CHECKPOINT: u16 = 0x20;

/// Why the hypervisor could not be asked, or does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RpciError {
    /// It is not VMware's, or has no such port.
    #[error("there is no backdoor on I/O port {PORT:#x}")]
    NoBackdoor,
    /// It has the port, and knows no messages. QEMU's is so.
    #[error("the hypervisor has the backdoor, version {version}, and opens no message channel on it")]
    NoChannel {
        /// What it says of itself.
        version: u32,
    },
    /// It does not do a step.
    #[error("the hypervisor refuses the step {step:?} of a message, status {status:#x}")]
    Refused {
        /// Which one.
        step: Step,
        /// Its answer.
        status: u16,
    },
    /// It does another step than is due.
    #[error("the hypervisor answers {step:?} with a message of type {with}")]
    OutOfOrder {
        /// What it was asked for.
        step: Step,
        /// Type of what it does instead.
        with: u16,
    },
    /// It is moved all the time.
    #[error("the machine was suspended or moved in the middle of a message, {ATTEMPTS} times in a row")]
    Interrupted,
    /// A command was taken, and there is no answer.
    #[error("the hypervisor takes a command and gives no answer")]
    NoAnswer,
    /// More than anything that is asked for has.
    #[error("it has {bytes} bytes, and {MOST_ANSWER_BYTES} are the most")]
    TooLarge {
        /// Size of the answer.
        bytes: u32,
    },
    /// It says why not.
    #[error("the hypervisor answers {0:?}")]
    Answer(String),
}

impl RpciError {
    /// Whether the next command may be answered.
    pub fn spares_channel(&self) -> bool {
        matches!(self, RpciError::TooLarge { .. } | RpciError::Answer(_))
    }
}

/// An open channel.
pub struct Channel<'a> {
    backdoor: &'a mut dyn Backdoor,
    id: u16,
    /// Upper and lower half.
    cookie: (u32, u32),
}

impl<'a> Channel<'a> {
    /// Finds out whether there is a backdoor, and opens a channel on it.
    pub fn open(backdoor: &'a mut dyn Backdoor) -> Result<Channel<'a>, RpciError> {
        // Anything but the magic number, which is the answer.
        let version = call(backdoor, GET_VERSION, 0, Registers { ebx: !MAGIC, ..Registers::default() });
        if version.ebx != MAGIC || version.eax == u32::MAX {
            return Err(RpciError::NoBackdoor);
        }
        // Old ones know no cookies.
        for flags in [WITH_COOKIE, 0] {
            let open = Registers { ebx: RPCI | flags, ..Registers::default() };
            let answer = call(backdoor, MESSAGE, Step::Open as u16, open);
            if high(answer.ecx) & SUCCESS != 0 {
                let cookie = if flags == 0 { (0, 0) } else { (answer.esi, answer.edi) };
                return Ok(Channel { backdoor, id: high(answer.edx), cookie });
            }
        }
        Err(RpciError::NoChannel { version: version.eax })
    }

    /// The value of a key; none if nobody has set it.
    pub fn info_get(&mut self, key: &str) -> Result<Option<Vec<u8>>, RpciError> {
        let answer = self.ask(format!("info-get {key}").as_bytes())?;
        // A digit says whether it worked; a blank and the value, or the reason, come after it.
        match answer.as_slice() {
            [b'1'] => Ok(Some(Vec::new())),
            [b'1', b' ', value @ ..] => Ok(Some(value.to_vec())),
            b"0 No value found" => Ok(None),
            other => Err(RpciError::Answer(excerpt(other))),
        }
    }

    /// Sends a command and receives its answer.
    pub fn ask(&mut self, command: &[u8]) -> Result<Vec<u8>, RpciError> {
        self.repeated(|channel| channel.send(command))?;
        self.repeated(Channel::receive)
    }

    /// Does an operation again that was interrupted by a checkpoint.
    fn repeated<T>(
        &mut self,
        mut operation: impl FnMut(&mut Self) -> Result<T, RpciError>,
    ) -> Result<T, RpciError> {
        for _ in 0..ATTEMPTS {
            match operation(self) {
                Err(RpciError::Refused { status, step })
                    if status & CHECKPOINT != 0 && step.is_in_middle() => {}
                result => return result,
            }
        }
        Err(RpciError::Interrupted)
    }

    fn send(&mut self, command: &[u8]) -> Result<(), RpciError> {
        let size = u32::try_from(command.len()).map_err(|_| RpciError::TooLarge { bytes: u32::MAX })?;
        self.step(Step::SendSize, size)?;
        for part in command.chunks(4) {
            let mut bytes = [0; 4];
            bytes[..part.len()].copy_from_slice(part);
            self.step(Step::SendPayload, u32::from_le_bytes(bytes))?;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Vec<u8>, RpciError> {
        let size = self.step(Step::ReceiveSize, 0)?;
        if high(size.ecx) & ANSWER_WAITS == 0 {
            return Err(RpciError::NoAnswer);
        }
        expect(Step::ReceiveSize, size, Step::SendSize)?;
        let bytes = size.ebx;
        if bytes > MOST_ANSWER_BYTES {
            // Told that it was not received, the hypervisor gives it up, and the channel is free for the next command.
            let _ = self.step(Step::ReceivePayload, 0);
            return Err(RpciError::TooLarge { bytes });
        }
        let bytes = bytes as usize;
        let mut answer = Vec::with_capacity(bytes.next_multiple_of(4));
        while answer.len() < bytes {
            let part = self.step(Step::ReceivePayload, SUCCESS.into())?;
            expect(Step::ReceivePayload, part, Step::SendPayload)?;
            answer.extend(part.ebx.to_le_bytes());
        }
        answer.truncate(bytes);
        self.step(Step::ReceiveStatus, SUCCESS.into())?;
        Ok(answer)
    }

    /// One step, which has to succeed.
    fn step(&mut self, step: Step, argument: u32) -> Result<Registers, RpciError> {
        let registers = Registers {
            ebx: argument,
            edx: u32::from(self.id) << 16,
            esi: self.cookie.0,
            edi: self.cookie.1,
            ..Registers::default()
        };
        let answer = call(self.backdoor, MESSAGE, step as u16, registers);
        let status = high(answer.ecx);
        if status & SUCCESS == 0 {
            return Err(RpciError::Refused { step, status });
        }
        Ok(answer)
    }
}

impl Drop for Channel<'_> {
    fn drop(&mut self) {
        // There are a few for the whole guest. One that cannot be closed is broken already, which has been told.
        let _ = self.step(Step::Close, 0);
    }
}

impl Step {
    /// Whether it comes after an operation's first step, which begins it anew.
    fn is_in_middle(self) -> bool {
        matches!(self, Step::SendPayload | Step::ReceivePayload | Step::ReceiveStatus)
    }
}

/// One call, with the command in the lower half of `ecx` and what it is to do in the upper.
fn call(backdoor: &mut dyn Backdoor, command: u16, what: u16, registers: Registers) -> Registers {
    backdoor.call(Registers {
        eax: MAGIC,
        ecx: u32::from(what) << 16 | u32::from(command),
        edx: registers.edx | u32::from(PORT),
        ..registers
    })
}

fn expect(step: Step, answer: Registers, due: Step) -> Result<(), RpciError> {
    match high(answer.edx) {
        with if with == due as u16 => Ok(()),
        with => Err(RpciError::OutOfOrder { step, with }),
    }
}

fn high(register: u32) -> u16 {
    (register >> 16) as u16
}

/// The beginning of an answer, for a message.
fn excerpt(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).chars().take(80).collect()
}
