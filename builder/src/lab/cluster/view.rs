//! How `lab up` shows a lab: a table that changes on a terminal, a line per change elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::status::{Ready, Status, table};

/// Redraws per second; more costs processor time that the machines need.
const REDRAWS_HZ: u8 = 4;

/// Where a lab's state is shown.
pub enum View {
    /// A table at the bottom of the terminal.
    Table(Table),
    /// Lines on stdout.
    Lines(Lines),
}

impl View {
    /// A table if stderr is a terminal.
    pub fn choose() -> View {
        if std::io::stderr().is_terminal() {
            View::Table(Table::new())
        } else {
            View::Lines(Lines::default())
        }
    }

    /// Shows a state.
    pub fn show(&mut self, status: &Status) {
        match self {
            View::Table(table) => table.show(status),
            View::Lines(lines) => lines.changes(status).iter().for_each(|line| println!("{line}")),
        }
    }

    /// Says something that stays.
    pub fn say(&mut self, line: &str) {
        match self {
            View::Table(table) => drop(table.screen.println(line)),
            View::Lines(_) => println!("{line}"),
        }
    }
}

/// A table of one bar per line.
pub struct Table {
    screen: MultiProgress,
    lines: Vec<ProgressBar>,
}

impl Table {
    fn new() -> Table {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS_HZ));
        Table { screen, lines: Vec::new() }
    }

    fn show(&mut self, status: &Status) {
        let rows = table(status);
        while self.lines.len() < rows.len() {
            let style = ProgressStyle::with_template("{msg}").expect("the template is good");
            self.lines.push(self.screen.add(ProgressBar::new_spinner().with_style(style)));
        }
        for (line, row) in self.lines.iter().zip(rows) {
            if line.message() != row {
                line.set_message(row);
            }
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // The last state stays to be read.
        self.lines.iter().for_each(|line| line.abandon());
    }
}

/// What was said of each node.
#[derive(Default)]
pub struct Lines {
    said: BTreeMap<String, (String, Ready)>,
}

impl Lines {
    /// What is new since the last time.
    fn changes(&mut self, status: &Status) -> Vec<String> {
        let mut lines = Vec::new();
        for node in &status.nodes {
            let now = (node.stage.clone(), node.ready);
            let before = self.said.insert(node.name.clone(), now.clone());
            if before.as_ref().map(|before| &before.0) != Some(&now.0) {
                lines.push(format!("{}: {}", node.name, node.stage));
            }
            let was = before.map_or(Ready::No, |before| before.1);
            if was != node.ready {
                lines.push(match (node.ready, node.ready_after) {
                    (Ready::Yes, Some(after)) => {
                        format!("node {} Ready {after:.1} s after power-on", node.name)
                    }
                    (Ready::Yes, None) => format!("node {} Ready", node.name),
                    (Ready::No, _) => format!("node {} not Ready", node.name),
                    (Ready::Unknown, _) => format!("node {}: the API does not answer", node.name),
                });
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::{node, status};
    use super::*;

    #[test]
    fn a_line_is_said_once() {
        let mut lines = Lines::default();
        let boot = status(vec![node("w1", "stage root", Ready::No)]);
        assert_eq!(lines.changes(&boot), ["w1: stage root"]);
        assert!(lines.changes(&boot).is_empty());
        let ready = status(vec![node("w1", "stage root", Ready::Yes)]);
        assert_eq!(lines.changes(&ready), ["node w1 Ready 58.1 s after power-on"]);
        let cut = status(vec![node("w1", "stage root", Ready::Unknown)]);
        assert_eq!(lines.changes(&cut), ["node w1: the API does not answer"]);
    }
}
