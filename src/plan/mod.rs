//! What is wanted, what was found, what to do: values and pure functions between them, without I/O and without a clock.
//!
//! The value that [`cloud::plan`] gives is printed by `--dry-run` and carried out by `cloud::apply`: there is no second simulation. Hosts have a plan
//! of their own, in `host`.

pub mod access;
pub mod cloud;
pub mod names;
pub mod preflight;
pub mod teardown;
