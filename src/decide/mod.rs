//! What is wanted, what was found, what to do: pure functions between values, without I/O and without a clock.
//!
//! The value that [`cloud::plan`] gives is printed by `--dry-run` and carried out by `effects::cloud::apply`: there is no second simulation. Hosts have a plan
//! of their own, in `effects::host`.

pub mod access;
pub mod app_vars;
pub mod cloud;
pub mod cutover;
pub mod preflight;
pub mod teardown;
pub mod vars;
