//! Tries the tunnel as a process: real engines and servers of every kind of certificate at the
//! one end, an engine or a bare socket at the other, all on loopback.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod certificates;
mod flow;
mod following;
mod lag;
mod names;
mod peer;
mod redis;
mod rig;
