//! The app that is moved: web and worker processes under load, each with a ledger of what Redis
//! acknowledged to it, and the checker that compares the ledgers with a Redis.
//!
//! Nothing here knows about the move itself: the app reconnects as any app does, and the checker judges what it finds.

mod check;
mod command;
pub mod keys;
pub mod ledger;
mod long_job;
mod operate;
mod seed;
pub mod settings;
mod store;
pub mod web;
pub mod worker;

pub use command::{AppCommand, Command, LedgerCommand};
pub use seed::{Seed, Seeded};
