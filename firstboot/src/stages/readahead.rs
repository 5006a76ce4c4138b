//! Reads the programs of the services that are started first, beside the stages before them.
//!
//! The stages keep one processor busy, and what a service waits for most when it starts is its program coming out
//! of the compressed, verified root. No stage of its own: nothing depends on it, and it cannot fail.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bootwright_model::profile::Service;
use rustix::fs::{Advice, fadvise};

use super::baked;
use crate::report::under;

/// What is asked for in one go, bytes: the kernel comes back when it is read, and then the services may have begun. It
/// takes no more at once than the device's readahead window, 128 KiB by default (`VM_READAHEAD_PAGES`).
const PIECE: u64 = 128 << 10;
/// The nice value of somebody who wants only what nobody else does: setpriority(2).
const NICE: i32 = 19;

/// Ends the reading when it is dropped.
#[derive(Debug)]
pub struct Readahead {
    over: Arc<AtomicBool>,
}

impl Drop for Readahead {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Begins to read, if there is a processor for it.
pub fn begin(root: &Path) -> Readahead {
    let readahead = Readahead { over: Arc::new(AtomicBool::new(false)) };
    let (root, over) = (root.to_owned(), Arc::clone(&readahead.over));
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1) {
        // Without the thread the services read their programs themselves.
        let _ = std::thread::Builder::new().name("readahead".to_owned()).spawn(move || {
            // A thread has a nice value of its own in Linux; at the usual one it is only less polite.
            let _ = rustix::process::setpriority_process(None, NICE);
            // A profile that cannot be read is told by the stage that needs it.
            let services = baked::profile(&root).map(|profile| profile.services).unwrap_or_default();
            for program in programs(&root, &services) {
                read(&program, &over);
            }
        });
    }
    readahead
}

/// The programs of those services that wait for no other, in the order in which they are started.
fn programs(root: &Path, services: &[Service]) -> Vec<PathBuf> {
    let first = services.iter().filter(|service| service.after.is_empty());
    first.filter_map(|service| service.command.first()).map(|program| under(root, program)).collect()
}

/// How many bytes were asked for.
fn read(program: &Path, over: &AtomicBool) -> u64 {
    let Ok(file) = File::open(program) else { return 0 };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut offset = 0;
    while offset < length && !over.load(Ordering::Relaxed) {
        if fadvise(&file, offset, std::num::NonZeroU64::new(PIECE), Advice::WillNeed).is_err() {
            break;
        }
        offset += PIECE;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_at_once_is_read_in_order() {
        let service = |name: &str, after: &str| -> Service {
            let text = format!("name = \"{name}\"\ncommand = [\"/bin/{name}\", \"-x\"]\nafter = [{after}]");
            toml::from_str(&text).unwrap()
        };
        let services = [service("b", ""), service("c", "\"b\""), service("a", "")];
        let programs = programs(Path::new("/root"), &services);
        assert_eq!(programs, [Path::new("/root/bin/b"), Path::new("/root/bin/a")]);
    }

    #[test]
    fn reading_ends_at_the_end_of_the_file_when_told_to_and_without_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, vec![0; (PIECE + 1) as usize]).unwrap();
        assert_eq!(read(&path, &AtomicBool::new(false)), 2 * PIECE);
        assert_eq!(read(&path, &AtomicBool::new(true)), 0);
        assert_eq!(read(&folder.path().join("absent"), &AtomicBool::new(false)), 0);
    }
}
