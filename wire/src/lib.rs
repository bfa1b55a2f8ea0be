//! How Redis and Valkey speak, for all programs here that listen to them: the operator and the agent on a host.
//!
//! | module | what it does |
//! |---|---|
//! | [`resp`] | writes commands; reads numbers, lengths and where a reply ends |
//! | [`answer`] | walks through answers before a parser sees them, so that none is endless |
//! | [`reply`] | takes parsed replies apart |
//! | [`info`] | reads INFO |
//! | [`stream`] | cuts a replication stream into commands |
//! | [`monitor`] | cuts the lines of MONITOR into requests |
//! | [`request`] | says which keys a request may change, as long as its client may wait |
//! | [`rows`] | holds where commands have the keys that they write |
//! | [`effect`] | says what a command does to which keys, by its own list and by the table of an engine ([`commands`]) |
//! | [`bounds`] | holds how long each of these may be |
//!
//! Deliberately not here: any I/O, any clock, anything that waits. Bytes and values come in, values go out.

pub mod answer;
pub mod bounds;
pub mod commands;
pub mod effect;
#[cfg(test)]
mod fuzz;
pub mod info;
pub mod members;
pub mod monitor;
pub mod reply;
pub mod request;
pub mod resp;
pub mod rows;
pub mod stream;
pub mod touched;
