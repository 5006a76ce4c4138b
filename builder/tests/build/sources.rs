//! The archive that the program's own tests make, by the paths that it has there.

#[path = "../../src/sources/testing/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the program's own tests use the rest")]
pub mod testing;
