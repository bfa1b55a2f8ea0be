//! `infra`: takes an app off a hosted Redis and onto a master and replica of its own, without losing a write.
//!
//! Layers, each knowing only those below: `commands` → `cutover`, `host`, `backup` → `cloud`, `remote`, `redis`, `platform`, `state` → nothing of
//! ours. `plan` and the decisions of `cutover` are pure. `docs/architecture.md` has the picture.

pub mod backup;
pub mod cli;
pub mod cloud;
pub mod commands;
pub mod config;
pub mod cutover;
pub mod error;
pub mod fault;
pub mod files;
#[cfg(test)]
mod garbage;
pub mod host;
pub mod http;
pub mod interrupt;
pub mod inventory;
pub mod plan;
pub mod platform;
pub mod redis;
pub mod rehearsal;
pub mod remote;
pub mod rotation;
pub mod secret;
pub mod setup;
pub mod state;
pub mod ui;
pub mod wait;
