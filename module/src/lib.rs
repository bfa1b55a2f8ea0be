//! A module that Redis (7.2 and later) and Valkey load: it is asked at each login, before the password is, and refuses users who come from where they have no business.
//! Why: Redis's rules know no address, and one port serves the app and the replica.
//!
//! Its one setting is `infra.replication-from`, the addresses of the hosts that may replicate; see [`origins`]. It keeps no data, adds no command and is not asked when
//! commands run. Nothing here may panic: that would end the engine.

mod engine;
pub mod origins;
