//! Measures the figures of docs/performance.md and prints them as its table.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bootwright_model::report::BootReport;

use super::api::Api;
use super::kubeconfig::Kubeconfig;
use super::session::Session;
use super::{Error, accelerator, console, demo, summary};

/// Folders of the cache that hold what was made of what was fetched, and are left out of a cold cache.
const MADE: [&str; 2] = ["derived", "layers"];
/// How long a node is left alone before its memory is looked at.
const IDLE: Duration = Duration::from_secs(30);
/// How long a boot may take.
const READY: Duration = Duration::from_secs(600);
/// How long a clean stop may take.
const STOP: Duration = Duration::from_secs(90);
/// Level of the `zstd` program unless it is told otherwise.
const ZSTD_LEVEL: i32 = 3;

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Options {
    /// What to boot; its output folder is where the images are built.
    pub boot: demo::Options,
    /// The cluster file.
    pub cluster_file: PathBuf,
    /// The program bootwright, that is timed as a person runs it.
    pub program: PathBuf,
    /// How often each figure is measured.
    pub runs: usize,
}

/// One row of the table.
struct Row {
    figure: &'static str,
    bar: &'static str,
    stretch: &'static str,
    unit: &'static str,
    values: Vec<f64>,
}

/// Measures everything and prints the table.
///
/// # Errors
/// A build or a boot failed.
pub fn run(options: &Options) -> Result<(), Error> {
    let output = &options.boot.output;
    std::fs::create_dir_all(output).map_err(Error::file("make", output))?;
    // Fetches what is missing, and is not measured.
    build(options, &options.cluster_file, &options.boot.cache)?;
    let mut rows = compose(options)?;
    rows.extend(sizes(&demo::image_path(&options.boot)?)?);
    rows.extend(boots(options)?);
    print!("{}", table(&rows, options.runs));
    Ok(())
}

/// Cold and warm builds.
fn compose(options: &Options) -> Result<Vec<Row>, Error> {
    let mut cold = Vec::new();
    let mut warm = Vec::new();
    for index in 0..options.runs {
        let cache = cold_cache(&options.boot.cache)?;
        cold.push(build(options, &options.cluster_file, cache.path())?.as_secs_f64());
        let changed = changed_cluster_file(&options.cluster_file, index)?;
        warm.push(build(options, changed.path(), &options.boot.cache)?.as_secs_f64());
        say(&format!("compose {}: cold {:.2} s, warm {:.2} s", index + 1, cold[index], warm[index]));
    }
    // What is booted afterwards is what the cluster file says.
    build(options, &options.cluster_file, &options.boot.cache)?;
    Ok(vec![
        row("cold compose, packages cached", "40 s", "25 s", "s", cold),
        row("warm compose, cluster file changed", "2 s", "1 s", "s", warm),
    ])
}

/// Sizes of the image as it is and compressed.
fn sizes(image: &Path) -> Result<Vec<Row>, Error> {
    let size = image.metadata().map_err(Error::file("read", image))?.len();
    let file = std::fs::File::open(image).map_err(Error::file("read", image))?;
    let mut encoder = zstd::Encoder::new(Count(0), ZSTD_LEVEL).map_err(Error::file("compress", image))?;
    let mut reader = std::io::BufReader::with_capacity(1 << 20, file);
    std::io::copy(&mut reader.by_ref(), &mut encoder).map_err(Error::file("compress", image))?;
    let compressed = encoder.finish().map_err(Error::file("compress", image))?.0;
    let megabytes = |bytes: u64| vec![bytes as f64 / 1e6];
    Ok(vec![
        row("raw image, logical size", "512 MB", "300 MB", "MB", megabytes(size)),
        row("image, zstd", "200 MB", "160 MB", "MB", megabytes(compressed)),
    ])
}

/// Boots to Ready, the idle memory, and one on the smallest machine.
fn boots(options: &Options) -> Result<Vec<Row>, Error> {
    let mut ready = Vec::new();
    let mut services = Vec::new();
    let mut own = Vec::new();
    let mut memory = Vec::new();
    for index in 0..options.runs {
        let (took, report, in_use) = boot(&options.boot)?;
        ready.push(took.as_secs_f64());
        services.extend(report.services_started_ms.map(|milliseconds| milliseconds as f64 / 1000.0));
        own.push(own_part(&report).as_secs_f64());
        memory.extend(in_use.map(|bytes| bytes as f64 / 1e6));
        say(&format!("boot {}: Ready after {:.1} s", index + 1, ready[index]));
    }
    let small = demo::Options { cpus: 1, memory_mib: 1024, ..options.boot.clone() };
    // What was measured before is worth printing whatever becomes of this one.
    let smallest = match boot(&small) {
        Ok((took, _, _)) => vec![took.as_secs_f64()],
        Err(error @ Error::Interrupted(_)) => return Err(error),
        Err(error) => {
            say(&format!("boot with 1 processor and 1024 MiB: {error}"));
            Vec::new()
        }
    };
    Ok(vec![
        row("power-on to node Ready", "90 s", "60 s", "s", ready),
        row("kernel start to all services started", "6 s", "3.5 s", "s", services),
        row("firstboot's own part of that", "1.5 s", "1.0 s", "s", own),
        row("memory in use, idle, all-in-one", "500 MB", "400 MB", "MB", memory),
        row("power-on to node Ready, 1 core and 1 GiB", "", "Ready", "s", smallest),
    ])
}

/// Boots once to Ready, looks at the memory when the node has been left alone, and stops.
fn boot(options: &demo::Options) -> Result<(Duration, BootReport, Option<u64>), Error> {
    let folder = options.output.join("bench");
    let node = demo::pick_node(options)?;
    let image = demo::image_path(options)?;
    let choice = accelerator::choose(&image, &options.cache)?;
    let spec = demo::spec(options, node, &image, &choice, &folder)?;
    let port = options.cluster.cluster.endpoint_port;
    let mut session = Session::start(spec, |_| {})?;
    let host_port =
        session.machine().host_port(port).expect("the API's port is among those that spec() forwards");
    let path = folder.join("kubeconfig");
    std::fs::copy(options.output.join("kubeconfig"), &path).map_err(Error::file("copy", &path))?;
    let mut kubeconfig = Kubeconfig::read(&path)?;
    kubeconfig.point_at(&format!("https://127.0.0.1:{host_port}"))?;
    let outcome = session.wait_node_ready(&Api::new(&kubeconfig)?, &node.name, READY);
    if outcome.is_err() {
        for line in console::last_lines(&session.machine().console_log(), 25) {
            say(&line);
        }
    }
    let ready = outcome?;
    std::thread::sleep(IDLE);
    let memory = summary::memory_in_use(session.machine().qmp()?)?;
    let report = session.report()?.unwrap_or_default();
    session.power_off(STOP)?;
    // The logs stay; the disk is a gigabyte.
    let _ = std::fs::remove_file(folder.join(super::machine::DISK));
    Ok((ready, report, memory))
}

/// What first boot itself took until the services were started: the time in which one of its stages ran, not
/// the kernel's nor the waiting between them. Stages that run beside each other count once.
fn own_part(report: &BootReport) -> Duration {
    let until = report.services_started_ms.map_or(u64::MAX, |milliseconds| milliseconds * 1000);
    let stages = report.stages.iter().filter(|stage| stage.name != "ready");
    let mut spans: Vec<(u64, u64)> = stages
        .map(|stage| (stage.started_ms * 1000, stage.started_ms * 1000 + stage.duration_us))
        .map(|(start, end)| (start.min(until), end.min(until)))
        .collect();
    spans.sort_unstable();
    let (mut busy, mut covered) = (0, 0);
    for (start, end) in spans {
        busy += end.saturating_sub(start.max(covered));
        covered = covered.max(end);
    }
    Duration::from_micros(busy)
}

/// Builds with a cache; returns the time from the start of the program to its end.
fn build(options: &Options, cluster_file: &Path, cache: &Path) -> Result<Duration, Error> {
    let mut command = Command::new(&options.program);
    command
        .arg("build")
        .arg("-f")
        .arg(cluster_file)
        .arg("-o")
        .arg(&options.boot.output)
        .arg("--cache")
        .arg(cache);
    let begin = Instant::now();
    let output = command.output().map_err(Error::file("start", &options.program))?;
    let took = begin.elapsed();
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Command {
            command: format!("{command:?}"),
            status: output.status.to_string(),
            message,
        });
    }
    Ok(took)
}

/// A cache that has what was fetched, by links, and nothing that was composed.
fn cold_cache(cache: &Path) -> Result<tempfile::TempDir, Error> {
    // Beside the cache: what is moved into its links must lie on the same filesystem.
    let folder = cache.parent().unwrap_or(Path::new("."));
    let cold = tempfile::Builder::new()
        .prefix("bootwright-cold.")
        .tempdir_in(folder)
        .map_err(Error::file("make a folder in", folder))?;
    for entry in cache.read_dir().map_err(Error::file("read", cache))? {
        let name = entry.map_err(Error::file("read", cache))?.file_name();
        if MADE.iter().any(|made| *made == name) {
            continue;
        }
        let link = cold.path().join(&name);
        std::os::unix::fs::symlink(cache.join(&name), &link).map_err(Error::file("link", &link))?;
    }
    Ok(cold)
}

/// The cluster file with another name in the API server's certificate, beside it: paths in it are
/// relative to its folder.
fn changed_cluster_file(path: &Path, index: usize) -> Result<tempfile::NamedTempFile, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
    let mut document: toml_edit::DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| Error::State(format!("{}: {error}", path.display())))?;
    let mut names = toml_edit::Array::new();
    names.push(format!("bench-{index}.invalid"));
    document["cluster"]["endpoint-names"] = toml_edit::value(names);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".bench-")
        .suffix(".toml")
        .tempfile_in(folder)
        .map_err(Error::file("write to", folder))?;
    file.write_all(document.to_string().as_bytes()).map_err(Error::file("write to", folder))?;
    Ok(file)
}

fn row(
    figure: &'static str,
    bar: &'static str,
    stretch: &'static str,
    unit: &'static str,
    values: Vec<f64>,
) -> Row {
    Row { figure, bar, stretch, unit, values }
}

/// The table, as Markdown.
fn table(rows: &[Row], runs: usize) -> String {
    let mut out = String::from("\n| figure | bar | stretch | median | each run |\n|---|---|---|---|---|\n");
    for row in rows {
        let each: Vec<String> = row.values.iter().map(|value| format!("{value:.2}")).collect();
        let median =
            median(&row.values).map_or("not measured".to_owned(), |value| format!("{value:.2} {}", row.unit));
        out +=
            &format!("| {} | {} | {} | {median} | {} |\n", row.figure, row.bar, row.stretch, each.join(", "));
    }
    out + &format!("\n{runs} runs each; {}.\n", machine())
}

/// The machine that was measured on: processors and memory.
fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = memory.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    format!("{processors} cores, {} GiB", kibibytes >> 20)
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

fn say(line: &str) {
    eprintln!("{line}");
}

/// A writer that counts.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.0 += buffer.len() as u64;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_model::report::{Outcome, Stage};

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn stages_count_until_the_services_are_started_and_once() {
        let stage = |name: &str, started_ms, milliseconds: u64| Stage {
            name: name.to_owned(),
            started_ms,
            duration_us: milliseconds * 1000,
            summary: String::new(),
            outcome: Outcome::Passed,
        };
        let report = BootReport {
            stages: vec![
                stage("root", 900, 100),
                stage("state", 2000, 400),
                stage("certificates", 2300, 300),
                stage("pod-network", 2950, 2000),
                stage("ready", 2950, 7000),
                stage("late", 9000, 100),
            ],
            services_started_ms: Some(3000),
            ..BootReport::default()
        };
        assert_eq!(own_part(&report), Duration::from_millis(100 + 600 + 50));
    }

    #[test]
    fn a_changed_cluster_file_differs_in_one_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, "# a comment\n[cluster]\nname = \"demo\"\n").unwrap();
        let changed = changed_cluster_file(&path, 3).unwrap();
        assert_eq!(changed.path().parent(), Some(folder.path()));
        let text = std::fs::read_to_string(changed.path()).unwrap();
        assert_eq!(text, "# a comment\n[cluster]\nname = \"demo\"\nendpoint-names = [\"bench-3.invalid\"]\n");
    }

    #[test]
    fn a_cold_cache_has_what_was_fetched_only() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        for name in ["sha256", "layers"] {
            std::fs::create_dir_all(cache.join(name)).unwrap();
        }
        let cold = cold_cache(&cache).unwrap();
        assert!(cold.path().join("sha256").is_dir());
        assert!(!cold.path().join("layers").exists());
    }

    #[test]
    fn the_table_has_a_line_for_each_figure() {
        let rows = [row("a", "2 s", "1 s", "s", vec![1.0, 3.0, 2.0]), row("b", "", "", "MB", vec![])];
        let table = table(&rows, 3);
        assert!(table.contains("| a | 2 s | 1 s | 2.00 s | 1.00, 3.00, 2.00 |\n"), "{table}");
        assert!(table.contains("| b |  |  | not measured |  |\n"), "{table}");
    }
}
