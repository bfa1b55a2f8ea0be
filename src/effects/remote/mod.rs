//! Hosts reached by ssh: sessions, commands, files, host keys.
//!
//! All commands to a host use one TCP session. A host must show a key that was pinned before: there
//! is no "trust on first use", and nothing secret is sent before the comparison. `host` decides
//! what is sent. Interactive shells are left to the system's own ssh.

mod attempt;
mod channel;
mod conversation;
pub mod key;
pub mod session;
mod target;

pub use key::{HostKey, KeyPair};
pub use session::Session;
pub use target::{Output, Target};
