//! TOML syntax errors, all of them.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::finding::{Finding, Place};

/// Parses as much as can be. After the first error of a line the others on it are mostly its echo and
/// are left out.
pub fn parse(text: &str) -> (Spanned<DeTable<'_>>, Vec<Finding>) {
    let (document, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map(|span| span.start));
    let mut findings: Vec<Finding> = Vec::new();
    let mut last_line = None;
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        let line = line_of(text, span.start);
        if last_line.as_ref() == Some(&line) {
            continue;
        }
        last_line = Some(line);
        let message = error.message().to_owned();
        let finding = Finding::new("syntax", format!("not TOML: {message}"))
            .label(Place::Bytes(span), "here")
            .help(help(&message));
        findings.push(finding);
    }
    (document, findings)
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
        let (document, findings) = parse("a = harbor\nb = \"open\nc = 3\nc = 4\nd = = =\n");
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
