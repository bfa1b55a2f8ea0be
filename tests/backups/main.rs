//! Backups as they are meant to be used: written by the real agent beside a real engine, restored by the operator's side to any second, and found out when damaged.

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
