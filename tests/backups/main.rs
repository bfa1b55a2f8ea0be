//! Backups as they are used: the real agent writes them beside a real engine, the operator's side
//! restores any second, and damage is found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]
mod clock;
mod damage;
mod kept;
mod outages;
mod pair;
mod parts;
mod seconds;
mod unlogged;
mod writer;
