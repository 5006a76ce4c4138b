//! The gateway's network card: two queues of frames.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use super::Frame;

/// Frames that wait to be looked at; more are lost.
const QUEUE: usize = 1024;
/// Bytes of an Ethernet header, which the stack counts in.
const HEADER_BYTES: usize = 14;
/// The stack's bounds of what it can send and receive, bytes.
const MTU: std::ops::RangeInclusive<usize> = 1280..=9216;

/// Received and sent frames.
pub struct Queues {
    received: VecDeque<Frame>,
    sent: Vec<Vec<u8>>,
    mtu: usize,
}

impl Queues {
    /// Empty ones of a link of `mtu` bytes.
    pub fn new(mtu: u16) -> Queues {
        let mtu = usize::from(mtu).clamp(*MTU.start(), *MTU.end() - HEADER_BYTES);
        Queues { received: VecDeque::new(), sent: Vec::new(), mtu }
    }

    /// A frame to be received.
    pub fn push(&mut self, frame: Frame) {
        if self.received.len() < QUEUE {
            self.received.push_back(frame);
        }
    }

    /// The frames that were sent.
    pub fn sent(&mut self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.sent.drain(..)
    }
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Sent<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sent(&mut self.sent)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sent<'_>> {
        (self.sent.len() < QUEUE).then_some(Sent(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + HEADER_BYTES;
        capabilities
    }
}

/// A frame that was received.
pub struct Received(Frame);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, look: F) -> R {
        look(&self.0)
    }
}

/// Room for a frame to be sent.
pub struct Sent<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.push(frame);
        result
    }
}
