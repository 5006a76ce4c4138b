//! Which frame goes to which port: a learning bridge (IEEE 802.1Q, 8.7 and 8.8) that looks at MAC addresses
//! only. VLAN tags pass as they are. Time is told to it; it reads no clock and no socket.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::faults::Faults;

/// A frame, from the destination's MAC address on, without a checksum.
pub type Frame = Arc<[u8]>;
/// A frame that leaves through a port.
pub type Delivery = (usize, Frame);

/// Both addresses and the type: there is no shorter frame.
const HEADER_BYTES: usize = 14;
/// How long a station is remembered that says nothing (IEEE 802.1Q, table 8-6: the recommended 300 s).
const AGEING: Duration = Duration::from_secs(300);
/// Stations that are remembered; frames to others go everywhere, so that a flood of them does no harm.
const STATIONS: usize = 8192;
/// Frames that wait for their delay to pass; more are lost.
const WAITING: usize = 16384;

type Mac = [u8; 6];

/// Frames by when they are due. The number keeps the order of frames that are due at once.
struct Waiting {
    due: Instant,
    number: u64,
    port: usize,
    frame: Frame,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

/// The forwarding of a switch.
pub struct Fabric {
    ports: usize,
    stations: HashMap<Mac, (usize, Instant)>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    number: u64,
    /// The faults; a person changes them while it runs.
    pub faults: Faults,
}

impl Fabric {
    /// A switch of `ports` ports without faults; `seed` is that of faults to come.
    pub fn new(ports: usize, seed: u64) -> Fabric {
        Fabric {
            ports,
            stations: HashMap::new(),
            waiting: BinaryHeap::new(),
            number: 0,
            faults: Faults::new(seed),
        }
    }

    /// Takes a frame that came in through `from`; what leaves at once is added to `out`.
    pub fn accept(&mut self, now: Instant, from: usize, frame: &[u8], out: &mut Vec<Delivery>) {
        if frame.len() < HEADER_BYTES {
            return;
        }
        let address = |at: usize| -> Mac { std::array::from_fn(|index| frame[at + index]) };
        let (destination, source) = (address(0), address(6));
        self.learn(now, from, source);
        let frame = Frame::from(frame);
        let known = self.stations.get(&destination).filter(|(_, seen)| now - *seen < AGEING);
        match known.map(|(port, _)| *port) {
            Some(port) if port == from => {}
            Some(port) => self.send(now, from, port, frame, out),
            // To a group, or to somebody who has not spoken yet.
            None => {
                for port in (0..self.ports).filter(|&port| port != from) {
                    self.send(now, from, port, frame.clone(), out);
                }
            }
        }
    }

    /// Adds the frames to `out` whose delay is over.
    pub fn release(&mut self, now: Instant, out: &mut Vec<Delivery>) {
        while self.waiting.peek().is_some_and(|Reverse(first)| first.due <= now) {
            if let Some(Reverse(Waiting { port, frame, .. })) = self.waiting.pop() {
                out.push((port, frame));
            }
        }
    }

    /// When the next delayed frame is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(first)| first.due)
    }

    /// Forgets who was behind a port that nothing is plugged into any more.
    pub fn forget(&mut self, port: usize) {
        self.stations.retain(|_, (known, _)| *known != port);
    }

    fn learn(&mut self, now: Instant, port: usize, source: Mac) {
        let group = source[0] & 1 == 1;
        if !group && (self.stations.len() < STATIONS || self.stations.contains_key(&source)) {
            self.stations.insert(source, (port, now));
        } else if self.stations.len() >= STATIONS {
            self.stations.retain(|_, (_, seen)| now - *seen < AGEING);
        }
    }

    fn send(&mut self, now: Instant, from: usize, to: usize, frame: Frame, out: &mut Vec<Delivery>) {
        let verdict = self.faults.judge(from, to);
        for _ in 0..verdict.copies {
            if verdict.delay.is_zero() {
                out.push((to, frame.clone()));
            } else if self.waiting.len() < WAITING {
                self.number += 1;
                let (due, number) = (now + verdict.delay, self.number);
                self.waiting.push(Reverse(Waiting { due, number, port: to, frame: frame.clone() }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::{Fault, Scope};
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 0xa];
    const B: Mac = [2, 0, 0, 0, 0, 0xb];
    const ALL: Mac = [0xff; 6];

    fn frame(to: Mac, from: Mac, text: &str) -> Vec<u8> {
        [&to[..], &from[..], &[0x08, 0x00], text.as_bytes()].concat()
    }

    fn ports(fabric: &mut Fabric, now: Instant, from: usize, frame: &[u8]) -> Vec<usize> {
        let mut out = Vec::new();
        fabric.accept(now, from, frame, &mut out);
        assert!(out.iter().all(|(_, sent)| **sent == *frame));
        out.into_iter().map(|(port, _)| port).collect()
    }

    #[test]
    fn a_station_is_learnt_moves_and_is_forgotten() {
        let (mut fabric, now) = (Fabric::new(4, 0), Instant::now());
        assert_eq!(ports(&mut fabric, now, 0, &frame(B, A, "who?")), [1, 2, 3]);
        assert_eq!(ports(&mut fabric, now, 1, &frame(A, B, "me")), [0]);
        assert_eq!(ports(&mut fabric, now, 0, &frame(B, A, "hello")), [1]);
        // To a station behind the port that it came from.
        assert!(ports(&mut fabric, now, 1, &frame(B, A, "odd")).is_empty());
        assert_eq!(ports(&mut fabric, now, 3, &frame(A, B, "moved")), [1]);
        assert_eq!(ports(&mut fabric, now + AGEING, 2, &frame(B, [2; 6], "old")), [0, 1, 3]);
        assert_eq!(ports(&mut fabric, now, 2, &frame(B, [2; 6], "young")), [3]);
        fabric.forget(3);
        assert_eq!(ports(&mut fabric, now, 2, &frame(B, [2; 6], "gone")), [0, 1, 3]);
    }

    #[test]
    fn groups_hear_all_runts_are_dropped_and_tags_pass() {
        let (mut fabric, now) = (Fabric::new(3, 0), Instant::now());
        assert_eq!(ports(&mut fabric, now, 1, &frame(ALL, A, "")), [0, 2]);
        // A group is nobody's source.
        ports(&mut fabric, now, 1, &frame(B, ALL, ""));
        assert_eq!(ports(&mut fabric, now, 2, &frame(ALL, A, "")), [0, 1]);
        assert!(ports(&mut fabric, now, 1, &[0xff; 13]).is_empty());
        let mut tagged = frame(ALL, A, "vlan 7");
        tagged[12..14].copy_from_slice(&[0x81, 0x00]);
        assert_eq!(ports(&mut fabric, now, 0, &tagged), [1, 2]);
    }

    #[test]
    fn a_flood_of_stations_is_bounded() {
        let (mut fabric, now) = (Fabric::new(2, 0), Instant::now());
        for number in 0..STATIONS as u32 + 100 {
            let [a, b, c, d] = number.to_be_bytes();
            ports(&mut fabric, now, 0, &frame(ALL, [2, 1, a, b, c, d], ""));
        }
        assert_eq!(fabric.stations.len(), STATIONS);
        ports(&mut fabric, now + AGEING, 0, &frame(ALL, B, ""));
        assert!(fabric.stations.len() < STATIONS);
    }

    #[test]
    fn delayed_frames_come_when_they_are_due_and_in_order() {
        let (mut fabric, now) = (Fabric::new(2, 0), Instant::now());
        let later = |ms| now + Duration::from_millis(ms);
        fabric.faults.add(Scope::Port(1), Fault::Delay(20));
        let mut out = Vec::new();
        for (at, text) in [(0, "one"), (0, "two"), (5, "three")] {
            fabric.accept(later(at), 0, &frame(ALL, A, text), &mut out);
        }
        assert!(out.is_empty());
        assert_eq!(fabric.next_due(), Some(later(20)));
        fabric.release(later(19), &mut out);
        assert!(out.is_empty());
        fabric.release(later(25), &mut out);
        let texts: Vec<&[u8]> = out.iter().map(|(_, frame)| &frame[HEADER_BYTES..]).collect();
        assert_eq!(texts, [&b"one"[..], b"two", b"three"]);
        assert_eq!(fabric.next_due(), None);
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut fabric, now) = (Fabric::new(2, 0), Instant::now());
        fabric.faults.add(Scope::Port(0), Fault::Delay(1000));
        fabric.faults.add(Scope::Port(1), Fault::Duplicate(100.0));
        for _ in 0..WAITING {
            fabric.accept(now, 0, &frame(ALL, A, ""), &mut Vec::new());
        }
        assert_eq!(fabric.waiting.len(), WAITING);
    }
}
