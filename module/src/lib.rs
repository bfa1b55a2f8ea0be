//! A module for Redis (7.2 and later) and Valkey. It is asked at each login, before the password is
//! checked, and refuses users who come from a wrong address. Redis's own rules know no address, and
//! one port serves the app and the replica.
//!
//! Its one setting, `infra.replication-from`, holds the addresses of the hosts that may replicate;
//! see [`origins`]. It keeps no data, adds no command and is not asked when commands run. Nothing
//! here may panic: that would end the engine.

mod engine;
pub mod origins;
