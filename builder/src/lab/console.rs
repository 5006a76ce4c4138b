//! Follows a file that QEMU appends to: the serial console's log, the boot report.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Error;

/// Reads a growing file line by line.
pub struct Tail {
    path: PathBuf,
    offset: u64,
    partial: Vec<u8>,
}

impl Tail {
    /// Follows from the present end of `path`, which need not exist yet.
    pub fn from_end(path: &Path) -> Tail {
        let offset = path.metadata().map_or(0, |metadata| metadata.len());
        Tail { path: path.to_owned(), offset, partial: Vec::new() }
    }

    /// The last `count` lines that are complete by now and not empty, and what follows from their end: each line
    /// comes once.
    ///
    /// # Errors
    /// As [`Tail::lines`].
    pub fn from_last_lines(path: &Path, count: usize) -> Result<(Vec<String>, Tail), Error> {
        let mut tail = Tail { path: path.to_owned(), offset: 0, partial: Vec::new() };
        let mut lines = tail.lines()?;
        lines.retain(|line| !line.is_empty());
        lines.drain(..lines.len().saturating_sub(count));
        Ok((lines, tail))
    }

    /// Lines that are complete by now, without their ends, in a form fit for a terminal.
    ///
    /// # Errors
    /// The file cannot be read. That it does not exist yet is no error.
    pub fn lines(&mut self) -> Result<Vec<String>, Error> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::File { action: "read", path: self.path.clone(), source }),
        };
        let read = file
            .seek(SeekFrom::Start(self.offset))
            .and_then(|_| file.read_to_end(&mut self.partial))
            .map_err(Error::file("read", &self.path))?;
        self.offset += read as u64;
        let Some(end) = self.partial.iter().rposition(|&byte| byte == b'\n') else {
            return Ok(Vec::new());
        };
        let rest = self.partial.split_off(end + 1);
        let complete = std::mem::replace(&mut self.partial, rest);
        Ok(complete[..end].split(|&byte| byte == b'\n').map(plain).collect())
    }
}

/// The last `count` lines of a log; empty if it cannot be read, for it is shown beside another error.
pub fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let mut lines: Vec<String> =
        bytes.split(|&byte| byte == b'\n').map(plain).filter(|line| !line.is_empty()).collect();
    lines.drain(..lines.len().saturating_sub(count));
    lines
}

/// A line of first boot, `[   3.214] …`: seconds with three decimals, where the kernel's have six.
pub fn is_stage_line(line: &str) -> bool {
    let Some((time, _)) = line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) else {
        return false;
    };
    let Some((seconds, fraction)) = time.trim_start().split_once('.') else {
        return false;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(seconds) && fraction.len() == 3 && digits(fraction)
}

/// Drops terminal control sequences (ECMA-48: ESC [ parameters final byte) and control characters: a
/// guest's output must not move the cursor of a person's terminal.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next() == Some('[') {
                characters.by_ref().find(|end| ('\u{40}'..='\u{7e}').contains(end));
            }
        } else if !character.is_control() {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_line_is_returned_once_and_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "old\n").unwrap();
        let mut tail = Tail::from_end(&path);
        assert!(tail.lines().unwrap().is_empty());
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"one\r\ntw").unwrap();
        assert_eq!(tail.lines().unwrap(), ["one"]);
        file.write_all(b"o\n\xff\n").unwrap();
        assert_eq!(tail.lines().unwrap(), ["two", "\u{fffd}"]);
        assert!(tail.lines().unwrap().is_empty());
    }

    #[test]
    fn what_follows_the_last_lines_begins_where_they_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "a\n\nb\nc\nd").unwrap();
        let (last, mut tail) = Tail::from_last_lines(&path, 2).unwrap();
        assert_eq!(last, ["b", "c"]);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"e\nf\n").unwrap();
        assert_eq!(tail.lines().unwrap(), ["de", "f"]);
        let (last, _) = Tail::from_last_lines(&folder.path().join("none"), 2).unwrap();
        assert!(last.is_empty());
    }

    #[test]
    fn a_missing_file_has_no_lines_yet() {
        assert!(Tail::from_end(Path::new("/nonexistent/log")).lines().unwrap().is_empty());
        assert!(last_lines(Path::new("/nonexistent/log"), 3).is_empty());
    }

    #[test]
    fn control_sequences_are_dropped() {
        assert_eq!(plain(b"\x1b[2J\x1b[01;01Hhello\x1b[0m\x07\r"), "hello");
    }

    #[test]
    fn first_boots_lines_are_told_from_the_kernels() {
        assert!(is_stage_line("[   3.214] root: verity 9f3c…"));
        assert!(is_stage_line("[12.000] ready"));
        assert!(!is_stage_line("[    0.000000] Linux version 6.1"));
        assert!(!is_stage_line("[.214] x"));
        assert!(!is_stage_line("SeaBIOS"));
    }

    #[test]
    fn the_last_lines_come_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "a\n\nb\nc\n").unwrap();
        assert_eq!(last_lines(&path, 2), ["b", "c"]);
    }
}
