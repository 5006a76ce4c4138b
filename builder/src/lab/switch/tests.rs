//! The switch as machines see it: frames into real sockets, frames out of them.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::*;

const ALL: [u8; 6] = [0xff; 6];
/// A frame that does not come within this does not come.
const SILENCE: Duration = Duration::from_millis(150);
/// A frame that comes is there long before this.
const PATIENCE: Duration = Duration::from_secs(10);

fn switch(names: &[&str]) -> Switch {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    Switch::start(Plan { names, gateway: Vec::new(), mtu: 1500, forwards: Vec::new(), seed: 1 }).unwrap()
}

struct Machine {
    mac: [u8; 6],
    socket: UnixStream,
}

impl Machine {
    fn plugged_into(switch: &Switch, port: usize) -> Machine {
        let socket = UnixStream::from(switch.port(port).plug().unwrap());
        Machine { mac: [2, 0, 0, 0, 0, u8::try_from(port).unwrap()], socket }
    }

    fn send(&mut self, to: [u8; 6], text: &str) {
        let frame = [&to[..], &self.mac, &[0x88, 0xb5], text.as_bytes()].concat();
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        self.socket.write_all(&[&length[..], &frame].concat()).unwrap();
    }

    /// The text of the next frame that comes within `limit`.
    fn hear(&mut self, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.socket.read_exact(&mut frame).unwrap();
        Some(String::from_utf8(frame[14..].to_vec()).unwrap())
    }

    fn expect(&mut self, text: &str) {
        assert_eq!(self.hear(PATIENCE).as_deref(), Some(text));
    }

    fn expect_silence(&mut self) {
        assert_eq!(self.hear(SILENCE), None);
    }
}

/// Commands are obeyed before this returns: they and their answer go one way.
fn settle(switch: &Switch) -> Vec<String> {
    switch.describe().unwrap().0
}

#[test]
fn frames_reach_those_they_are_for() {
    let switch = switch(&["a", "b", "c"]);
    let [mut a, mut b, mut c] = [0, 1, 2].map(|port| Machine::plugged_into(&switch, port));
    settle(&switch);
    a.send(ALL, "who is b?");
    b.expect("who is b?");
    c.expect("who is b?");
    b.send(a.mac, "I am");
    a.expect("I am");
    a.send(b.mac, "hello");
    b.expect("hello");
    c.expect_silence();
}

#[test]
fn cut_and_healed() {
    let switch = switch(&["a", "b", "c"]);
    let [mut a, mut b, mut c] = [0, 1, 2].map(|port| Machine::plugged_into(&switch, port));
    switch.add(switch.scope("a", None).unwrap(), Fault::Cut).unwrap();
    assert_eq!(settle(&switch), ["a: cut"]);
    a.send(ALL, "is anybody there?");
    b.expect_silence();
    switch.heal(None).unwrap();
    switch.add(switch.scope("b", Some("a")).unwrap(), Fault::Cut).unwrap();
    assert_eq!(settle(&switch), ["a - b: cut"]);
    a.send(ALL, "only c");
    c.expect("only c");
    b.expect_silence();
    switch.heal(Some(switch.scope("b", None).unwrap())).unwrap();
    settle(&switch);
    a.send(ALL, "all");
    b.expect("all");
}

#[test]
fn late_twice_and_lost() {
    let switch = switch(&["a", "b"]);
    let [mut a, mut b] = [0, 1].map(|port| Machine::plugged_into(&switch, port));
    let between = switch.scope("a", Some("b")).unwrap();
    switch.add(between, Fault::Delay(200)).unwrap();
    settle(&switch);
    let begin = Instant::now();
    a.send(ALL, "one");
    a.send(ALL, "two");
    b.expect("one");
    assert!(begin.elapsed() >= Duration::from_millis(200));
    b.expect("two");
    switch.heal(None).unwrap();
    switch.add(between, Fault::Duplicate(100.0)).unwrap();
    settle(&switch);
    a.send(ALL, "twice");
    b.expect("twice");
    b.expect("twice");
    switch.add(between, Fault::Loss(100.0)).unwrap();
    settle(&switch);
    a.send(ALL, "lost");
    b.expect_silence();
    let begin = Instant::now();
    switch.add(between, Fault::Duplicate(0.0)).unwrap();
    switch.add(between, Fault::Loss(50.0)).unwrap();
    settle(&switch);
    for _ in 0..200 {
        a.send(ALL, "half");
    }
    let heard = std::iter::from_fn(|| b.hear(SILENCE)).count();
    assert!((60..140).contains(&heard), "{heard} of 200 in {:?}", begin.elapsed());
}

#[test]
fn a_machine_that_ends_or_is_plugged_in_anew() {
    let switch = switch(&["a", "b"]);
    let [mut a, b] = [0, 1].map(|port| Machine::plugged_into(&switch, port));
    drop(b);
    a.send(ALL, "into the void");
    let mut b = Machine::plugged_into(&switch, 1);
    settle(&switch);
    a.send(ALL, "again");
    // What was sent before may have found the new cable.
    let heard = b.hear(PATIENCE).unwrap();
    if heard != "again" {
        b.expect("again");
    }
    let mut nonsense = Machine::plugged_into(&switch, 0);
    nonsense.socket.write_all(&[0xff; 64]).unwrap();
    assert_eq!(nonsense.socket.read(&mut [0; 8]).unwrap_or(0), 0);
    // The one that was pulled.
    assert_eq!(a.hear(PATIENCE), None);
}

#[test]
fn a_machine_that_does_not_read_holds_nobody_up() {
    let switch = switch(&["a", "b", "deaf"]);
    let [mut a, mut b, _deaf] = [0, 1, 2].map(|port| Machine::plugged_into(&switch, port));
    settle(&switch);
    let text = "x".repeat(1486);
    for _ in 0..2000 {
        a.send(ALL, &text);
        b.expect(&text);
    }
    assert!(switch.describe().unwrap().1 > 0);
}

#[test]
fn names_that_are_not_on_the_switch() {
    let switch = switch(&["cp1", "w1"]);
    let error = switch.scope("cp2", None).unwrap_err().to_string();
    assert_eq!(error, "nothing on the switch is called 'cp2'; there are cp1, w1, outside");
    assert!(switch.scope("cp1", Some("cp1")).is_err());
    assert_eq!(switch.scope("w1", Some("cp1")).unwrap(), Scope::Between(0, 1));
    assert_eq!(switch.scope("outside", None).unwrap(), Scope::Port(2));
}
