//! The kernel's log: what it and its drivers have said since it started.
//!
//! Format: Linux kernel, Documentation/ABI/testing/dev-kmsg. A record is a line `priority,number,microseconds,flags;text`,
//! and lines that begin with a space tell more of the same.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::report::under;

/// The kernel's log.
const DEVICE: &str = "/dev/kmsg";
/// A record is never longer: `PRINTK_MESSAGE_MAX` of the kernel's kernel/printk/internal.h, and some. A shorter buffer would
/// be refused.
const LONGEST_RECORD: usize = 8 << 10;
/// Debian's kernels keep 128 KiB of messages; a log that goes on and on, as a driver fills it, must not hold up a boot.
const MOST_BYTES: usize = 4 << 20;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Since kernel start.
    pub microseconds: u64,
    /// Without an end of line. Characters that are not printable are as the kernel has escaped them, `\x0a`.
    pub text: String,
}

/// The log, read as it grows: what was read once is not read again. A record is a system call, and a boot has hundreds.
#[derive(Debug)]
pub struct Log {
    /// `None` if the kernel does not show it.
    device: Option<File>,
    records: Vec<Record>,
    /// Bytes that are read at most from here on.
    left: usize,
}

impl Log {
    /// Opens it; nothing is read yet.
    pub fn open(root: &Path) -> Log {
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(under(root, DEVICE));
        Log { device: opened.ok(), records: Vec::new(), left: MOST_BYTES }
    }

    /// What the kernel has kept and has said until now.
    pub fn records(&mut self) -> &[Record] {
        let mut bytes = Vec::new();
        let mut record = vec![0; LONGEST_RECORD];
        while let Some(device) = &mut self.device
            && bytes.len() < self.left
        {
            match device.read(&mut record) {
                Ok(0) => break,
                Ok(length) => bytes.extend_from_slice(&record[..length]),
                // Overwritten before it was read: the next one is there.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE)) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // No more at present.
                Err(_) => break,
            }
        }
        self.left = self.left.saturating_sub(bytes.len());
        self.records.extend(parse(&bytes));
        &self.records
    }
}

/// The records of such a text. What is none is passed over.
pub fn parse(bytes: &[u8]) -> Vec<Record> {
    let text = String::from_utf8_lossy(bytes);
    let records = text.lines().filter(|line| !line.starts_with(' ')).filter_map(|line| {
        let (head, text) = line.split_once(';')?;
        let microseconds = head.split(',').nth(2)?.parse().ok()?;
        Some(Record { microseconds, text: text.to_owned() })
    });
    records.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_from_what_belongs_to_them() {
        let log = "5,0,0,-;Linux version 6.1.0\n6,339,5140900,-;NET: Registered PF_INET6\n\
            4,412,6001200,-;tg3 0000:02:00.0: Direct firmware load for tigon/tg3.bin failed with error -2\n \
            SUBSYSTEM=pci\n DEVICE=+pci:0000:02:00.0\nno record\n6,1,x,-;no time\n";
        let records = parse(log.as_bytes());
        let brief: Vec<_> = records.iter().map(|one| (one.microseconds, one.text.as_str())).collect();
        assert_eq!(
            brief,
            [
                (0, "Linux version 6.1.0"),
                (5_140_900, "NET: Registered PF_INET6"),
                (6_001_200, "tg3 0000:02:00.0: Direct firmware load for tigon/tg3.bin failed with error -2"),
            ]
        );
    }

    #[test]
    fn a_machine_that_shows_no_log_has_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Log::open(root.path()).records(), []);
    }

    #[test]
    fn what_is_new_is_added_to_what_was_read() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dev")).unwrap();
        let path = root.path().join("dev/kmsg");
        std::fs::write(&path, "6,1,2,-;a\n".repeat(3000)).unwrap();
        let mut log = Log::open(root.path());
        assert_eq!(log.records().len(), 3000);
        assert_eq!(log.records().len(), 3000);
        let mut end = OpenOptions::new().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut end, b"6,2,3,-;b\n").unwrap();
        assert_eq!(log.records().len(), 3001);
        assert_eq!(log.records().last().unwrap().text, "b");
    }

    #[test]
    fn a_log_without_an_end_is_left() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dev")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", root.path().join("dev/kmsg")).unwrap();
        let mut log = Log::open(root.path());
        assert_eq!(log.records(), []);
        assert_eq!((log.left, log.records()), (0, &[][..]));
    }
}
