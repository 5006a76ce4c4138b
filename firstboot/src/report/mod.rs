//! The boot report: a line per stage on every console, and `boot.json`.
