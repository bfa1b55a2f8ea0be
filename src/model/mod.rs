//! The domain as types: roles, names, secrets, configuration, resources and changes. No I/O here.

pub mod clock;
pub mod cloud;
pub mod config;
pub mod error;
pub mod failover;
pub mod files;
pub mod follow;
pub mod import;
pub mod names;
pub mod phase;
pub mod role;
pub mod rotation;
pub mod secret;
pub mod secrets;
pub mod size;
pub mod state;
pub mod values;
