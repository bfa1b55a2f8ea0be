//! The app that is moved: web and worker processes under load, each with a ledger of what Redis
//! acknowledged to it, and the checker that compares the ledgers with a Redis.
//! Nothing here knows of the move: the app reconnects as any app, and the checker only looks.

mod check;
mod command;
pub mod keys;
pub mod ledger;
mod long_job;
pub(crate) mod operate;
mod seed;
pub mod settings;
mod store;
pub mod web;
pub mod worker;

pub use command::{AppCommand, Command, LedgerCommand};
pub use seed::{Seed, Seeded};
