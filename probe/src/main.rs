//! The program `probe`: `probe [ADDRESS:PORT]`, by default on all addresses.

use std::net::SocketAddr;
use std::process::ExitCode;

use bootwright_model::probe::TOKEN_VARIABLE;

/// Where it listens if it is not told.
const DEFAULT: &str = "[::]:8080";

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    let listen = argument.as_deref().unwrap_or(DEFAULT);
    let address: SocketAddr = match listen.parse() {
        Ok(address) => address,
        Err(error) => {
            eprintln!("probe: '{listen}' is no address to listen on ({error}); write one as 0.0.0.0:8080");
            return ExitCode::from(2);
        }
    };
    match probe::bind(address, std::env::var(TOKEN_VARIABLE).unwrap_or_default()) {
        Ok(server) => {
            eprintln!("probe: listening on {address}, TCP and UDP");
            server.run()
        }
        Err(error) => {
            eprintln!("probe: cannot listen on {address}: {error}; is another program there?");
            ExitCode::FAILURE
        }
    }
}
