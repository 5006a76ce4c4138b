//! A machine that a boot left running: how to look at it and how to stop it, as commands to be pasted.

use std::path::Path;

use super::demo::Options;
use super::machine::CONSOLE_LOG;
use super::state::Running;
use super::{Error, demo};

/// The error of a boot whose machine was to be kept, with how to look at the machine and how to stop it if it
/// still runs.
pub fn after_failure(options: &Options, error: Error) -> Error {
    let state = match Running::find(&demo::machine_folder(&options.output)) {
        Ok(Some((running, _))) => format!("the machine still runs, as process {}", running.process_id),
        // It ended, or never ran.
        Ok(None) => return error,
        Err(reason) => format!("the machine may still run ({reason})"),
    };
    let advice = format!(
        "{state}. To look at it:\n  {}\n  {}\nTo stop it, by its power button or at once:\n  {}\n  {}\n",
        console(options),
        kubectl(options),
        down(options, false),
        down(options, true),
    );
    Error::LeftRunning { error: Box::new(error), advice }
}

/// The command that shows the console as it goes on.
pub fn console(options: &Options) -> String {
    format!("tail -f {}", word(&demo::machine_folder(&options.output).join(CONSOLE_LOG)))
}

/// The command that asks the machine's API for its node and pods.
pub fn kubectl(options: &Options) -> String {
    let kubeconfig = word(&options.output.join(demo::KUBECONFIG));
    format!("{} --kubeconfig {kubeconfig} get nodes,pods -A -o wide", word(&options.kubectl))
}

/// The command that stops the machine.
pub fn down(options: &Options, force: bool) -> String {
    let force = if force { " --force" } else { "" };
    format!("{} lab down{force} -o {}", word(&options.program), word(&options.output))
}

/// A `lab` command for what is in an output folder, by this program as it was called.
pub fn lab_command(command: &str, output: &Path) -> String {
    let program = std::env::args_os().next().map_or_else(|| "bootwright".into(), std::path::PathBuf::from);
    format!("{} lab {command} -o {}", word(&program), word(output))
}

/// A path as a word of a shell command (POSIX, XCU 2.2).
pub fn word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "_-./=+:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::lab::machine::CONTROL;
    use crate::lab::{Firmware, state};

    fn options(output: &Path) -> Options {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cluster/fixtures/accept/smallest.toml");
        Options {
            cluster: toml::from_str(&std::fs::read_to_string(fixture).unwrap()).unwrap(),
            program: "target/bootwright".into(),
            output: output.to_owned(),
            node: None,
            manifest: "web.yaml".into(),
            kubectl: "/k8s/kubectl".into(),
            cache: "cache".into(),
            firmware: Firmware::Bios,
            memory_mib: 2048,
            cpus: 2,
            keep: true,
        }
    }

    fn timeout() -> Error {
        Error::State("the node is not Ready".to_owned())
    }

    #[test]
    fn words_of_a_shell() {
        assert_eq!(word(Path::new("out/demo")), "out/demo");
        assert_eq!(word(Path::new("my out/it's")), r"'my out/it'\''s'");
        assert_eq!(word(Path::new("")), "''");
    }

    #[test]
    fn a_machine_that_still_runs_is_told_with_how_to_look_and_how_to_stop() {
        let output = tempfile::tempdir().unwrap();
        let folder = demo::machine_folder(output.path());
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(state::STATE), "{\"process-id\": 4711, \"forwards\": []}").unwrap();
        let listener = UnixListener::bind(folder.join(CONTROL)).unwrap();
        // What a QEMU says to whoever connects.
        let qemu = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"{\"QMP\": {}}\n").unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            stream.write_all(b"{\"return\": {}}\n").unwrap();
        });
        let error = after_failure(&options(output.path()), timeout());
        qemu.join().unwrap();
        let Error::LeftRunning { error, advice } = error else { panic!("{error}") };
        assert_eq!(error.to_string(), "the node is not Ready");
        let out = output.path().display();
        assert_eq!(
            advice,
            format!(
                "the machine still runs, as process 4711. To look at it:\n  \
                 tail -f {out}/machine/console.log\n  \
                 /k8s/kubectl --kubeconfig {out}/kubeconfig get nodes,pods -A -o wide\n\
                 To stop it, by its power button or at once:\n  \
                 target/bootwright lab down -o {out}\n  \
                 target/bootwright lab down --force -o {out}\n"
            )
        );
    }

    #[test]
    fn a_machine_that_ended_is_not_said_to_run() {
        let output = tempfile::tempdir().unwrap();
        let folder = demo::machine_folder(output.path());
        std::fs::create_dir(&folder).unwrap();
        assert!(matches!(after_failure(&options(output.path()), timeout()), Error::State(_)));
        // A record that outlived its QEMU.
        std::fs::write(folder.join(state::STATE), "{\"process-id\": 4711, \"forwards\": []}").unwrap();
        drop(UnixListener::bind(folder.join(CONTROL)).unwrap());
        assert!(matches!(after_failure(&options(output.path()), timeout()), Error::State(_)));
    }

    #[test]
    fn a_record_that_cannot_be_read_leaves_a_doubt() {
        let output = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(demo::machine_folder(output.path()).join(state::STATE)).unwrap();
        let error = after_failure(&options(output.path()), timeout());
        let Error::LeftRunning { advice, .. } = error else { panic!("{error}") };
        assert!(advice.starts_with("the machine may still run (cannot read "), "{advice}");
        assert!(advice.contains(" lab down --force -o "), "{advice}");
    }
}
