//! Hosts reached by ssh: sessions, commands, files, host keys.
//!
//! One TCP session per host carries every command sent to it. A host is believed only when it shows a key that was pinned before; there is no
//! "trust on first use" here, and nothing secret is sent before the key was compared. What is sent is `host`'s business; interactive shells are
//! left to the system's own ssh.

mod attempt;
mod channel;
mod conversation;
pub mod key;
pub mod session;
mod target;

pub use key::{HostKey, KeyPair};
pub use session::Session;
pub use target::{Output, Target};
