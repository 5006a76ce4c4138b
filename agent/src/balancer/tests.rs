//! The balancer in front of real TLS servers on loopback.

mod servers;

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::client::TlsStream;

use self::servers::{Authority, Bench, Server};
use super::*;

/// The connection ends soon, however it does.
async fn ends(mut stream: TlsStream<TcpStream>) {
    let ended = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut [0; 1])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "still open");
}

#[tokio::test]
async fn connections_go_round_among_healthy_servers_and_probes_keep_their_connection() {
    let (servers, bench) = Bench::of_two(&Authority::new()).await;
    let mut counts = [0; 2];
    for _ in 0..10 {
        let port = bench.who().await.unwrap();
        counts[servers.iter().position(|s| s.address.port() == port).unwrap()] += 1;
    }
    assert_eq!(counts, [5, 5]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(servers[0].mood.handshakes.load(Ordering::Relaxed), 5 + 1, "some five looks, one handshake");
}

#[tokio::test]
async fn a_dead_server_loses_its_connections_and_gets_none_until_it_is_back() {
    let authority = Authority::new();
    let (servers, bench) = Bench::of_two(&authority).await;
    let addresses = servers.each_ref().map(|server| server.address);
    let [first, second] = servers;
    drop(first);
    // Before any look: the connection that is refused is tried with the other.
    for _ in 0..4 {
        assert_eq!(bench.who().await.unwrap(), second.address.port());
    }
    bench.until(addresses[0], "unreachable").await;
    let _back = Server::start_at(authority.acceptor("127.0.0.1"), addresses[0]).await;
    bench.until(addresses[0], "healthy").await;
    let mut seen = [bench.who().await.unwrap(), bench.who().await.unwrap()];
    seen.sort_unstable();
    let mut all = addresses.map(|address| address.port());
    all.sort_unstable();
    assert_eq!(seen, all);
}

#[tokio::test]
async fn a_server_that_hangs_is_left_and_its_connections_are_cut() {
    let (servers, bench) = Bench::of_two(&Authority::new()).await;
    let (one, port) = bench.connect().await.unwrap();
    let (other, other_port) = bench.connect().await.unwrap();
    let hanging = servers.iter().find(|s| s.address.port() == port).unwrap();
    // It accepts and says nothing, as a machine that is out of memory does: no packet says that it is gone.
    hanging.delay(3_600_000);
    ends(one).await;
    for _ in 0..4 {
        assert_eq!(bench.who().await.unwrap(), other_port);
    }
    drop(other);
    hanging.delay(0);
    bench.until(hanging.address, "healthy").await;
}

/// Wherever they went, they would find nothing better, and connecting is more work for all.
#[tokio::test]
async fn clients_of_the_last_server_stay_when_all_are_busy() {
    let (servers, bench) = Bench::of_two(&Authority::new()).await;
    let streams = [bench.connect().await.unwrap().0, bench.connect().await.unwrap().0];
    for server in &servers {
        server.delay(3_600_000);
    }
    for server in &servers {
        bench.until(server.address, "silent").await;
    }
    let mut open = 0;
    for mut stream in streams {
        let read = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut [0; 1])).await;
        open += usize::from(read.is_err());
    }
    assert_eq!(open, 1);
}

#[tokio::test]
async fn a_server_that_is_not_ready_gets_nothing_as_long_as_another_is() {
    let (servers, bench) = Bench::of_two(&Authority::new()).await;
    let (one, port) = bench.connect().await.unwrap();
    let at = servers.iter().position(|s| s.address.port() == port).unwrap();
    let (unready, well) = (&servers[at], &servers[1 - at]);
    unready.say(500);
    ends(one).await;
    assert_eq!(bench.who().await.unwrap(), well.address.port());
    assert_eq!(bench.who().await.unwrap(), well.address.port());
    // All not ready: nobody is cut, and both are tried.
    let (two, _) = bench.connect().await.unwrap();
    well.say(500);
    bench.until(well.address, "not ready").await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(bench.who().await.is_ok());
    let (mut two, idle) = (two, &mut [0; 1]);
    assert!(tokio::time::timeout(Duration::from_millis(100), two.read(idle)).await.is_err(), "it was cut");
}

#[tokio::test]
async fn all_dead_is_a_closed_connection_until_one_is_back() {
    let authority = Authority::new();
    let acceptor = || authority.acceptor("127.0.0.1");
    let server = Server::start(acceptor()).await;
    let other = Server::start(acceptor()).await;
    let addresses = [server.address, other.address];
    drop((server, other));
    let bench = Bench::new(&authority, addresses.to_vec()).await;
    for address in addresses {
        bench.until(address, "unreachable").await;
    }
    let began = Instant::now();
    assert!(bench.who().await.is_err());
    assert!(began.elapsed() < Duration::from_secs(5), "at once, not after a timeout");
    let back = Server::start_at(acceptor(), addresses[1]).await;
    // Not healthy yet, as far as anybody knows: it is tried all the same.
    assert_eq!(bench.who().await.unwrap(), back.address.port());
    bench.until(addresses[1], "healthy").await;
}

#[tokio::test]
async fn a_stranger_is_not_healthy() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let stranger = Server::start(foreign.acceptor("127.0.0.1")).await;
    let misnamed = Server::start(authority.acceptor("127.0.0.9")).await;
    let good = Server::start(authority.acceptor("127.0.0.1")).await;
    let bench = Bench::new(&authority, vec![stranger.address, misnamed.address, good.address]).await;
    bench.until(stranger.address, "unreachable: invalid peer certificate").await;
    bench.until(misnamed.address, "unreachable: invalid peer certificate").await;
    bench.until(good.address, "healthy").await;
    for _ in 0..5 {
        assert_eq!(bench.who().await.unwrap(), good.address.port());
    }
}

#[tokio::test]
async fn learned_servers_are_used_and_forgotten_again() {
    let authority = Authority::new();
    let acceptor = || authority.acceptor("127.0.0.1");
    let (baked, added) = (Server::start(acceptor()).await, Server::start(acceptor()).await);
    let bench = Bench::new(&authority, vec![baked.address]).await;
    bench.until(baked.address, "healthy").await;
    bench.balancer.learn(vec![baked.address, added.address]);
    bench.until(added.address, "healthy").await;
    let (one, first) = bench.connect().await.unwrap();
    let (two, second) = bench.connect().await.unwrap();
    assert_ne!(first, second);
    bench.balancer.learn(Vec::new());
    assert_eq!(bench.balancer.describe().len(), 2, "nothing known is not nothing there");
    bench.balancer.learn(vec![baked.address]);
    ends(if first == added.address.port() { one } else { two }).await;
    assert_eq!(bench.who().await.unwrap(), baked.address.port());
    assert_eq!(bench.balancer.describe().len(), 1);
}

#[tokio::test]
async fn half_of_a_connection_may_end_before_the_other() {
    let authority = Authority::new();
    // Says what it heard once it has heard all of it.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let bench = Bench::new(&authority, vec![listener.local_addr().unwrap()]).await;
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut heard = Vec::new();
                tcp.read_to_end(&mut heard).await.unwrap();
                tcp.write_all(&heard).await.unwrap();
            });
        }
    });
    let mut client = TcpStream::connect(bench.entry).await.unwrap();
    let sent = vec![7; 1 << 20];
    client.write_all(&sent).await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, sent);
}

#[tokio::test]
async fn connections_beyond_the_most_wait_and_are_served_then() {
    let authority = Authority::new();
    let server = Server::start(authority.acceptor("127.0.0.1")).await;
    let bench = Bench::new(&authority, vec![server.address]).await;
    bench.until(server.address, "healthy").await;
    let mut idle = Vec::new();
    for _ in 0..MOST_CONNECTIONS {
        idle.push(TcpStream::connect(bench.entry).await.unwrap());
    }
    bench.until(server.address, &format!("healthy, {MOST_CONNECTIONS} connections")).await;
    let waiting = bench.who();
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut waiting).await.is_err());
    idle.pop();
    assert_eq!(waiting.await.unwrap(), server.address.port());
}

#[tokio::test]
async fn it_listens_on_both_loopback_addresses() {
    let listeners = listen(0).await.unwrap();
    let port = listeners[0].local_addr().unwrap().port();
    for listener in &listeners {
        let address = listener.local_addr().unwrap();
        assert!(address.ip().is_loopback() && address.port() == port);
    }
    assert!(listen(port).await.is_err());
}
