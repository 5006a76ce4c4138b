//! `/healthz` for the supervisor's probe and for people: 200 as soon as the balancer takes connections, with a
//! line for each control plane. Whether one of them answers does not count: restarting the agent would not help.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::balancer::Balancer;

/// Of one connection: it is asked once or twice.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at a time.
const MOST_CONNECTIONS: usize = 8;

/// Listens on 127.0.0.1.
pub async fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await
}

/// Answers for ever.
pub async fn serve(listener: TcpListener, balancer: Arc<Balancer>) {
    let free = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let balancer = Arc::clone(&balancer);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &balancer));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A client that does not read, or keeps the connection, is its own trouble.
            let _ = timeout(PATIENCE, connection).await;
            drop(permit);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    balancer: &Balancer,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    if request.uri().path() == "/healthz" {
        let mut text = "ok\n".to_owned();
        for line in balancer.describe() {
            text.push_str(&line);
            text.push('\n');
        }
        *response.body_mut() = Full::from(text);
    } else {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}
