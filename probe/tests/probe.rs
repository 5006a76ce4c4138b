//! The program as it runs in a pod: what it tells and tries, and packets that do not fit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use bootwright_model::probe::{CHECKS_PATH, Check, Greeting, MOST_CHECKS, Outcome, TOKEN_VARIABLE};

const PROGRAM: &str = env!("CARGO_BIN_EXE_probe");
const TOKEN: &str = "7f0c";

/// Ends it whatever happens in the test.
struct Probe(Child, SocketAddr);

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start() -> Probe {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut child = Command::new(PROGRAM)
        .arg(address.to_string())
        .env(TOKEN_VARIABLE, TOKEN)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("listening"), "{line}");
    Probe(child, address)
}

/// Status and body.
fn send(to: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
}

fn post(to: SocketAddr, checks: &[Check]) -> (String, String) {
    let body = serde_json::to_string(checks).unwrap();
    send(to, &format!("POST {CHECKS_PATH}{TOKEN} HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

fn outcomes(to: SocketAddr, checks: &[Check]) -> Vec<Outcome> {
    let (status, body) = post(to, checks);
    assert_eq!(status, "200", "{body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn it_tells_who_calls_and_tries_what_it_is_asked_to() {
    let (here, there) = (start(), start());
    let (status, body) = send(here.1, "GET / HTTP/1.1\r\n\r\n");
    let greeting: Greeting = serde_json::from_str(&body).unwrap();
    assert_eq!((status.as_str(), greeting.caller.ip()), ("200", here.1.ip()));
    assert!(!greeting.host.is_empty() && !greeting.links.contains_key("lo"));

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let found = outcomes(
        here.1,
        &[
            Check::Http { to: there.1, path: "/".to_owned() },
            Check::Http { to: nobody, path: "/".to_owned() },
            Check::Datagram { to: there.1, bytes: 1400 },
            Check::Datagram { to: nobody, bytes: 1400 },
            Check::Datagram { to: there.1, bytes: 27 },
            Check::Exchange { to: there.1, bytes: b"GET /none HTTP/1.1\r\n\r\n".to_vec() },
            Check::Exchange { to: there.1, bytes: b"\x16\x03\x01 a TLS hello".to_vec() },
        ],
    );
    let Outcome::Http { local, status: 200, body } = &found[0] else { panic!("{:?}", found[0]) };
    let greeting: Greeting = serde_json::from_str(body).unwrap();
    assert_eq!(greeting.caller, *local);
    let why = |outcome: &Outcome| match outcome {
        Outcome::Failed { why } => why.clone(),
        other => panic!("{other:?}"),
    };
    assert!(why(&found[1]).contains("refused"), "{}", why(&found[1]));
    assert_eq!(found[2], Outcome::Datagram);
    assert!(why(&found[3]).contains("nobody listens"), "{}", why(&found[3]));
    assert!(why(&found[4]).contains("no room for its headers"), "{}", why(&found[4]));
    let said = |outcome: &Outcome| match outcome {
        Outcome::Exchanged { bytes } => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    };
    assert!(said(&found[5]).starts_with("HTTP/1.1 404 "), "{}", said(&found[5]));
    assert!(said(&found[6]).contains("not HTTP"), "{}", said(&found[6]));
}

#[test]
fn what_it_cannot_do_it_says() {
    let probe = start();
    let many = vec![Check::Resolve { name: "a".to_owned() }; MOST_CHECKS + 1];
    let (status, why) = post(probe.1, &many);
    assert!(status == "400" && why.contains("several requests"), "{status} {why}");
    let (status, why) =
        send(probe.1, &format!("POST {CHECKS_PATH}{TOKEN} HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}"));
    assert!(status == "400" && why.contains("not a list of checks"), "{status} {why}");
    let (status, _) =
        send(probe.1, &format!("POST {CHECKS_PATH}{TOKEN} HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"));
    assert_eq!(status, "400");
    let (status, _) = send(probe.1, &format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(40_000)));
    assert_eq!(status, "400");
    let output = Command::new(PROGRAM).arg("here").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = Command::new(PROGRAM).arg(probe.1.to_string()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is another program there?"));
}

/// Three network namespaces in a row, the second link smaller than the first: what fits comes back, what does not
/// is reported with what the router said, and is never fragmented.
#[test]
fn a_packet_that_does_not_fit_is_not_fragmented() {
    const SCRIPT: &str = r#"
set -e
mount -t tmpfs none /run
for name in here router there; do ip netns add $name; ip -n $name link set lo up; done
ip -n here link add eth0 type veth peer name left netns router
ip -n router link add right type veth peer name eth0 netns there
ip -n here addr add 10.1.0.2/24 dev eth0; ip -n router addr add 10.1.0.1/24 dev left
ip -n there addr add 10.2.0.2/24 dev eth0; ip -n router addr add 10.2.0.1/24 dev right
ip -n router link set right mtu 1400; ip -n there link set eth0 mtu 1400
for end in here/eth0 router/left router/right there/eth0; do ip -n ${end%/*} link set ${end#*/} up; done
ip -n here route add default via 10.1.0.1; ip -n there route add default via 10.2.0.1
ip netns exec router sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
ip netns exec there "$PROGRAM" 10.2.0.2:8080 & there=$!
ip netns exec here "$PROGRAM" 127.0.0.1:8080 & here=$!
trap 'kill $there $here' EXIT
for try in $(seq 100); do
    ip netns exec here bash -c ': < /dev/tcp/127.0.0.1/8080 && : < /dev/tcp/10.2.0.2/8080' 2>/dev/null && break
    sleep 0.1
done
ip netns exec here bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080; printf "%s" "$REQUEST" >&3; cat <&3'
"#;
    let to = "10.2.0.2:8080".parse().unwrap();
    let sizes = [1400, 1401, 1500, 1501];
    let checks = sizes.map(|bytes| Check::Datagram { to, bytes });
    let body = serde_json::to_string(&checks).unwrap();
    let request =
        format!("POST {CHECKS_PATH}{TOKEN} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "--", "bash", "-c", SCRIPT])
        .env("PROGRAM", PROGRAM)
        .env(TOKEN_VARIABLE, TOKEN)
        .env("REQUEST", request)
        .output()
        .unwrap();
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{answer}{}", String::from_utf8_lossy(&output.stderr));
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    let outcomes: Vec<Outcome> = serde_json::from_str(body).unwrap();
    assert_eq!(outcomes[0], Outcome::Datagram);
    for outcome in &outcomes[1..] {
        let Outcome::Failed { why } = outcome else { panic!("{outcome:?}") };
        assert!(why.contains("too large for a link") || why.contains("did not come back"), "{why}");
    }
}

/// It is on every node, beside programs that trust it.
#[test]
fn nobody_else_has_it_connect_anywhere_or_send_forever() {
    let probe = start();
    for path in ["/checks", "/checks/", "/checks/7f0", "/checks/7f0c/", "/checks/7f0cc"] {
        let (status, _) = send(probe.1, &format!("POST {path} HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]"));
        assert!(["403", "404"].contains(&status.as_str()), "{path}: {status}");
    }
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(probe.1).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    socket.send(&[1, 7, 7]).unwrap();
    socket.send(&[0, 8, 8]).unwrap();
    let mut buffer = [0; 16];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(buffer[..length], [1, 8, 8], "an answer is not answered");
}
