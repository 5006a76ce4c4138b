//! A document of a corpus with a few changes. The engine chooses the changes, not the bytes: random bytes are refused by
//! the first lines of every parser.

use bolero::TypeGenerator;

use crate::corpus::Corpus;

/// One change. Places and lengths beyond the end begin again at the start.
#[derive(Debug, Clone, TypeGenerator)]
pub enum Edit {
    /// Another byte.
    Set { at: u16, byte: u8 },
    /// A word of the format in between.
    Insert { at: u16, word: u8 },
    /// A part left out.
    Cut { at: u16, length: u8 },
    /// A part written again, many times over.
    Repeat { at: u16, length: u8, times: u8 },
    /// A part of another document in between.
    Splice { at: u16, document: u8, from: u16, length: u8 },
    /// The end, too early.
    End { at: u16 },
}

/// A document with changes.
#[derive(Debug, Clone, TypeGenerator)]
pub struct Mutated {
    document: u8,
    edits: [Option<Edit>; 4],
}

impl Mutated {
    /// The bytes.
    pub fn of(&self, corpus: &Corpus) -> Vec<u8> {
        let mut bytes = corpus.document(self.document).to_vec();
        for edit in self.edits.iter().flatten() {
            apply(edit, &mut bytes, corpus);
        }
        bytes
    }
}

fn apply(edit: &Edit, bytes: &mut Vec<u8>, corpus: &Corpus) {
    let place = |at: u16| usize::from(at) % (bytes.len() + 1);
    match *edit {
        Edit::Set { at, byte } => {
            let at = place(at);
            if let Some(one) = bytes.get_mut(at) {
                *one = byte;
            }
        }
        Edit::Insert { at, word } => insert(bytes, place(at), corpus.word(word)),
        Edit::Cut { at, length } => {
            let part = part(bytes, at, length);
            bytes.drain(part);
        }
        Edit::Repeat { at, length, times } => {
            let part = bytes[part(bytes, at, length)].repeat(usize::from(times));
            insert(bytes, place(at), &part);
        }
        Edit::Splice { at, document, from, length } => {
            let other = corpus.document(document);
            insert(bytes, place(at), &other[part(other, from, length)]);
        }
        Edit::End { at } => {
            let at = place(at);
            bytes.truncate(at);
        }
    }
}

fn part(bytes: &[u8], at: u16, length: u8) -> std::ops::Range<usize> {
    let start = usize::from(at) % (bytes.len() + 1);
    start..(start + usize::from(length)).min(bytes.len())
}

fn insert(bytes: &mut Vec<u8>, at: usize, part: &[u8]) {
    bytes.splice(at..at, part.iter().copied());
}
