use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::services::mailbox::Mailbox;

/// A server on loopback that answers its connections with what `answer` gives for the n-th request.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

fn answer(
    stream: &mut (impl Read + Write),
    requests: &AtomicUsize,
    answer: fn(usize) -> (u16, &'static str),
) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|n| n > 0) && !line.ends_with("\r\n\r\n") {}
        if line.is_empty() {
            return;
        }
        assert!(line.starts_with("GET /readyz HTTP/1.1\r\n"), "{line}");
        let (status, body) = answer(requests.fetch_add(1, Ordering::SeqCst));
        let text = format!("HTTP/1.1 {status} Words\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if reader.get_mut().write_all(text.as_bytes()).and_then(|()| reader.get_mut().flush()).is_err() {
            return;
        }
    }
}

impl Server {
    fn start(tls: Option<Arc<rustls::ServerConfig>>, answers: fn(usize) -> (u16, &'static str)) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        thread::spawn(move || {
            let requests = AtomicUsize::new(0);
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                match &tls {
                    None => answer(&mut stream, &requests, answers),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
                        answer(&mut rustls::StreamOwned::new(connection, stream), &requests, answers);
                    }
                }
            }
        });
        Server { address, connections }
    }

    fn target(&self) -> String {
        format!("{}/readyz", self.address)
    }
}

/// A CA, written to `folder`, and a server certificate of it for 127.0.0.1.
fn authority(folder: &Path) -> (std::path::PathBuf, Arc<rustls::ServerConfig>) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
    let ca_key = KeyPair::generate().unwrap();
    let mut ca_params = CertificateParams::new(Vec::new()).unwrap();
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = ca_params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca_params, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let path = folder.join("ca.crt");
    std::fs::write(&path, ca.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    (path, Arc::new(config))
}

fn third_is_good(n: usize) -> (u16, &'static str) {
    match n {
        0 => (500, "[+]ping ok\n[-]etcd failed: reason withheld\nhealthz check failed\n"),
        1 => (403, "forbidden"),
        _ => (200, "ok"),
    }
}

fn not_ready(look: Look) -> String {
    match look {
        Look::NotReady(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn https_is_verified_and_keeps_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, config) = authority(folder.path());
    let server = Server::start(Some(config), third_is_good);
    let mut looker = Looker::new(&Readiness::Https(server.target()), &ca);
    let reason = not_ready(looker.look());
    assert!(reason.ends_with("answers 500: [-]etcd failed: reason withheld"), "{reason}");
    assert!(not_ready(looker.look()).ends_with("answers 403: forbidden"));
    assert_eq!(looker.look(), Look::Ready);
    assert_eq!(
        server.connections.load(Ordering::SeqCst),
        2,
        "one to see that it listens, one for all requests"
    );
}

#[test]
fn https_of_another_authority_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let (_, config) = authority(folder.path());
    let (other_ca, _) = authority(folder.path());
    let server = Server::start(Some(config), |_| (200, "ok"));
    let mut looker = Looker::new(&Readiness::Https(server.target()), &other_ca);
    let reason = not_ready(looker.look());
    assert!(reason.to_lowercase().contains("certificate"), "{reason}");
    let mut looker = Looker::new(&Readiness::Https(server.target()), &folder.path().join("absent"));
    assert!(not_ready(looker.look()).contains("absent"));
}

#[test]
fn http_follows_the_answers() {
    let server = Server::start(None, third_is_good);
    let mut looker = Looker::new(&Readiness::Http(server.target()), Path::new("/nowhere"));
    assert!(matches!(looker.look(), Look::NotReady(_)));
    assert!(matches!(looker.look(), Look::NotReady(_)));
    assert_eq!(looker.look(), Look::Ready);
}

#[test]
fn nobody_listening_is_told_from_not_ready() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut looker = Looker::new(&Readiness::Tcp(address.clone()), Path::new("/nowhere"));
    assert_eq!(looker.look(), Look::Ready);
    drop(listener);
    let refused = Look::NotListening(format!("{address}: Connection refused (os error 111)"));
    assert_eq!(looker.look(), refused);
    let mut looker = Looker::new(&Readiness::Http(format!("{address}/healthz")), Path::new("/nowhere"));
    assert_eq!(looker.look(), refused);
}

#[test]
fn unix_sockets_of_both_kinds_count() {
    use std::os::unix::net::{UnixDatagram, UnixListener};
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let look = |name: &str| Looker::new(&Readiness::Unix(path(name)), Path::new("/nowhere")).look();
    assert!(matches!(look("absent"), Look::NotListening(_)));
    let stream = UnixListener::bind(path("stream")).unwrap();
    let _datagram = UnixDatagram::bind(path("datagram")).unwrap();
    assert_eq!(look("stream"), Look::Ready);
    assert_eq!(look("datagram"), Look::Ready);
    drop(stream);
    assert!(matches!(look("stream"), Look::NotListening(_)), "a socket file that nobody listens on");
}

#[test]
fn a_probe_reports_reasons_once_and_ends_when_ready() {
    let server = Server::start(None, |n| if n < 3 { (500, "same") } else { (200, "ok") });
    let mailbox = Mailbox::new().unwrap();
    let current = Arc::new(AtomicU32::new(7));
    let readiness = Readiness::Http(server.target());
    let probe = Probe { service: 4, run: 7, readiness, ca: "/nowhere".into(), current };
    probe.run(&mailbox.post());
    let reason = format!("http://{} answers 500: same", server.target());
    assert_eq!(mailbox.drain(), [Message::NotReady(4, 7, reason), Message::Ready(4, 7)]);
}

#[test]
fn a_probe_of_a_run_that_is_over_ends() {
    let mailbox = Mailbox::new().unwrap();
    let current = Arc::new(AtomicU32::new(8));
    let readiness = Readiness::Unix("/nowhere/socket".to_owned());
    let probe = Probe { service: 0, run: 7, readiness, ca: "/nowhere".into(), current };
    probe.run(&mailbox.post());
    assert_eq!(mailbox.drain(), []);
}

#[test]
fn looks_become_rarer_the_longer_it_takes() {
    let seconds = Duration::from_secs;
    assert_eq!(pause(CONNECT_INTERVAL, seconds(0)), CONNECT_INTERVAL[0]);
    assert_eq!(pause(CONNECT_INTERVAL, seconds(10)), Duration::from_millis(200));
    assert_eq!(pause(REQUEST_INTERVAL, seconds(600)), REQUEST_INTERVAL[1]);
}
