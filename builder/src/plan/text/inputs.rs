//! The inputs of a plan for people: a table, and what the lock has to do with it.

use std::fmt;

use super::{line, list};
use crate::plan::inputs::{Amount, InputPlan, InputsPlan, LayerState, LockState, Place, SetPlan};
use crate::rootfs::FirmwareFacts;
use crate::rootfs::firmware::Taken;

/// Columns of a row's name: package lists of workload images are called after the image.
const NAME: usize = 44;
/// Columns of a number of inputs.
const NUMBER: usize = 8;
/// Columns of a number of bytes.
const BYTES: usize = 12;

pub fn write(f: &mut fmt::Formatter<'_>, inputs: &InputsPlan) -> fmt::Result {
    let lock = &inputs.lock;
    match &inputs.state {
        LockState::Absent => return without_lock(f, inputs),
        LockState::Fits => writeln!(f, "inputs by {lock}, which fits the cluster file")?,
        LockState::Differs { difference } => {
            writeln!(f, "inputs by {lock}, which does not fit the cluster file")?;
            line(f, "difference", difference)?;
            line(f, "so", "`bootwright build` refuses it, and `bootwright build --update` renews it")?;
        }
        LockState::Unknown { reason } => {
            writeln!(f, "inputs by {lock}; whether it fits the cluster file cannot be told")?;
            line(f, "because", reason)?;
            line(f, "so", "`bootwright build` stops there, too")?;
        }
    }
    let epoch = inputs.archive.epoch.and_then(date);
    if let Some(date) = epoch {
        line(f, "archive of", format_args!("{date}, which is the images' build time"))?;
    }
    table(f, inputs)
}

fn table(f: &mut fmt::Formatter<'_>, inputs: &InputsPlan) -> fmt::Result {
    writeln!(f, "  {:NAME$}{:>NUMBER$}{:>BYTES$}{:>BYTES$}", "", "number", "size", "to fetch")?;
    for set in &inputs.sets {
        row(f, inputs, &format!("packages of {}", set.name), inputs.packages_of(set))?;
    }
    row(f, inputs, "packages, each counted once", &inputs.packages)?;
    row(f, inputs, "Kubernetes binaries", &inputs.binaries)?;
    row(f, inputs, "files that the cluster file names", &inputs.files)?;
    let all = || inputs.packages.iter().chain(&inputs.binaries).chain(&inputs.files);
    row(f, inputs, "in all", all())?;
    for layer in &inputs.layers {
        let state = match &layer.state {
            LayerState::Cached => "in the cache, finished",
            LayerState::Absent => "not in the cache: a build makes it from the inputs",
            LayerState::Unknown { reason } => {
                &format!("it cannot be told whether the cache has it: {reason}")
            }
        };
        line(f, "OS layer", format_args!("of {}: {state}", layer.role))?;
        if let Some(firmware) = &layer.firmware {
            write_firmware(f, firmware)?;
        }
    }
    let missing: Vec<String> =
        all().filter(|input| inputs.is_fetched(input)).map(|input| input.name.clone()).collect();
    let cacheable = all().filter(|input| input.place != Place::Folder).count();
    match missing.len() {
        0 => line(f, "to fetch", "nothing"),
        // Of a cache that has nothing yet, the table has said enough.
        count if count == cacheable => Ok(()),
        _ => list(f, "to fetch", &missing),
    }
}

/// What of which package is in an image, and what its modules might miss.
fn write_firmware(f: &mut fmt::Formatter<'_>, firmware: &FirmwareFacts) -> fmt::Result {
    for taken in &firmware.packages {
        let Taken { package, version, files, bytes } = taken;
        let files = if *files == 1 { "1 file".to_owned() } else { format!("{files} files") };
        line(f, "firmware", format_args!("{package} {version}: {files}, {}", megabytes(*bytes)))?;
    }
    let missing: Vec<String> =
        firmware.missing.iter().map(|(file, module)| format!("{file} ({module})")).collect();
    list(f, "in no package", &missing)
}

fn row<'a>(
    f: &mut fmt::Formatter<'_>,
    plan: &InputsPlan,
    name: &str,
    inputs: impl IntoIterator<Item = &'a InputPlan>,
) -> fmt::Result {
    let inputs: Vec<&InputPlan> = inputs.into_iter().collect();
    let all = Amount::of(inputs.iter().copied());
    if all.inputs == 0 {
        return Ok(());
    }
    let missing = Amount::of(inputs.into_iter().filter(|input| plan.is_fetched(input)));
    let to_fetch = if missing.inputs == 0 { "none".to_owned() } else { megabytes(missing.bytes) };
    let (number, size) = (all.inputs, megabytes(all.bytes));
    writeln!(f, "  {name:NAME$}{number:>NUMBER$}{size:>BYTES$}{to_fetch:>BYTES$}")
}

fn without_lock(f: &mut fmt::Formatter<'_>, inputs: &InputsPlan) -> fmt::Result {
    writeln!(f, "inputs: there is no {} yet; the first build finds these, and writes it", inputs.lock)?;
    let archive = &inputs.archive;
    let mirror = archive.mirror.as_deref().unwrap_or("the archive in this machine's apt sources");
    line(f, "packages", format_args!("the newest of suite {} of {mirror}", archive.suite))?;
    for set in &inputs.sets {
        writeln!(f, "  {:NAME$}{}", format!("packages of {}", set.name), asked_for(set))?;
    }
    Ok(())
}

fn asked_for(set: &SetPlan) -> String {
    let (names, they_depend) = match &set.install[..] {
        [one] => (one.clone(), "it depends"),
        several => (format!("{} packages", several.len()), "they depend"),
    };
    if set.dependencies { format!("{names} and what {they_depend} on") } else { names }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// `2026-07-11 10:16:37 UTC`.
fn date(epoch: u64) -> Option<String> {
    let time = time::OffsetDateTime::from_unix_timestamp(i64::try_from(epoch).ok()?).ok()?;
    let (hour, minute, second) = time.to_hms();
    Some(format!("{} {hour:02}:{minute:02}:{second:02} UTC", time.date()))
}
