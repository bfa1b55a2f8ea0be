//! Holds what hosts and `infra` must agree on: how the log is read, how objects in the bucket are
//! named, what their records say, and how a data folder is rebuilt from them.
//!
//! The program on the hosts is `main.rs` and its modules. Nothing here reads the time of day.

pub mod copy;
pub mod digest;
pub mod download;
pub mod files;
pub mod glob;
pub mod manifest;
pub mod name;
pub mod pauses;
pub mod pick;
pub mod rdb;
pub mod rebuild;
pub mod record;
pub mod scan;
mod written;
