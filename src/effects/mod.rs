//! Everything outside of this program: one module each for AWS, ssh, Redis, PostgreSQL, platform and state.

pub mod backup;
pub mod cloud;
pub mod fault;
pub mod host;
pub mod http;
pub mod interrupt;
pub mod inventory;
pub mod platform;
pub mod postgres;
pub mod redis;
pub mod remote;
pub mod state;
pub mod wait;
