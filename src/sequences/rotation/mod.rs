//! Replacing the password of a user of Redis without an error for whoever uses it: both are accepted while everybody comes to use the new one, then the
//! old one is refused.
//!
//! The order of things is [`crate::model::rotation::Stage`]; hosts come to each stage as by `infra up`, through `setup::hosts`. Here is what only a rotation needs:
//! [`app`] hands an app its new password and waits until nobody holds the old one, [`proof`] asks the hosts what they accept.

pub mod app;
pub mod proof;
pub mod run;
