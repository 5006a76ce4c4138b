//! What a person wants to know after a boot.

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bootwright_model::report::{BootReport, Outcome};
use serde_json::json;

use super::demo::Options;
use super::qmp::Qmp;
use super::{Error, left_running};

/// Path of the balloon device in QEMU's object tree, by the id that the machine gives it.
const BALLOON: &str = "/machine/peripheral/balloon";

/// What was measured.
pub struct Facts<'a> {
    /// The image.
    pub image: &'a Path,
    /// Power-on to node Ready.
    pub ready: Duration,
    /// `kubectl apply` to a ready pod.
    pub pod: Duration,
    /// The boot report.
    pub report: &'a BootReport,
    /// Memory in use, bytes, if the guest tells.
    pub memory: Option<u64>,
    /// Port of 127.0.0.1 that leads to the API.
    pub api_port: u16,
    /// Port of 127.0.0.1 that leads to the workload.
    pub web_port: u16,
}

/// The summary of a boot.
///
/// # Errors
/// The image cannot be read.
pub fn text(options: &Options, facts: &Facts) -> Result<String, Error> {
    let metadata = facts.image.metadata().map_err(Error::file("read", facts.image))?;
    let mut out = String::new();
    line(
        &mut out,
        "image",
        &format!(
            "{}: {} MB, {} MB on disk",
            facts.image.display(),
            metadata.len() / 1_000_000,
            metadata.blocks() * 512 / 1_000_000
        ),
    );
    for stage in &facts.report.stages {
        let mark = if stage.outcome == Outcome::Passed { "" } else { " (degraded)" };
        line(
            &mut out,
            "stage",
            &format!(
                "{:<12} {:>9.1} ms{mark}  {}",
                stage.name,
                Duration::from_micros(stage.duration_us).as_secs_f64() * 1000.0,
                stage.summary
            ),
        );
    }
    if let Some(started) = facts.report.services_started_ms {
        line(&mut out, "services", &format!("all started {} after the kernel", seconds(started)));
    }
    if let Some(ready) = facts.report.ready_ms {
        line(&mut out, "services", &format!("all ready {} after the kernel", seconds(ready)));
    }
    line(&mut out, "Ready", &format!("{:.1} s after power-on", facts.ready.as_secs_f64()));
    line(&mut out, "pod", &format!("ready {:.1} s after kubectl apply", facts.pod.as_secs_f64()));
    if let Some(bytes) = facts.memory {
        line(&mut out, "memory", &format!("{} MB in use", bytes / 1_000_000));
    }
    let output = options.output.display();
    line(&mut out, "kubeconfig", &format!("{output}/kubeconfig"));
    line(&mut out, "console log", &format!("{output}/machine/console.log"));
    if options.keep {
        line(&mut out, "look around", &left_running::kubectl(options));
        line(&mut out, "", &format!("http://127.0.0.1:{}/ is the pod's page", facts.web_port));
        line(&mut out, "", &format!("the API is at https://127.0.0.1:{}", facts.api_port));
        line(&mut out, "stop it", &left_running::down(options, false));
    } else {
        line(&mut out, "look around", "./run demo --keep leaves it running");
    }
    Ok(out)
}

/// Bytes that the guest's kernel does not count as available (`MemTotal` - `MemAvailable`), from the
/// balloon driver's statistics. `None` if the guest has no such driver.
///
/// # Errors
/// QEMU does not answer.
pub fn memory_in_use(qmp: &mut Qmp) -> Result<Option<u64>, Error> {
    let property = |name: &str| json!({ "path": BALLOON, "property": name });
    // The driver tells once when it is loaded; those figures are of the first second of the boot.
    let told = qmp.execute("qom-get", property("guest-stats"))?["last-update"].as_u64();
    let mut poll = property("guest-stats-polling-interval");
    poll["value"] = json!(1);
    qmp.execute("qom-set", poll)?;
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let answer = qmp.execute("qom-get", property("guest-stats"))?;
        // A figure that the guest has not told is -1 here.
        let figure = |name: &str| answer["stats"][name].as_u64().filter(|&value| value != u64::MAX);
        if answer["last-update"].as_u64() != told
            && let (Some(total), Some(available)) =
                (figure("stat-total-memory"), figure("stat-available-memory"))
        {
            return Ok(Some(total.saturating_sub(available)));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn line(out: &mut String, key: &str, value: &str) {
    writeln!(out, "{key:<12} {value}").expect("a String takes everything");
}

fn seconds(milliseconds: u64) -> String {
    format!("{:.2} s", Duration::from_millis(milliseconds).as_secs_f64())
}
