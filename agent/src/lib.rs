//! What host and operator must agree on: how the append-only log is read, how objects in the bucket are named, what their records say, and how a data folder is
//! built back from them.
//!
//! The program that runs on the hosts is in `main.rs` and its rooms. Nothing here knows who calls it or what time it is.

pub mod digest;
pub mod download;
pub mod glob;
pub mod manifest;
pub mod name;
pub mod pick;
pub mod rdb;
pub mod rebuild;
pub mod record;
pub mod scan;
mod written;
