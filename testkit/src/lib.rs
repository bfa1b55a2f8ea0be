//! Helpers that several test programs and measurements of `infra` share. A helper of one program stays with it.
//!
//! Nothing here returns an error: a helper panics where a test would, with what it waited for or what was printed.
//!
//! The sandbox's own tests do not use it, since the sandbox knows nothing of `infra`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

pub mod access;
pub mod answers;
pub mod aws;
pub mod backups;
pub mod document;
pub mod pair;
pub mod points;
pub mod postgres;
pub mod processes;
pub mod programs;
pub mod secrets;
pub mod waiting;
pub mod world;

/// Returns a port of this computer that nobody listened on a moment ago.
pub fn free_port() -> u16 {
    sandbox::addon::free_port(std::net::Ipv4Addr::LOCALHOST.into()).unwrap()
}
