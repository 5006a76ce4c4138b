//! Measures the figures of docs/performance.md and prints them as its table.
//!
//! Each part stands alone: what fails costs its own figures, and the table says so.

mod agent;
mod boot;
mod compose;
mod figure;
mod lab;
mod lent;
mod mkosi;
mod nodes;
mod program;
mod routes;
mod size;
mod table;
mod tcp;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

pub use self::figure::{Needs, Part};
use self::table::Table;
use super::{Error, demo};
use crate::cluster::Loaded;
use crate::progress::interrupt;

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Options {
    /// What to boot; its output folder is where the images are built.
    pub boot: demo::Options,
    /// The cluster file, with the profiles that say which packages mkosi is given.
    pub loaded: Loaded,
    /// The program bootwright, that is timed as a person runs it.
    pub program: PathBuf,
    /// The program mkosi.
    pub mkosi: PathBuf,
    /// Folder of the programs that measure: `measure-pods` and `measure-tcp` of the crate pod-network, `measure-agent`
    /// of qemu-tests.
    pub programs: PathBuf,
    /// A cluster of several nodes, if a part wants one.
    pub several: Option<Several>,
    /// How many nodes are simulated.
    pub nodes: u16,
    /// For how long.
    pub load: Duration,
    /// How often each figure is measured that differs from run to run.
    pub runs: u16,
    /// What is measured.
    pub parts: BTreeSet<Part>,
}

/// A cluster of several nodes.
#[derive(Debug, Clone)]
pub struct Several {
    /// Its cluster file.
    pub loaded: Loaded,
    /// Folder that its images are built into.
    pub output: PathBuf,
}

impl Options {
    fn several(&self) -> Result<&Several, Error> {
        self.several
            .as_ref()
            .ok_or_else(|| Error::State("there is no cluster file of several nodes".to_owned()))
    }

    /// `50 simulated nodes, 10 minutes`
    fn describe_load(&self) -> String {
        format!("{} simulated nodes, {} minutes", self.nodes, self.load.as_secs() / 60)
    }
}

/// Measures, says each value when it is known, and prints the table whatever happened.
///
/// # Errors
/// A figure that was asked for could not be measured; the table says which and why.
pub fn run(options: &Options) -> Result<(), Error> {
    let output = &options.boot.output;
    std::fs::create_dir_all(output).map_err(Error::file("make", output))?;
    let mut table = Table::new(&options.parts, options.runs);
    let outcome = measure(options, &mut table);
    print!("\n{}", table.text());
    outcome?;
    match table.missing() {
        0 => Ok(()),
        1 => Err(Error::State("a figure was not measured; the table says why".to_owned())),
        count => Err(Error::State(format!("{count} figures were not measured; the table says why"))),
    }
}

/// Measures part by part. An error of one is noted in the table; only an interruption ends them all.
fn measure(options: &Options, table: &mut Table) -> Result<(), Error> {
    let wants = |needs| options.parts.iter().any(|part| part.needs() == needs);
    let (nothing, mut image, mut several) = (Ok(()), Ok(()), Ok(()));
    // Fetches what is missing as well, and is not measured.
    if wants(Needs::Image) {
        say("building the image, which is not measured");
        image = compose::build(options, &options.loaded.path, &options.boot.cache).map(drop);
    }
    if wants(Needs::Several) {
        say("building the images of several nodes, which is not measured");
        several = options.several().and_then(|several| {
            table.describe(several.loaded.file.nodes.len(), options.describe_load());
            let (file, cache) = (&several.loaded.path, &options.boot.cache);
            compose::build_into(options, file, cache, &several.output).map(drop)
        });
    }
    for &part in &options.parts {
        let built = match part.needs() {
            Needs::Nothing => &nothing,
            Needs::Image => &image,
            Needs::Several => &several,
        };
        let outcome = match (built, part) {
            _ if interrupt::requested() => Err(interrupt::Interrupted.into()),
            (Err(error), _) => Err(Error::State(format!("the image could not be built: {error}"))),
            (_, Part::Compose) => compose::measure(options, table),
            (_, Part::Mkosi) => mkosi::measure(options, table),
            (_, Part::Size) => size::measure(options, table),
            (_, Part::Boot) => boot::measure(options, table),
            (_, Part::Small) => boot::measure_small(options, table),
            (_, Part::Dhcp) => lent::measure(options, table),
            (_, Part::Routes) => routes::measure(options, table),
            (_, Part::Tcp) => tcp::measure(options, table),
            (_, Part::Agent) => agent::measure(options, table),
            (_, Part::Lab) => lab::measure(options, table),
            (_, Part::Nodes) => nodes::measure(options, table),
        };
        if let Err(error) = outcome {
            // A program that Ctrl-C ended says so in its own way.
            let error = if interrupt::requested() { interrupt::Interrupted.into() } else { error };
            say(&format!("{part}: {error}"));
            table.give_up(part, &error.to_string());
        }
    }
    if interrupt::requested() { Err(interrupt::Interrupted.into()) } else { Ok(()) }
}

fn say(line: &str) {
    eprintln!("{line}");
}
