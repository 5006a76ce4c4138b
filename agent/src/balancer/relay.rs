//! One connection, from a client on this machine to an API server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

/// To connect: two retransmissions of the first packet, after 1 and 3 seconds (tcp(7)), fit in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Of a connection of which one direction has ended: HTTP answers what it was asked before that, and has nothing
/// to add. What stays half open longer was forgotten by somebody.
const HALF_OPEN: Duration = Duration::from_secs(60);

/// When the kernel gives up a connection whose other side says nothing any more.
#[derive(Clone, Copy)]
pub(super) struct Alive {
    idle: Duration,
    interval: Duration,
    unacknowledged: Duration,
}

impl Alive {
    /// Gone for certain after half a minute, as watches may be silent for minutes.
    const RELAY: Alive = Alive {
        idle: Duration::from_secs(15),
        interval: Duration::from_secs(5),
        unacknowledged: Duration::from_secs(30),
    };
    /// The probe's own connection tells first.
    pub(super) const PROBE: Alive = Alive {
        idle: Duration::from_secs(3),
        interval: Duration::from_secs(2),
        unacknowledged: Duration::from_secs(9),
    };
}

/// Keep-alive and TCP_USER_TIMEOUT (tcp(7)). Without them a connection lives a little longer; that is all.
pub(super) fn keep_alive(stream: &TcpStream, alive: Alive) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(alive.idle).with_interval(alive.interval).with_retries(3);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(alive.unacknowledged));
}

/// Connects to an API server.
pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    keep_alive(&stream, Alive::RELAY);
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Passes bytes on in both directions until both have ended, one fails, or `cut` says so. What ends it ends both
/// sockets.
pub(super) async fn relay(mut client: TcpStream, mut server: TcpStream, mut cut: watch::Receiver<()>) {
    let _ = client.set_nodelay(true);
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let both = async {
        let up = pass_on(from_client, to_server);
        let down = pass_on(from_server, to_client);
        tokio::pin!(up, down);
        // Whichever ends first; an error in one ends both.
        tokio::select! {
            ended = &mut up => if ended.is_ok() { let _ = timeout(HALF_OPEN, down).await; },
            ended = &mut down => if ended.is_ok() { let _ = timeout(HALF_OPEN, up).await; },
        }
    };
    tokio::select! {
        () = both => {}
        // Also when the control plane is forgotten.
        _ = cut.changed() => {}
    }
}

/// One direction; its end is passed on too.
async fn pass_on(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}
