//! What was measured so far, and the table that is made of it.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::figure::{Figure, Part};
use super::say;

/// Longest reason in a cell; all of it has been said before.
const REASON_CHARACTERS: usize = 160;

/// The values of the figures that were asked for.
pub struct Table {
    rows: Vec<Row>,
    runs: u16,
    /// `mkosi 27.1`, once it is known.
    mkosi: String,
    /// `4`: machines of the cluster of several nodes.
    machines: String,
    /// `50 simulated nodes, 10 minutes`
    load: String,
}

/// One figure.
struct Row {
    figure: Figure,
    values: Vec<f64>,
    /// Why there are not as many as there should be.
    reason: Option<String>,
}

impl Table {
    /// A table of the figures of these parts, without values.
    pub fn new(parts: &BTreeSet<Part>, runs: u16) -> Table {
        let wanted = Figure::ALL.into_iter().filter(|figure| parts.contains(&figure.part()));
        let rows = wanted.map(|figure| Row { figure, values: Vec::new(), reason: None }).collect();
        let [machines, load] = ["several", "simulated nodes"].map(str::to_owned);
        Table { rows, runs, mkosi: "mkosi".to_owned(), machines, load }
    }

    /// Says how many machines a cluster has, and what is simulated: `50 simulated nodes, 10 minutes`.
    pub fn describe(&mut self, machines: usize, load: String) {
        (self.machines, self.load) = (machines.to_string(), load);
    }

    /// Names the mkosi that is measured: `mkosi 27.1`.
    pub fn compare_with(&mut self, mkosi: String) {
        self.mkosi = mkosi;
    }

    /// Takes a value and says it.
    pub fn record(&mut self, figure: Figure, value: f64) {
        say(&format!("{}: {}", self.name(figure), figure.show(value)));
        if let Some(row) = self.row(figure) {
            row.values.push(value);
        }
    }

    /// Notes why a value of one figure is missing.
    pub fn miss(&mut self, figure: Figure, reason: &str) {
        say(&format!("{}: not measured: {reason}", self.name(figure)));
        if let Some(row) = self.row(figure) {
            row.reason = Some(cell(reason));
        }
    }

    /// Notes why the figures of a part have fewer values than they should.
    pub fn give_up(&mut self, part: Part, reason: &str) {
        let runs = self.runs;
        for row in self.rows.iter_mut().filter(|row| row.figure.part() == part) {
            if row.values.len() < row.figure.times(runs) {
                row.reason = Some(cell(reason));
            }
        }
    }

    /// How many figures have no value or too few.
    pub fn missing(&self) -> usize {
        self.rows.iter().filter(|row| row.values.len() < row.figure.times(self.runs)).count()
    }

    /// The table, as Markdown, with what it was measured on.
    pub fn text(&self) -> String {
        let mut out = String::from(
            "| figure | bar | stretch | median | each run | instead |\n|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let [bar, stretch] = row.figure.goals();
            let each: Vec<String> = row.values.iter().map(|value| row.figure.number(*value)).collect();
            let (name, each) = (self.name(row.figure), each.join(", "));
            let (median, instead) = (row.median(), self.instead(row));
            writeln!(out, "| {name} | {bar} | {stretch} | {median} | {each} | {instead} |")
                .expect("a String takes everything");
        }
        let times = if self.runs == 1 { "once".to_owned() } else { format!("{} times", self.runs) };
        out + &format!("\nMeasured {times} on {}; what the table has one value of once.\n", machine())
    }

    fn name(&self, figure: Figure) -> String {
        match figure.part() {
            Part::Mkosi => format!("{}, {}", self.mkosi, figure.name()),
            Part::Lab => format!("{} {}", self.machines, figure.name()),
            Part::Nodes => format!("{}: {}", self.load, figure.name()),
            _ => figure.name().to_owned(),
        }
    }

    fn row(&mut self, figure: Figure) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.figure == figure)
    }

    /// `mkosi 27.1, cold: 75.10 s, 7.6 x`: the median of what a person would use instead, and how many times
    /// better ours is.
    fn instead(&self, row: &Row) -> String {
        let Some((other, how)) = row.figure.instead() else { return String::new() };
        let theirs = self.rows.iter().find(|row| row.figure == other).and_then(|row| median(&row.values));
        let how = if other.part() == Part::Mkosi { format!("{}, {how}", self.mkosi) } else { how.to_owned() };
        match (median(&row.values), theirs) {
            (Some(ours), Some(theirs)) => {
                let times = row.figure.times_better(ours, theirs);
                format!("{how}: {}, {times:.1} x", other.show(theirs))
            }
            (None, Some(theirs)) => format!("{how}: {}", other.show(theirs)),
            (_, None) => format!("{how}: not measured"),
        }
    }
}

impl Row {
    fn median(&self) -> String {
        let show = |value| self.figure.show(value);
        match (median(&self.values), &self.reason) {
            (Some(value), None) => show(value),
            (Some(value), Some(reason)) => format!("{}, then: {reason}", show(value)),
            (None, Some(reason)) => format!("not measured: {reason}"),
            (None, None) => "not measured".to_owned(),
        }
    }
}

/// A reason as one line of a Markdown cell.
fn cell(reason: &str) -> String {
    let line = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut text: String = line.chars().take(REASON_CHARACTERS).collect();
    if text.len() < line.len() {
        text.push('…');
    }
    text.replace('|', "\\|")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn every_figure_that_was_asked_for_has_a_line_with_its_value_or_why_not() {
        let mut table = Table::new(&BTreeSet::from([Part::Compose, Part::Mkosi, Part::Boot]), 2);
        table.compare_with("mkosi 27.1".to_owned());
        for (figure, value) in [
            (Figure::ColdCompose, 11.0),
            (Figure::WarmCompose, 0.25),
            (Figure::ColdCompose, 9.0),
            (Figure::WarmCompose, 0.75),
            (Figure::MkosiCold, 76.0),
        ] {
            table.record(figure, value);
        }
        table.give_up(Part::Mkosi, "mkosi failed (exit status: 1):\n  a | b");
        table.miss(Figure::Memory, "the guest does not tell");
        assert_eq!(table.missing(), 7);
        let text = table.text();
        let (rows, end) = text.rsplit_once("\n\n").unwrap();
        insta::assert_snapshot!(rows, @r"
        | figure | bar | stretch | median | each run | instead |
        |---|---|---|---|---|---|
        | cold compose, packages cached | 40 s | 25 s | 10.00 s | 11.00, 9.00 | mkosi 27.1, cold: 76.00 s, 7.6 x |
        | warm compose, cluster file changed | 2 s | 1 s | 0.50 s | 0.25, 0.75 | mkosi 27.1, incremental: not measured |
        | mkosi 27.1, tar without Kubernetes: cold, packages cached |  |  | 76.00 s, then: mkosi failed (exit status: 1): a \| b | 76.00 |  |
        | mkosi 27.1, tar without Kubernetes: incremental, a file changed |  |  | not measured: mkosi failed (exit status: 1): a \| b |  |  |
        | power-on to node Ready | 90 s | 60 s | not measured |  |  |
        | kernel start to all services started | 6 s | 3.5 s | not measured |  |  |
        | firstboot's own part of that | 1.5 s | 1.0 s | not measured |  |  |
        | identity and network, address of the cluster file | 1.0 s |  | not measured |  |  |
        | memory in use, idle, all-in-one | 500 MB | 400 MB | not measured: the guest does not tell |  |  |
        ");
        assert!(end.starts_with("Measured 2 times on "), "{end}");
    }

    #[test]
    fn what_was_not_compared_is_said() {
        let mut table = Table::new(&BTreeSet::from([Part::Compose]), 1);
        table.record(Figure::ColdCompose, 10.0);
        let text = table.text();
        assert!(text.contains("| 40 s | 25 s | 10.00 s | 10.00 | mkosi, cold: not measured |\n"), "{text}");
        assert!(text.contains("| not measured |  | mkosi, incremental: not measured |\n"), "{text}");
    }

    #[test]
    fn a_long_reason_is_cut_and_stays_in_its_cell() {
        let reason = cell(&format!("one\ntwo | {}", "é".repeat(200)));
        assert!(reason.starts_with("one two \\| é") && reason.ends_with("é…"), "{reason}");
        assert_eq!(reason.chars().count(), REASON_CHARACTERS + 2);
    }
}
