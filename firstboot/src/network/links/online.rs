//! Whether the API answers, as far as that can be said without waiting for it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take. The API of a cluster that is starting comes up later, and nothing waits for it here.
const PATIENCE: Duration = Duration::from_millis(100);

/// A phrase for the report. The address is given to the kernel's own TCP: what it says is what the node's services will
/// find.
pub fn endpoint(endpoint: SocketAddr) -> String {
    match TcpStream::connect_timeout(&endpoint, PATIENCE) {
        Ok(_) => format!("the API at {endpoint} answers"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            format!("{} answers, its API not yet", endpoint.ip())
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            format!("the API at {endpoint} does not answer yet")
        }
        Err(error) => format!("the API at {endpoint} is not reached: {error}"),
    }
}
