//! Replaces the password of a user of Redis without an error: both are accepted while everybody
//! comes to use the new one, then the old one is refused.
//!
//! [`crate::model::rotation::Stage`] has the order, and `setup::hosts` brings hosts to each stage.
//! `work` goes through the stages, [`app`] gives an app its new password, [`proof`] asks the hosts
//! what they accept.

pub mod app;
pub mod proof;
pub mod run;
mod work;
