//! From `infra.yml` to a pair that follows: the sequence behind `infra up`, also for `--dry-run`.
//!
//! [`access`] looks up who may come in, [`wanted`] turns the configuration into values, [`source`]
//! knows the hosted Redis, [`hosts`] makes one host what it should be, [`restore_instance`] makes
//! one more, [`follow`] and [`copied`] wait for the data, [`state_writer`] stores the state.

pub mod access;
pub mod copied;
pub mod follow;
pub mod hosts;
pub mod restore_instance;
pub mod source;
pub mod state_writer;
pub mod wanted;
