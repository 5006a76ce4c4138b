//! `bootwright.seed=http://192.168.1.1/w1.toml#sha256=…`: a `node.toml` on a server.
//!
//! The checksum is what makes the document trustworthy, so that neither a name nor a certificate has to: there is no resolver
//! yet, and the clock may be years behind.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

use ring::digest::{SHA256, digest};

/// Where a seed is, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedUrl {
    /// The server.
    pub server: SocketAddrV4,
    /// From its first `/`.
    pub path: String,
    sha256: [u8; 32],
}

/// Why a text is no such URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSeedUrl {
    /// Another scheme, or none.
    #[error("http:// is expected at its start")]
    Scheme,
    /// A name, or IPv6.
    #[error(
        "an IPv4 address is expected after http://, with a port or without: names cannot be looked up yet"
    )]
    Server,
    /// None, or not one.
    #[error("#sha256= and 64 hexadecimal digits are expected at its end")]
    Checksum,
}

impl FromStr for SeedUrl {
    type Err = NoSeedUrl;

    fn from_str(text: &str) -> Result<SeedUrl, NoSeedUrl> {
        let rest = text.strip_prefix("http://").ok_or(NoSeedUrl::Scheme)?;
        let (rest, checksum) = rest.split_once("#sha256=").ok_or(NoSeedUrl::Checksum)?;
        let (server, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let usual_port = |address: Ipv4Addr| SocketAddrV4::new(address, 80);
        let server = server.parse().or_else(|_| server.parse().map(usual_port));
        Ok(SeedUrl {
            server: server.map_err(|_| NoSeedUrl::Server)?,
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            sha256: bytes(checksum).ok_or(NoSeedUrl::Checksum)?,
        })
    }
}

impl SeedUrl {
    /// Whether this is the document that was meant; its checksum if not.
    pub fn check(&self, document: &[u8]) -> Result<(), String> {
        let found = digest(&SHA256, document);
        if found.as_ref() == self.sha256 {
            return Ok(());
        }
        Err(hex(found.as_ref()))
    }

    /// The checksum that is wanted, in hexadecimal digits.
    pub fn sha256(&self) -> String {
        hex(&self.sha256)
    }
}

impl fmt::Display for SeedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.server, self.path)
    }
}

fn bytes(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, place) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&digits[place..place + 2], 16).ok()?;
    }
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "6ba58f0d0ec61a6f12f7a1f0eb9a6a5c3a9d1c2d5f0f6f3bd0b0a8f2d36c0a11";

    #[test]
    fn a_url_is_an_address_a_path_and_a_checksum() {
        let read = |text: &str| format!("{text}#sha256={SUM}").parse::<SeedUrl>().map(|url| url.to_string());
        assert_eq!(
            read("http://192.168.1.1/w1.toml?x=1").as_deref(),
            Ok("http://192.168.1.1:80/w1.toml?x=1")
        );
        assert_eq!(read("http://192.168.1.1:8080").as_deref(), Ok("http://192.168.1.1:8080/"));
        assert_eq!(read("https://192.168.1.1/"), Err(NoSeedUrl::Scheme));
        for server in ["boot.example/x", "[fd00::1]/x", "192.168.1/x", "192.168.1.1:port/x", "/x"] {
            assert_eq!(read(&format!("http://{server}")), Err(NoSeedUrl::Server), "{server}");
        }
        for end in
            ["", "#sha256=", "#sha256=00", &format!("#sha256={}", "é".repeat(32)), &format!("#md5={SUM}")]
        {
            let text = format!("http://192.168.1.1/{end}");
            assert_eq!(text.parse::<SeedUrl>(), Err(NoSeedUrl::Checksum), "{text}");
        }
    }

    #[test]
    fn another_document_is_told_by_its_checksum() {
        let document = b"name = \"w1\"\n";
        let sum = hex(digest(&SHA256, document).as_ref());
        let url: SeedUrl = format!("http://192.168.1.1/#sha256={}", sum.to_uppercase()).parse().unwrap();
        assert_eq!((url.check(document), url.sha256()), (Ok(()), sum));
        assert!(url.check(b"name = \"w2\"\n").is_err());
    }
}
