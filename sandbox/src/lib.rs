//! The local cloud that infra is tried and tested on.

pub mod addon;
pub mod children;
pub mod connect;
pub mod demo;
pub mod platform;
