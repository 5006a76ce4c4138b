use bootwright_model::report::Problem;

use super::*;

fn stage(name: &str, outcome: Outcome) -> Stage {
    Stage { name: name.into(), started_ms: 1, duration_us: 1_234_567, summary: "did it".into(), outcome }
}

/// A root with a console that is a plain file.
fn root_with_console() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("dev")).unwrap();
    std::fs::create_dir_all(root.path().join("sys/class/tty/console")).unwrap();
    std::fs::write(root.path().join("dev/ttyS0"), "").unwrap();
    std::fs::write(root.path().join("sys/class/tty/console/active"), "ttyS0\n").unwrap();
    root
}

/// Console text with the times, which vary, replaced.
fn console_text(root: &Path) -> String {
    let text = std::fs::read_to_string(root.join("dev/ttyS0")).unwrap();
    text.lines()
        .map(|line| if line.starts_with('[') { format!("[time]{}", &line[11..]) } else { line.to_owned() })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn each_outcome_says_what_why_and_what_next() {
    let root = root_with_console();
    let reporter = Reporter::open(root.path());
    reporter.stage(stage("modules", Outcome::Passed));
    let problem = Problem { chain: vec!["no carrier".into()], next: "plug the cable in".into() };
    reporter.stage(stage("network", Outcome::Degraded { problems: vec![problem] }));
    let chain = vec!["no root".into(), "no disk".into()];
    reporter.stage(stage("root", Outcome::Failed { chain, next: "reboot in 300 s".into() }));
    insta::assert_snapshot!(console_text(root.path()), @r"
    [time] modules         1.234 s  did it
    [time] network         1.234 s  DEGRADED: did it
                 what: no carrier
                 next: plug the cable in
    [time] root            1.234 s  FAILED: did it
                 what: no root
                  why: no disk
                 next: reboot in 300 s
    ");
}

#[test]
fn the_root_goes_on_with_the_report_of_the_initramfs() {
    let root = root_with_console();
    Reporter::open(root.path()).stage(stage("modules", Outcome::Passed));
    let reporter = Reporter::open(root.path());
    reporter.stage(stage("mounts", Outcome::Passed));
    reporter.stage(stage("mounts", Outcome::Passed));
    reporter.node("cp1");
    let text = std::fs::read(root.path().join("run/bootwright/boot.json")).unwrap();
    let report: BootReport = serde_json::from_slice(&text).unwrap();
    let names: Vec<&str> = report.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["modules", "mounts"]);
    assert_eq!(report.node.as_deref(), Some("cp1"));
}

#[test]
fn ready_is_told_once() {
    let root = root_with_console();
    let reporter = Reporter::open(root.path());
    reporter.services_started();
    reporter.ready();
    let first = reporter.snapshot();
    reporter.services_started();
    reporter.ready();
    assert_eq!(reporter.snapshot(), first);
    assert_eq!(console_text(root.path()).matches("essential").count(), 1);
}

#[test]
fn a_control_character_cannot_move_the_cursor() {
    let root = root_with_console();
    Reporter::open(root.path()).line("name \u{1b}[2J here");
    assert!(!console_text(root.path()).contains('\u{1b}'));
}

#[test]
fn the_port_gets_the_whole_report_as_one_line() {
    let root = root_with_console();
    let port = root.path().join("sys/class/virtio-ports/vport1p1");
    std::fs::create_dir_all(&port).unwrap();
    std::fs::write(port.join("name"), format!("{}\n", port::PORT_NAME)).unwrap();
    std::fs::write(root.path().join("dev/vport1p1"), "").unwrap();
    let reporter = Reporter::open(root.path());
    reporter.node("cp1");
    reporter.flush(Duration::from_secs(10));
    reporter.stage(stage("network", Outcome::Passed));
    reporter.flush(Duration::from_secs(10));
    let text = std::fs::read_to_string(root.path().join("dev/vport1p1")).unwrap();
    let last: BootReport = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last, reporter.snapshot());
    assert!(text.ends_with('\n'));
}
