//! What was seen on a link without an address.

use std::fmt;

/// Most notes that are kept.
const MOST_NOTES: usize = 4;

/// Whom is asked for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A DHCPv4 server.
    Server,
    /// A router, which says what is next (RFC 4861).
    Router,
}

/// What was seen on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whom was asked.
    pub asked: Asked,
    /// There was a carrier.
    pub carrier: bool,
    /// Messages that were sent.
    pub sent: u32,
    /// What was answered and of no use, the last of each kind.
    pub notes: Vec<String>,
}

impl Seen {
    /// Nothing yet.
    pub fn of(asked: Asked) -> Seen {
        Seen { asked, carrier: false, sent: 0, notes: Vec::new() }
    }

    /// For a person.
    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        self.notes.retain(|known| *known != note);
        self.notes.push(note);
        // What is said again and again is of no more interest than once.
        if self.notes.len() > MOST_NOTES {
            self.notes.remove(0);
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.notes.is_empty() {
            return write!(f, "{}", self.notes.join(", "));
        }
        match (self.carrier, self.asked) {
            (false, _) => write!(f, "no carrier"),
            (true, Asked::Server) => write!(f, "no answer to {} requests", self.sent),
            (true, Asked::Router) => write!(f, "no router answers {} solicitations", self.sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_told_in_few_words() {
        let (mut server, mut router) = (Seen::of(Asked::Server), Seen::of(Asked::Router));
        assert_eq!([server.to_string(), router.to_string()], ["no carrier", "no carrier"]);
        for seen in [&mut server, &mut router] {
            seen.carrier = true;
            seen.sent = 3;
        }
        assert_eq!(server.to_string(), "no answer to 3 requests");
        assert_eq!(router.to_string(), "no router answers 3 solicitations");
        for note in ["a", "b", "a", "c", "d", "e"] {
            router.note(note);
        }
        assert_eq!(router.to_string(), "a, c, d, e");
    }
}
