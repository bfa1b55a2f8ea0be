//! An app that keeps what its users have read: users, sessions, markers, and statistics by hour. It writes to
//! PostgreSQL and then to Redis, until it is told to use Redis alone.
//!
//! Its only process makes one write after the other, so that both see them in the same order. A ledger holds every
//! write with its time and its result; the judge holds the ledgers against a Redis.

pub mod app;
mod database;
mod judge;
mod ledger;
mod tables;
mod write;

pub use database::Database;
pub use judge::{Judged, check};
pub use ledger::{Attempt, Ledger, Process, read_folder};
pub use tables::{MAPPING, fill};
pub use write::{Place, Write};
