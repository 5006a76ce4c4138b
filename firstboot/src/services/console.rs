//! What the supervisor says on the console: one line for each change of a service's state.

use std::borrow::Cow;

use super::machine::{Millis, Notice};

/// Lines of a log shown when a service keeps ending.
pub const LOG_LINES: usize = 5;

/// The line for a notice about a service.
pub fn line(service: &str, notice: &Notice) -> String {
    let text: Cow<'_, str> = match notice {
        Notice::Started => "started".into(),
        Notice::Ready(after) => format!("ready after {}", seconds(*after)).into(),
        Notice::Done(after) => format!("done in {}", seconds(*after)).into(),
        Notice::AlreadyDone => "done on an earlier boot".into(),
        Notice::Failed { reason, again, failures, .. } => {
            let times = if *failures > 1 { format!(" ({failures} times in a row)") } else { String::new() };
            format!("{reason}{times}; starting again in {}", seconds(*again)).into()
        }
        Notice::StillNotReady { after, error } => {
            let error = error.as_deref().unwrap_or("no answer from its probe yet");
            format!("still not ready after {}: {error}", seconds(*after)).into()
        }
        Notice::Stopping => "stopping".into(),
        Notice::Stopped => "stopped".into(),
        Notice::Killed => "did not stop in time: killed".into(),
        Notice::GivenUp => "does not end even when killed; going on without waiting".into(),
    };
    format!("service {service}: {text}")
}

/// The lines that follow [`Notice::Failed`] when it asks for the log.
pub fn log_lines(service: &str, tail: &[String]) -> Vec<String> {
    let mut lines = Vec::with_capacity(tail.len() + 1);
    match tail.is_empty() {
        true => lines.push(format!("service {service}: it has printed nothing")),
        false => lines.push(format!("service {service}: its log ends with")),
    }
    lines.extend(tail.iter().map(|line| format!("  | {line}")));
    lines
}

/// `0.35 s`, `12.3 s`, `340 s`.
fn seconds(ms: Millis) -> String {
    match ms {
        0..10_000 => format!("{}.{:02} s", ms / 1000, ms % 1000 / 10),
        10_000..100_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} s", ms / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_as_one_would_say_them() {
        let failed = |failures| Notice::Failed {
            reason: "exit code 1".into(),
            again: 400,
            failures,
            show_log: failures > 2,
        };
        let notices = [
            Notice::Started,
            Notice::Ready(1234),
            Notice::Done(12_340),
            Notice::AlreadyDone,
            failed(1),
            failed(3),
            Notice::StillNotReady {
                after: 120_000,
                error: Some("127.0.0.1:2379: Connection refused".into()),
            },
            Notice::StillNotReady { after: 45_000, error: None },
            Notice::Stopping,
            Notice::Stopped,
            Notice::Killed,
            Notice::GivenUp,
        ];
        let mut lines: Vec<String> = notices.iter().map(|notice| line("etcd", notice)).collect();
        lines.extend(log_lines("etcd", &["panic: no space".into()]));
        lines.extend(log_lines("etcd", &[]));
        insta::assert_snapshot!(lines.join("\n"), @r#"
        service etcd: started
        service etcd: ready after 1.23 s
        service etcd: done in 12.3 s
        service etcd: done on an earlier boot
        service etcd: exit code 1; starting again in 0.40 s
        service etcd: exit code 1 (3 times in a row); starting again in 0.40 s
        service etcd: still not ready after 120 s: 127.0.0.1:2379: Connection refused
        service etcd: still not ready after 45.0 s: no answer from its probe yet
        service etcd: stopping
        service etcd: stopped
        service etcd: did not stop in time: killed
        service etcd: does not end even when killed; going on without waiting
        service etcd: its log ends with
          | panic: no space
        service etcd: it has printed nothing
        "#);
    }
}
