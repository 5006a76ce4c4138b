use std::time::Instant;

use super::*;

/// Waits until `condition` holds; how long that may take is no matter of the test.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn logs(folder: &Path, cap: u64) -> Logs {
    Logs::open(folder, &["a".to_owned(), "b".to_owned()], cap).unwrap()
}

#[test]
fn output_goes_to_the_file_and_its_end_to_the_tail() {
    let folder = tempfile::tempdir().unwrap();
    let logs = logs(folder.path(), 1 << 20);
    let mut pipe = File::from(logs.pipe(1).unwrap());
    logs.note(1, "started");
    for n in 0..20 {
        writeln!(pipe, "line {n}\x1b[31m").unwrap();
    }
    write!(pipe, "no newline").unwrap();
    drop(pipe);
    eventually("the tail has it", || logs.tail(1, 1) == ["no newline"]);
    assert_eq!(logs.tail(1, 2), ["line 19\u{fffd}[31m", "no newline"]);
    assert_eq!(logs.tail(1, 100).len(), TAIL_LINES + 1);
    assert_eq!(logs.tail(0, 5), Vec::<String>::new());
    logs.close();
    let text = fs::read_to_string(folder.path().join("b.log")).unwrap();
    assert!(text.contains("--- started\n") && text.ends_with("line 19\x1b[31m\nno newline"), "{text}");
    assert!(!folder.path().join("a.log").exists());
}

#[test]
fn files_stay_below_their_cap_and_the_newest_output_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let cap = 32 << 10;
    let logs = logs(folder.path(), cap);
    let mut pipe = File::from(logs.pipe(0).unwrap());
    let text = || fs::read_to_string(folder.path().join("a.log")).unwrap_or_default();
    let written = |n: u32| text().lines().last().is_some_and(|line| line.starts_with(&format!("{n} ")));
    for n in 0..200 {
        // Slower than the writer, so that nothing is dropped.
        let line = format!("{n:<1000}|");
        writeln!(pipe, "{line}").unwrap();
        eventually("read", || logs.tail(0, 1) == [line[..TAIL_LINE_BYTES].trim_end()]);
        eventually("written", || written(n));
    }
    drop(pipe);
    logs.close();
    let size = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
    assert!(size("a.log") <= cap && size("a.log.1") <= cap);
    assert!(size("a.log") + size("a.log.1") > cap, "a rotation leaves the older half");
    assert!(written(199));
}

#[test]
fn a_log_of_an_earlier_boot_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.log"), "x".repeat(900)).unwrap();
    let logs = logs(folder.path(), 1000);
    logs.note(0, "short");
    logs.note(0, &"y".repeat(500));
    logs.close();
    assert_eq!(fs::metadata(folder.path().join("a.log.1")).unwrap().len(), 900 + 10);
    assert_eq!(fs::metadata(folder.path().join("a.log")).unwrap().len(), 505);
}

#[test]
fn a_disk_that_takes_nothing_stops_no_service_and_is_told_of_later() {
    let folder = tempfile::tempdir().unwrap();
    let full = folder.path().join("logs");
    // A file where the folder should be: nothing can be opened.
    fs::write(&full, "").unwrap();
    let logs = logs(&full, 1 << 20);
    let mut pipe = File::from(logs.pipe(0).unwrap());
    for _ in 0..1000 {
        writeln!(pipe, "{}", "z".repeat(1000)).unwrap();
    }
    fs::remove_file(&full).unwrap();
    // The first output that can be written says what was lost.
    eventually("written again", || {
        writeln!(pipe, "again").unwrap();
        full.join("a.log").exists()
    });
    drop(pipe);
    logs.close();
    let text = fs::read_to_string(full.join("a.log")).unwrap();
    assert!(text.contains("bytes lost: the disk was full or too slow"), "{}", &text[..200.min(text.len())]);
    assert!(text.ends_with("again\n"));
}

#[test]
fn a_tail_keeps_the_beginning_of_long_lines_and_no_empty_ones() {
    let mut tail = Tail::default();
    for part in ["a", "b\n\n", "\t\u{7}\n", &"c".repeat(1000), "\nend"] {
        tail.push(part.as_bytes());
    }
    assert_eq!(tail.lines, ["ab".to_owned(), " \u{fffd}".to_owned(), "c".repeat(TAIL_LINE_BYTES)]);
    assert_eq!(tail.open, b"end");
}
