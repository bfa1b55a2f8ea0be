//! `infra`: moves an app from a hosted Redis to its own master and replica, without losing a write.
//!
//! The folders are layers, lowest first: `model`, `ui`, `effects`, `decide`, `sequences`,
//! `commands`. A file imports only from its own layer and from lower ones; `tests/layers.rs` holds
//! that. `docs/architecture.md` has the picture.

pub mod commands;
pub mod decide;
pub mod effects;
#[cfg(test)]
mod fuzz;
pub mod model;
pub mod sequences;
pub mod ui;
