//! TOML syntax errors, all of them.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::finding::{Finding, Place};

/// What the parser says about two elements without a comma between them.
const COMMA: &str = "missing comma";

/// A document as far as it could be parsed.
pub struct Syntax<'a> {
    /// What the parser made of it.
    pub document: Spanned<DeTable<'a>>,
    /// Its errors.
    pub findings: Vec<Finding>,
    /// Where the parser guessed: what it made of these bytes is not to be believed.
    pub guessed: Vec<Range<usize>>,
}

/// Parses as much as can be. After the first error of a line the others on it are mostly its echo and
/// are left out.
pub fn parse(text: &str) -> Syntax<'_> {
    let (document, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map(|span| span.start));
    let is_unclosed = errors.iter().any(|error| error.message().contains("unclosed array"));
    let mut syntax = Syntax { document, findings: Vec::new(), guessed: Vec::new() };
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        let mut guessed = line_of(text, span.start);
        if syntax.guessed.iter().any(|earlier| earlier.start <= guessed.start && guessed.end <= earlier.end) {
            continue;
        }
        if is_unclosed && error.message().contains(COMMA) {
            // An unclosed list swallows the rest of the file.
            guessed.end = text.len();
        }
        syntax.guessed.push(guessed);
        syntax.findings.push(finding(error.message(), span));
    }
    syntax
}

fn finding(message: &str, span: Range<usize>) -> Finding {
    let is_empty = span.is_empty() && message.contains("must be quoted");
    let (message, help) = if is_empty {
        ("there is no value".to_owned(), "write one behind the equals sign, or leave the key out")
    } else {
        (format!("not TOML: {message}"), help(message))
    };
    Finding::new("syntax", message).label(Place::Bytes(span), "here").help(help)
}

/// Bytes of the line that `offset` is on, without its end.
pub fn line_of(text: &str, offset: usize) -> Range<usize> {
    let offset = offset.min(text.len());
    let start = text.as_bytes()[..offset].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let end = text.as_bytes()[offset..].iter().position(|byte| *byte == b'\n');
    start..end.map_or(text.len(), |length| offset + length)
}

fn help(message: &str) -> &'static str {
    match message {
        _ if message.contains("must be quoted") => "put the value in double quotes",
        _ if message.contains("duplicate key") => "keep one of the two",
        _ if message.contains(COMMA) => {
            "put a comma between two elements, or close the list before this line with `]`"
        }
        _ if message.contains("unclosed array") || message.contains("in array") => {
            "close the list with `]`, with commas between its elements"
        }
        _ if message.contains("unclosed table") => "close the section's name with `]`",
        _ if message.contains("basic string") || message.contains("literal string") => {
            "close the string with the quote that it began with, on the same line"
        }
        _ => "write `key = value`, one per line, below a `[section]`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_with_an_error_is_named_once() {
        let Syntax { document, findings, .. } = parse("a = harbor\nb = \"open\nc = 3\nc = 4\nd = = =\n");
        let places: Vec<_> = findings.iter().map(|finding| finding.labels[0].place.clone()).collect();
        assert_eq!(places.len(), 4, "{findings:#?}");
        assert!(document.get_ref().contains_key("c"));
    }

    #[test]
    fn lines_are_cut_at_their_ends() {
        let text = "one\ntwo\nthree";
        assert_eq!(&text[line_of(text, 5)], "two");
        assert_eq!(&text[line_of(text, 3)], "one");
        assert_eq!(&text[line_of(text, 99)], "three");
        assert_eq!(line_of("", 0), 0..0);
    }
}
