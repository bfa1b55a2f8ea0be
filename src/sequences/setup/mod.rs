//! From `infra.yml` to a pair that follows: the sequence behind `infra up`, and the look at it that `--dry-run` and `infra status` share.
//!
//! [`access`] looks up who may come in, [`wanted`] turns the configuration into values, [`source`] says what is known of the hosted Redis, [`hosts`] brings one host from bare to what it
//! should be, [`beside`] makes one more for a restore, [`follow`] waits for the data, [`writer`] writes down what must outlive us. What to change is decided by `plan::cloud` and `host::plan`.

pub mod access;
pub mod follow;
pub mod hosts;
pub mod restore_instance;
pub mod source;
pub mod state_writer;
pub mod wanted;
