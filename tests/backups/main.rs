//! Backups as they are meant to be used: written by the real agent beside a real engine, restored by the operator's side to any second, and found out when damaged.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]
// Each test file uses its own part of it.
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../common/aws.rs"]
mod aws;
mod clock;
mod damage;
mod kept;
mod outages;
mod pair;
mod parts;
mod seconds;
mod unlogged;
mod world;
mod writer;
