//! How Redis and Valkey speak, for everyone here who listens to them: the operator and the agent on a host.
//!
//! [`resp`] writes commands and reads numbers and replies, [`info`] reads INFO, [`answer`] walks through answers that may be endless, [`stream`] cuts a replication stream into commands,
//! [`effect`] says what a command does to which keys, by its own list and by what an engine tells ([`commands`]). [`bounds`] holds how long each of these
//! may be.
//!
//! Deliberately not here: any I/O, any clock, anything that waits. Bytes and values come in, values go out.

pub mod answer;
pub mod bounds;
pub mod commands;
pub mod effect;
#[cfg(test)]
mod fuzz;
pub mod info;
pub mod resp;
pub mod stream;
pub mod touched;
