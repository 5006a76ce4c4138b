//! The kernel command line, as far as first boot reads it.

use std::path::Path;
use std::time::Duration;

use bootwright_model::layout;

use crate::report::under;

/// Key of the time that a failed boot stays on the screen, seconds.
const HOLD: &str = "bootwright.hold";
/// Long enough to read and to photograph; short enough that an unattended machine tries again.
const USUAL_HOLD: Duration = Duration::from_secs(300);

/// The command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine(String);

impl CommandLine {
    /// Reads `/proc/cmdline`; empty if it cannot be read.
    pub fn read(root: &Path) -> CommandLine {
        CommandLine(std::fs::read_to_string(under(root, "/proc/cmdline")).unwrap_or_default())
    }

    /// The value of the last `key=value`; the kernel's own rule for a repeated key.
    pub fn value(&self, key: &str) -> Option<&str> {
        let words = self.0.split_ascii_whitespace().filter_map(|word| word.split_once('='));
        words.filter(|(name, _)| *name == key).map(|(_, value)| value).next_back()
    }

    /// The root hash.
    pub fn root_hash(&self) -> Option<&str> {
        self.value(layout::CMDLINE_ROOT_HASH)
    }

    /// How long a failed boot stays on the screen.
    pub fn hold(&self) -> Duration {
        let seconds = self.value(HOLD).and_then(|text| text.parse().ok());
        seconds.map_or(USUAL_HOLD, Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts() {
        let line = CommandLine("quiet roothash=aa console=ttyS0 roothash=bb bootwright.hold=7\n".into());
        assert_eq!(line.root_hash(), Some("bb"));
        assert_eq!(line.hold(), Duration::from_secs(7));
        assert_eq!(line.value("quiet"), None);
        assert_eq!(CommandLine("bootwright.hold=long".into()).hold(), USUAL_HOLD);
    }
}
