//! Fuzzes what is parsed here, by the means that `wire` has for it.

#[path = "../wire/src/fuzz.rs"]
mod means;
mod records;

pub use means::{CASES, bytes, held_by, inputs, text};
