use std::os::unix::fs::PermissionsExt;

use super::*;

/// Notes what it takes in, and counts what it gives out.
#[derive(Default)]
struct Noted {
    mixed: Vec<Vec<u8>>,
    filled: u8,
}

impl Generator for Noted {
    fn mix(&mut self, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(self.filled, 0, "before anything is drawn");
        self.mixed.push(bytes.to_vec());
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.filled += 1;
        bytes.fill(self.filled);
        Ok(())
    }
}

#[test]
fn a_seed_is_used_once_and_there_is_always_one_for_the_next_boot() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(&SEED[1..]);
    let mut first = Noted::default();
    assert!(!refresh(root.path(), &mut first).unwrap());
    assert_eq!(first.mixed, [[0; 0]; 0]);
    assert_eq!(std::fs::read(&path).unwrap(), [1; SEED_BYTES]);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    keep(root.path(), &mut first).unwrap();

    let mut second = Noted { filled: 0, ..Noted::default() };
    assert!(refresh(root.path(), &mut second).unwrap());
    assert_eq!(second.mixed, [[2; SEED_BYTES]]);
    assert_ne!(std::fs::read(&path).unwrap(), [2; SEED_BYTES]);
}

#[test]
fn what_is_no_seed_is_not_taken_for_one_and_is_replaced() {
    for wrong in [0, SEED_BYTES - 1, SEED_BYTES + 1, 1 << 20] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(&SEED[1..]);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, vec![7; wrong]).unwrap();
        let mut generator = Noted::default();
        assert!(!refresh(root.path(), &mut generator).unwrap());
        assert_eq!(generator.mixed.len(), 0);
        assert_eq!(std::fs::read(&path).unwrap(), [1; SEED_BYTES]);
    }
}

#[test]
fn a_state_that_cannot_be_written_is_told_and_the_old_seed_was_used_all_the_same() {
    let root = tempfile::tempdir().unwrap();
    refresh(root.path(), &mut Noted::default()).unwrap();
    let folder = root.path().join("var/lib/bootwright");
    // Where the new one is written first, a folder stands in the way.
    std::fs::create_dir_all(folder.join("random-seed.new/x")).unwrap();
    let mut generator = Noted::default();
    let error = refresh(root.path(), &mut generator).unwrap_err();
    assert!(error.to_string().ends_with("random-seed: the seed for the next boot cannot be kept"), "{error}");
    assert_eq!(generator.mixed.len(), 1);
}

#[test]
fn the_kernel_gives_other_bytes_each_time() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("dev")).unwrap();
    let device = root.path().join("dev/urandom");
    std::fs::write(&device, "").unwrap();
    let mut kernel = Kernel::of(root.path());
    assert!(!refresh(root.path(), &mut kernel).unwrap());
    let kept = std::fs::read(root.path().join(&SEED[1..])).unwrap();
    assert!(refresh(root.path(), &mut kernel).unwrap());
    assert_eq!(std::fs::read(&device).unwrap(), kept, "the device has taken in what was kept");
    assert_ne!(std::fs::read(root.path().join(&SEED[1..])).unwrap(), kept);
}

#[test]
fn sources_are_those_that_are_used() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    assert_eq!(sources(root.path()), [""; 0]);
    write("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu rdrand sse\nflags\t\t: fpu\n");
    write("sys/class/misc/hw_random/rng_current", "none\n");
    assert_eq!(sources(root.path()), ["RDRAND"]);
    write("sys/class/misc/hw_random/rng_current", "virtio_rng.0\n");
    write("proc/cmdline", "quiet random.trust_cpu=on\n");
    assert_eq!(sources(root.path()), ["RDRAND", "virtio_rng.0"]);
    write("proc/cmdline", "random.trust_cpu=on random.trust_cpu=off\n");
    assert_eq!(sources(root.path()), ["virtio_rng.0"]);
}
