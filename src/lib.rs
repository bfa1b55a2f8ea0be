//! `infra`: takes an app off a hosted Redis and onto a master and replica of its own, without losing a write.
//!
//! The folders are layers, the lowest first: `model`, `ui`, `effects`, `decide`, `sequences`, `commands`. A file imports only from its own layer and from those below;
//! `tests/layers.rs` holds that. `docs/architecture.md` has the picture.

pub mod commands;
pub mod decide;
pub mod effects;
#[cfg(test)]
mod fuzz;
pub mod model;
pub mod sequences;
pub mod ui;
