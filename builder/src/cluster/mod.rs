//! Reads, checks and explains the cluster file.
