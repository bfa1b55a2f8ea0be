//! Pure functions from what is wanted and what was found to what to do, without I/O and clock.
//!
//! `--dry-run` prints what [`cloud::plan`] returns, and `effects::cloud::apply` carries it
//! out: there is no second simulation. Hosts have a plan of their own, in `effects::host`.

pub mod access;
pub mod app_vars;
pub mod cloud;
pub mod credits;
pub mod cutover;
pub mod failover;
pub mod follow;
pub mod import;
pub mod preflight;
pub mod resize;
pub mod rolling;
pub mod room;
pub mod teardown;
pub mod vars;
