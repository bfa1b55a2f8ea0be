//! What is protected, tried from the side of whoever should not get through: real machines, real credentials of the hosts, a real engine.
//!
//! Each of these is seen to fail when its defence is taken away. Needs root, as the sandbox does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at what it did not expect"
)]

#[path = "../common/access.rs"]
mod access;
mod leaks;
mod rules;
#[allow(dead_code, reason = "the journey uses the rest of it")]
#[path = "../journey/secrets.rs"]
mod secrets;
mod watch;
#[path = "../journey/world.rs"]
mod world;
