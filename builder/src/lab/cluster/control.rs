//! The control socket of a lab: one JSON line asks, one answers.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Status;
use super::folder::{CONTROL, Folder};
use crate::lab::Error;
use crate::lab::switch::Fault;

/// How long the supervisor may take for what it is asked: at most to make and start a machine.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a client may take to write its line.
const QUESTION: Duration = Duration::from_secs(5);
/// Pause after a connection could not be accepted, for want of descriptors say: the next attempt would fail at once.
const NOT_ACCEPTED: Duration = Duration::from_millis(100);
/// Bytes of a line at most.
const LINE: u64 = 64 << 10;

/// What a lab is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Tell the state.
    Status,
    /// Press the power button of a node's machine; it stops later.
    Stop(String),
    /// Pull its plug.
    Kill(String),
    /// Switch it on.
    Start {
        /// Name of the node.
        node: String,
        /// With the image as it was built, on an empty disk.
        reflash: bool,
    },
    /// Make something go wrong on the switch.
    Add {
        /// Name of a node, or `outside`.
        one: String,
        /// The other end; everything of the first if absent.
        other: Option<String>,
        /// What.
        fault: Fault,
    },
    /// Take faults away: of one, between two, or all.
    Heal {
        /// Name of a node, or `outside`.
        one: Option<String>,
        /// The other end.
        other: Option<String>,
    },
    /// End the lab.
    Down {
        /// Pull the plugs instead of pressing the power buttons.
        force: bool,
    },
}

/// What a lab answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is done, or has begun. With the state afterwards.
    Done(Box<Status>),
    /// It cannot be done.
    Refused(String),
}

/// A question, and where its answer goes.
pub type Question = (Request, Sender<Answer>);

/// Listens in the folder, in a thread that lives as long as the process; questions come out of the receiver.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(folder: &Folder) -> Result<Receiver<Question>, Error> {
    let path = folder.path().join(CONTROL);
    // A socket address holds 108 bytes; the folder of a clone may be deeper, the path of a descriptor is not.
    let opened = File::open(folder.path()).map_err(Error::file("read", folder.path()))?;
    let below = format!("/proc/self/fd/{}/{CONTROL}", opened.as_raw_fd());
    let listener = UnixListener::bind(below).map_err(Error::file("make", &path))?;
    let (send, receive) = mpsc::channel();
    let accept = move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                std::thread::sleep(NOT_ACCEPTED);
                continue;
            };
            let send = send.clone();
            // One that is slow holds nobody up. A client that goes away is no error.
            let _ = std::thread::Builder::new().spawn(move || drop(talk(&stream, &send)));
        }
    };
    let thread = std::thread::Builder::new().name("control".to_owned()).spawn(accept);
    thread.map_err(Error::file("make", "a thread"))?;
    Ok(receive)
}

fn talk(mut stream: &UnixStream, send: &Sender<Question>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(QUESTION))?;
    stream.set_write_timeout(Some(QUESTION))?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE)).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => {
            let (reply, receive) = mpsc::channel();
            let sent = send.send((request, reply)).is_ok();
            let answer = sent.then(|| receive.recv_timeout(ANSWER).ok()).flatten();
            answer.unwrap_or_else(|| Answer::Refused("the lab is ending, or does not answer".to_owned()))
        }
        Err(error) => Answer::Refused(format!("not a request: {error}")),
    };
    let text = serde_json::to_string(&answer).expect("an answer is strings and numbers");
    stream.write_all(text.as_bytes())?;
    stream.write_all(b"\n")
}

/// Connects to the lab of a folder.
///
/// # Errors
/// None is running.
pub fn connect(folder: &Folder) -> Result<UnixStream, Error> {
    folder.running()?;
    let path = folder.path().join(CONTROL);
    let opened = File::open(folder.path()).map_err(Error::file("read", folder.path()))?;
    let below = format!("/proc/self/fd/{}/{CONTROL}", opened.as_raw_fd());
    UnixStream::connect(below).map_err(Error::file("connect to", path))
}

/// Asks over a connection and returns the state afterwards. One question per connection.
///
/// # Errors
/// It is refused, or no answer comes.
pub fn ask_over(mut stream: &UnixStream, request: &Request) -> Result<Status, Error> {
    let broken = |reason: String| Error::State(format!("the lab's supervisor does not answer: {reason}"));
    let text = serde_json::to_string(request).expect("a request is strings and numbers") + "\n";
    let mut line = String::new();
    stream
        .set_read_timeout(Some(ANSWER + QUESTION))
        .and_then(|()| stream.write_all(text.as_bytes()))
        .and_then(|()| BufReader::new(stream).read_line(&mut line))
        .map_err(|error| broken(error.to_string()))?;
    match serde_json::from_str(&line) {
        Ok(Answer::Done(status)) => Ok(*status),
        Ok(Answer::Refused(reason)) => Err(Error::State(reason)),
        Err(error) => Err(broken(error.to_string())),
    }
}

/// Asks the lab of a folder.
///
/// # Errors
/// As [`connect`] and [`ask_over`].
pub fn ask(folder: &Folder, request: &Request) -> Result<Status, Error> {
    ask_over(&connect(folder)?, request)
}

#[cfg(test)]
mod tests {
    use super::super::folder::Record;
    use super::super::status::tests::status;
    use super::*;

    #[test]
    fn questions_are_answered_refused_and_nonsense_is_told() {
        let output = tempfile::tempdir().unwrap();
        let folder = Folder::of(output.path());
        assert!(ask(&folder, &Request::Status).unwrap_err().to_string().contains("no lab"));
        let _lock = folder.take().unwrap();
        folder.record(&Record { process_id: 1, nodes: Vec::new(), forwards: Vec::new() }).unwrap();
        let questions = serve(&folder).unwrap();
        let lab = std::thread::spawn(move || {
            for (request, reply) in questions.iter().take(2) {
                let answer = match request {
                    Request::Status => Answer::Done(Box::new(status(Vec::new()))),
                    other => Answer::Refused(format!("{other:?}")),
                };
                reply.send(answer).unwrap();
            }
        });
        assert_eq!(ask(&folder, &Request::Status).unwrap(), status(Vec::new()));
        let cut = Request::Add { one: "cp1".to_owned(), other: None, fault: Fault::Loss(2.5) };
        assert!(ask(&folder, &cut).unwrap_err().to_string().contains("Loss(2.5)"));
        lab.join().unwrap();
        let mut stream = connect(&folder).unwrap();
        stream.write_all(b"nonsense\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert!(line.contains("not a request"), "{line}");
        // Nobody is there to answer any more.
        assert!(ask(&folder, &Request::Status).unwrap_err().to_string().contains("ending"));
    }
}
