//! Everything outside of this program, a narrow module for each: AWS, hosts by ssh, Redis, the app's platform, the bucket's state. They give types of our own.

pub mod backup;
pub mod cloud;
pub mod fault;
pub mod host;
pub mod http;
pub mod interrupt;
pub mod inventory;
pub mod platform;
pub mod redis;
pub mod remote;
pub mod state;
pub mod wait;
