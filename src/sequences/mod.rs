//! Sequences of several steps, each of which may be interrupted and done again.

pub mod arguments;
pub mod backup;
pub mod check;
pub mod context;
pub mod cutover;
pub mod down;
pub mod failover;
pub mod import;
pub mod move_app;
pub mod redis_cli;
pub mod rehearsal;
pub mod restore;
pub mod rolling;
pub mod rotation;
pub mod setup;
pub mod ssh;
pub mod status;
pub mod up;
pub mod verify;
