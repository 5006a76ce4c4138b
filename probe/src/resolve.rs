//! Names, as the programs of a pod ask for them: of the first resolver in `/etc/resolv.conf`. A static program has no
//! resolver of the C library's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bootwright_model::probe::Outcome;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const DNS_PORT: u16 = 53;
/// Any number: one question a socket, whose port others would have to guess.
const QUERY: u16 = 0x6277;
/// Before a question is asked again.
const AGAIN: Duration = Duration::from_millis(1500);

/// Asks for the addresses of a name, of both families.
pub fn addresses(name: &str, deadline: Instant) -> Result<Outcome, String> {
    let text = std::fs::read_to_string(RESOLV_CONF)
        .map_err(|error| format!("cannot read {RESOLV_CONF}: {error}"))?;
    let Some(server) = first_resolver(&text) else { return Err(format!("no nameserver in {RESOLV_CONF}")) };
    let resolver = SocketAddr::new(server, DNS_PORT);
    ask_both(name, resolver, deadline).map(|addresses| Outcome::Resolved { resolver, addresses })
}

/// The address of the first line `nameserver` (resolv.conf(5)).
fn first_resolver(text: &str) -> Option<IpAddr> {
    text.lines().find_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok())
}

/// Any address will do; that there is none is told as the resolver says it.
pub(crate) fn ask_both(name: &str, resolver: SocketAddr, deadline: Instant) -> Result<Vec<IpAddr>, String> {
    let mut found = ask(name, TYPE::A, resolver, deadline)?;
    // A cluster of IPv4 has no AAAA, and some servers answer nothing at all to that question.
    if found.is_empty() {
        found = ask(name, TYPE::AAAA, resolver, deadline)?;
    }
    if found.is_empty() { Err(format!("{resolver} knows {name}, and no address of it")) } else { Ok(found) }
}

fn ask(name: &str, kind: TYPE, resolver: SocketAddr, deadline: Instant) -> Result<Vec<IpAddr>, String> {
    let mut packet = Packet::new_query(QUERY);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let wanted = Name::new(name).map_err(|error| format!("{name} is no name: {error}"))?;
    packet.questions.push(Question::new(wanted, QTYPE::TYPE(kind), CLASS::IN.into(), false));
    let question = packet.build_bytes_vec().map_err(|error| format!("{name} makes no question: {error}"))?;
    let any: IpAddr =
        if resolver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let failed = |error: std::io::Error| format!("cannot ask {resolver}: {error}");
    let socket = UdpSocket::bind((any, 0)).map_err(failed)?;
    socket.connect(resolver).map_err(failed)?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("{resolver} does not answer"));
        }
        socket.set_read_timeout(Some(left.min(AGAIN))).map_err(failed)?;
        socket.send(&question).map_err(failed)?;
        match socket.recv(&mut buffer) {
            Ok(length) => return read(name, &buffer[..length]).map_err(|why| format!("{resolver}: {why}")),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

fn read(name: &str, answer: &[u8]) -> Result<Vec<IpAddr>, String> {
    let packet = Packet::parse(answer).map_err(|error| format!("its answer is not DNS: {error}"))?;
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Err(format!("there is no name {name}")),
        other => return Err(format!("it refuses to say what {name} is ({other:?})")),
    }
    let address = |data: &RData| match data {
        RData::A(v4) => Some(IpAddr::V4(Ipv4Addr::from(v4.address))),
        RData::AAAA(v6) => Some(IpAddr::V6(Ipv6Addr::from(v6.address))),
        _ => None,
    };
    Ok(packet.answers.iter().filter_map(|record| address(&record.rdata)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_resolver_counts() {
        let text = "search a.local\n# nameserver 10.0.0.1\nnameserver 10.96.0.10\nnameserver 10.0.0.2\n";
        assert_eq!(first_resolver(text), Some("10.96.0.10".parse().unwrap()));
        assert_eq!(first_resolver("options ndots:5\n"), None);
    }

    /// A resolver on loopback that answers each question with these addresses, or that there is no such name.
    fn resolver(addresses: Option<Vec<Ipv4Addr>>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            let question = Packet::parse(&buffer[..length]).unwrap();
            let mut answer = Packet::new_reply(question.id());
            let name = question.questions[0].qname.clone();
            match &addresses {
                None => *answer.rcode_mut() = RCODE::NameError,
                Some(addresses) => {
                    for address in addresses {
                        let data = RData::A((*address).into());
                        answer.answers.push(simple_dns::ResourceRecord::new(
                            name.clone(),
                            CLASS::IN,
                            5,
                            data,
                        ));
                    }
                }
            }
            socket.send_to(&answer.build_bytes_vec().unwrap(), from).unwrap();
        });
        address
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(3)
    }

    #[test]
    fn a_name_has_the_addresses_that_the_resolver_says() {
        let address = Ipv4Addr::new(10, 96, 0, 1);
        let name = "kubernetes.default.svc.cluster.local";
        assert_eq!(ask_both(name, resolver(Some(vec![address])), soon()), Ok(vec![IpAddr::V4(address)]));
        let error = ask_both(name, resolver(None), soon()).unwrap_err();
        assert!(error.ends_with("there is no name kubernetes.default.svc.cluster.local"), "{error}");
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = ask_both(name, nobody, Instant::now() + Duration::from_millis(300)).unwrap_err();
        assert!(error.contains("cannot ask") || error.contains("does not answer"), "{error}");
    }
}
