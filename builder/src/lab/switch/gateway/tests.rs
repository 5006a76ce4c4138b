//! The gateway against a second stack of the same crate, which plays the nodes.

use std::io::{Read, Write};
use std::net::TcpStream;

use smoltcp::socket::AnySocket;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::IpEndpoint;

use super::*;

/// Nothing here takes that long.
const PATIENCE: Duration = Duration::from_secs(20);

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A node that echoes what comes to its port 6443.
struct Node {
    interface: Interface,
    queues: Queues,
    sockets: SocketSet<'static>,
}

impl Node {
    fn new(address: IpNet) -> Node {
        let mut queues = Queues::new(1500);
        let config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 9]).into());
        let mut interface = Interface::new(config, &mut queues, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(address.addr().into(), address.prefix_len())).unwrap();
        });
        let mut sockets = SocketSet::new(Vec::new());
        let buffer = || SocketBuffer::new(vec![0; 4096]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.listen(IpEndpoint::new(address.addr().into(), 6443)).unwrap();
        sockets.add(socket);
        Node { interface, queues, sockets }
    }

    fn turn(&mut self, time: smoltcp::time::Instant) {
        self.interface.poll(time, &mut self.queues, &mut self.sockets);
        for (_, socket) in self.sockets.iter_mut() {
            let socket: &mut Socket = AnySocket::downcast_mut(socket).unwrap();
            let mut bytes = [0; 1024];
            while socket.can_recv() && socket.can_send() {
                let room = (socket.send_capacity() - socket.send_queue()).min(bytes.len());
                let read = socket.recv_slice(&mut bytes[..room]).unwrap();
                assert_eq!(socket.send_slice(&bytes[..read]).unwrap(), read);
            }
            if socket.state() == State::CloseWait && !socket.can_recv() {
                socket.close();
            }
        }
        self.interface.poll(time, &mut self.queues, &mut self.sockets);
    }
}

/// Lets both work until the client is done. Frames go from one to the other as they are.
fn run(gateway: &mut Gateway, node: &mut Node, client: &std::thread::JoinHandle<()>) {
    let begin = Instant::now();
    while !client.is_finished() {
        assert!(begin.elapsed() < PATIENCE, "the client is not done");
        gateway.turn(Instant::now(), |frame| node.queues.push(Frame::from(frame)));
        let time = gateway.stack_time(Instant::now());
        node.turn(time);
        node.queues.sent().for_each(|frame| gateway.push(Frame::from(frame)));
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn echoes(address: &str, gateway: &str, targets: &[&str]) {
    let listener = crate::lab::switch::listen(None).unwrap();
    let door = listener.local_addr().unwrap();
    let targets = targets.iter().map(|target| target.parse().unwrap()).collect();
    let mut gateway = Gateway::new(&[net(gateway)], 1500, vec![Forward { listener, targets }]).unwrap();
    let mut node = Node::new(net(address));
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(door).unwrap();
        let sent: Vec<u8> = (0..200_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let mut writer = stream.try_clone().unwrap();
        let bytes = sent.clone();
        let write = std::thread::spawn(move || {
            writer.write_all(&bytes).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        write.join().unwrap();
        assert!(heard == sent, "{} of {} bytes came back", heard.len(), sent.len());
    });
    run(&mut gateway, &mut node, &client);
    client.join().unwrap();
    let begin = Instant::now();
    while !gateway.connections.is_empty() && begin.elapsed() < PATIENCE {
        gateway.turn(Instant::now(), |_| {});
    }
    assert_eq!((gateway.connections.len(), gateway.sockets.iter().count()), (0, 0));
}

#[test]
fn a_port_of_the_host_leads_to_a_node() {
    echoes("10.20.0.10/24", "10.20.0.1/24", &["10.20.0.10:6443"]);
}

#[test]
fn the_same_in_ipv6() {
    echoes("fd00:20::10/64", "fd00:20::1/64", &["[fd00:20::10]:6443"]);
}

#[test]
fn a_target_that_refuses_or_is_not_there_is_passed_over() {
    // Nobody has .11, and nobody listens at the port of the second.
    echoes("10.20.0.10/24", "10.20.0.1/24", &["10.20.0.11:6443", "10.20.0.10:6444", "10.20.0.10:6443"]);
}

#[test]
fn a_client_is_let_go_when_no_target_answers() {
    let listener = crate::lab::switch::listen(None).unwrap();
    let door = listener.local_addr().unwrap();
    // Of a family that the gateway has no address of, then a port where nobody listens.
    let targets = vec!["[fd00::1]:6443".parse().unwrap(), "10.20.0.10:1".parse().unwrap()];
    let mut gateway =
        Gateway::new(&[net("10.20.0.1/24")], 1500, vec![Forward { listener, targets }]).unwrap();
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(door).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
    });
    run(&mut gateway, &mut Node::new(net("10.20.0.10/24")), &client);
    client.join().unwrap();
}

#[test]
fn a_target_that_cannot_be_asked_is_passed_over_at_once() {
    let listener = crate::lab::switch::listen(None).unwrap();
    let door = listener.local_addr().unwrap();
    // Of a family that the gateway has no address of.
    let targets = vec!["10.20.0.10:6443".parse().unwrap(), "10.20.0.11:6443".parse().unwrap()];
    let mut gateway =
        Gateway::new(&[net("fd00:20::1/64")], 1500, vec![Forward { listener, targets }]).unwrap();
    let mut client = TcpStream::connect(door).unwrap();
    // One turn: nothing would wake the gateway up for a second.
    gateway.turn(Instant::now(), |_| {});
    assert!(gateway.connections.is_empty());
    assert_eq!(client.read(&mut [0; 8]).unwrap_or(0), 0);
}

/// The node that a door prefers after a client has waited so long for an answer that does not come, and given up.
fn preferred_after(waited: Duration) -> usize {
    let listener = crate::lab::switch::listen(None).unwrap();
    let door = listener.local_addr().unwrap();
    let targets = ["10.20.0.10:6443", "10.20.0.11:6443"].map(|target| target.parse().unwrap()).into();
    let mut gateway =
        Gateway::new(&[net("10.20.0.1/24")], 1500, vec![Forward { listener, targets }]).unwrap();
    let mut node = Node::new(net("10.20.0.10/24"));
    let mut client = TcpStream::connect(door).unwrap();
    let begin = Instant::now();
    client.write_all(b"who are you?").unwrap();
    let has_asked = |gateway: &Gateway| gateway.connections.iter().any(Connection::has_asked);
    while !has_asked(&gateway) {
        assert!(begin.elapsed() < PATIENCE, "the node is not asked");
        gateway.turn(Instant::now(), |frame| node.queues.push(Frame::from(frame)));
        let time = gateway.stack_time(Instant::now());
        // It takes the connection, and reads nothing.
        node.interface.poll(time, &mut node.queues, &mut node.sockets);
        node.queues.sent().for_each(|frame| gateway.push(Frame::from(frame)));
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(client);
    gateway.turn(Instant::now() + waited, |_| {});
    gateway.doors[0].preferred
}

#[test]
fn a_node_that_lets_clients_wait_is_not_the_first_for_the_next() {
    assert_eq!(preferred_after(connection::SLOW), 1);
    assert_eq!(preferred_after(Duration::ZERO), 0);
}

#[test]
fn doors_that_failed_are_left_alone_for_a_moment() {
    let listener = crate::lab::switch::listen(None).unwrap();
    let door = listener.local_addr().unwrap();
    let targets = vec!["10.20.0.10:6443".parse().unwrap()];
    let mut gateway =
        Gateway::new(&[net("10.20.0.1/24")], 1500, vec![Forward { listener, targets }]).unwrap();
    let waits_for = |gateway: &Gateway| {
        let mut count = 0;
        gateway.interest(|_, _| count += 1);
        count
    };
    assert_eq!(waits_for(&gateway), 1);
    let now = Instant::now();
    gateway.shut_until = Some(now + NOT_ACCEPTED);
    let _client = TcpStream::connect(door).unwrap();
    gateway.turn(now, |_| {});
    assert_eq!((waits_for(&gateway), gateway.connections.len()), (0, 0));
    assert!(gateway.patience(now).unwrap() <= NOT_ACCEPTED);
    assert_eq!(gateway.patience(now + NOT_ACCEPTED), Some(Duration::ZERO));
    gateway.turn(now + NOT_ACCEPTED, |_| {});
    assert_eq!((waits_for(&gateway), gateway.connections.len()), (1, 1));
}

#[test]
fn the_gateway_has_the_addresses_that_nodes_need() {
    let gateway = |text: &str| Some(text.parse().unwrap());
    let of = |nodes: &[(IpNet, Option<IpAddr>)]| {
        addresses(nodes).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let one = net("10.20.0.10/24");
    assert_eq!(of(&[(one, gateway("10.20.0.254")), (net("10.20.0.11/24"), None)]), ["10.20.0.254/24"]);
    // None is named: the first that is free.
    assert_eq!(of(&[(net("10.20.0.1/24"), None), (net("10.20.0.2/24"), None)]), ["10.20.0.3/24"]);
    assert_eq!(
        of(&[(net("fd00::10/64"), gateway("fe80::1")), (net("fd00::1/64"), None)]),
        ["fe80::1/64", "fd00::2/64"]
    );
    let two = [(one, gateway("10.20.0.1")), (net("10.30.0.10/16"), gateway("10.30.0.1"))];
    assert_eq!(of(&two), ["10.20.0.1/24", "10.30.0.1/16"]);
}
