//! A server on loopback that answers as it is told to.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tiny_http::{Header, Method, Response, Server};

use super::{Port, Service};

/// One answer.
#[derive(Debug, Clone)]
pub struct Route {
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    status: u16,
    body: Vec<u8>,
    location: Option<String>,
    delay: Duration,
    /// How often it answers 503 first.
    busy: usize,
}

impl Route {
    /// The answer to a GET.
    pub fn get(path: &str, body: &str) -> Route {
        Route::of(Method::Get, path, body)
    }

    /// The answer to a PUT.
    pub fn put(path: &str, body: &str) -> Route {
        Route::of(Method::Put, path, body)
    }

    /// The answer to a POST.
    pub fn post(path: &str) -> Route {
        Route::of(Method::Post, path, "")
    }

    fn of(method: Method, path: &str, body: &str) -> Route {
        Route {
            method,
            path: path.to_owned(),
            headers: Vec::new(),
            status: 200,
            body: body.as_bytes().to_vec(),
            location: None,
            delay: Duration::ZERO,
            busy: 0,
        }
    }

    /// Only with this header; 401 without.
    pub fn with(mut self, (name, value): (&str, &str)) -> Route {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With another status.
    pub fn status(self, status: u16) -> Route {
        Route { status, ..self }
    }

    /// With this body, whatever it is.
    pub fn body(self, body: Vec<u8>) -> Route {
        Route { body, ..self }
    }

    /// A redirect.
    pub fn to(self, location: &str) -> Route {
        Route { status: 302, location: Some(location.to_owned()), ..self }
    }

    /// So much later.
    pub fn after(self, delay: Duration) -> Route {
        Route { delay, ..self }
    }

    /// After as many answers of 503.
    pub fn busy(self, busy: usize) -> Route {
        Route { busy, ..self }
    }
}

/// The service; it ends with its value.
pub struct Mock {
    server: Arc<Server>,
    thread: Option<JoinHandle<Vec<SocketAddr>>>,
}

impl Mock {
    /// Answers with these, and 404 to everything else.
    pub fn of(routes: Vec<Route>) -> Mock {
        let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
        let thread = std::thread::spawn({
            let server = Arc::clone(&server);
            move || serve(&server, routes)
        });
        Mock { server, thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        match self.server.server_addr().to_ip() {
            Some(SocketAddr::V4(address)) => address,
            other => panic!("listens at {other:?}"),
        }
    }

    /// A client of it.
    pub fn service(&self) -> Service {
        Service::new(self.address(), Port::Any, Instant::now() + Duration::from_secs(60))
    }

    /// Ends it. Who asked, one for each request.
    pub fn clients(mut self) -> Vec<SocketAddr> {
        self.end()
    }

    fn end(&mut self) -> Vec<SocketAddr> {
        self.server.unblock();
        self.thread.take().map_or(Vec::new(), |thread| thread.join().unwrap())
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.end();
    }
}

fn serve(server: &Server, mut routes: Vec<Route>) -> Vec<SocketAddr> {
    let mut clients = Vec::new();
    // Ends when it is unblocked.
    for request in server.incoming_requests() {
        clients.extend(request.remote_addr().copied());
        let route =
            routes.iter_mut().find(|route| route.method == *request.method() && route.path == request.url());
        let answer = route.map_or_else(
            || Response::from_data("<html>not here</html>").with_status_code(404),
            |route| answer(route, request.headers()),
        );
        // A client that has given up does not hear it.
        let _ = request.respond(answer);
    }
    clients
}

fn answer(route: &mut Route, headers: &[Header]) -> Response<std::io::Cursor<Vec<u8>>> {
    let has = |name: &str, value: &str| {
        headers.iter().any(|header| {
            header.field.as_str().as_str().eq_ignore_ascii_case(name) && header.value.as_str() == value
        })
    };
    if !route.headers.iter().all(|(name, value)| has(name, value)) {
        return Response::from_data("").with_status_code(401);
    }
    std::thread::sleep(route.delay);
    if route.busy > 0 {
        route.busy -= 1;
        return Response::from_data("later").with_status_code(503);
    }
    let mut response = Response::from_data(route.body.clone()).with_status_code(route.status);
    if let Some(location) = &route.location {
        response.add_header(Header::from_bytes("Location", location.as_bytes()).unwrap());
    }
    response
}
