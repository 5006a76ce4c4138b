//! As much of HTTP/1.1 (RFC 9112) as a probe needs: one request a connection, with a body of known length.

use std::io::{Read, Write};

use bootwright_model::probe::MOST_CHECKS;
use serde::Serialize;

/// The API server's proxy passes on a handful of fields.
const MOST_FIELDS: usize = 64;
/// Bytes of a request's head.
const MOST_HEAD: usize = 16 << 10;
/// Bytes of a request's body: checks with a handshake each, and room.
const MOST_BODY: usize = MOST_CHECKS * (8 << 10);

/// A request.
pub struct Request {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub body: Vec<u8>,
}

/// Reads a request; what is wrong with it, in words, is for its sender.
pub fn read(stream: &mut impl Read) -> std::io::Result<Result<Request, String>> {
    let mut bytes = Vec::new();
    let (mut request, length, head) = loop {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut parser = httparse::Request::new(&mut fields);
        match parser.parse(&bytes) {
            Ok(httparse::Status::Complete(head)) => {
                let length = match content_length(parser.headers) {
                    Ok(length) => length,
                    Err(why) => return Ok(Err(why)),
                };
                let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
                let request =
                    Request { method: text(parser.method), path: text(parser.path), body: Vec::new() };
                break (request, length, head);
            }
            Ok(httparse::Status::Partial) if bytes.len() > MOST_HEAD => {
                return Ok(Err(format!("the request's head is longer than {MOST_HEAD} bytes")));
            }
            Ok(httparse::Status::Partial) => read_more(stream, &mut bytes)?,
            Err(error) => return Ok(Err(format!("not HTTP: {error}"))),
        }
    };
    while bytes.len() < head + length {
        read_more(stream, &mut bytes)?;
    }
    request.body = bytes[head..head + length].to_vec();
    Ok(Ok(request))
}

fn content_length(fields: &[httparse::Header]) -> Result<usize, String> {
    let field = |name: &str| fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    if field("Transfer-Encoding").is_some() {
        return Err("a body needs a Content-Length".to_owned());
    }
    let Some(length) = field("Content-Length") else { return Ok(0) };
    let length = std::str::from_utf8(length.value).ok().and_then(|text| text.trim().parse::<usize>().ok());
    match length {
        Some(length) if length <= MOST_BODY => Ok(length),
        _ => Err(format!("the body's length is no number up to {MOST_BODY}")),
    }
}

fn read_more(stream: &mut impl Read, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        count => {
            bytes.extend_from_slice(&buffer[..count]);
            Ok(())
        }
    }
}

/// An answer.
pub struct Response {
    status: u16,
    kind: &'static str,
    body: Vec<u8>,
}

impl Response {
    /// A value, status 200.
    pub fn json(value: &impl Serialize) -> Response {
        let body =
            serde_json::to_vec(value).expect("the probe's types have nothing that JSON cannot express");
        Response { status: 200, kind: "application/json", body }
    }

    /// A sentence for people.
    pub fn words(status: u16, words: String) -> Response {
        Response { status, kind: "text/plain; charset=utf-8", body: (words + "\n").into_bytes() }
    }

    /// Writes it; the connection ends with it.
    pub fn write(&self, stream: &mut impl Write) -> std::io::Result<()> {
        let reason = if self.status == 200 { "OK" } else { "No" };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.status,
            self.kind,
            self.body.len()
        );
        stream.write_all(&[head.as_bytes(), &self.body].concat())?;
        stream.flush()
    }
}
