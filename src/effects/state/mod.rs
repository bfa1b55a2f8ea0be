//! Everything that outlives the process: the state of an environment, its lock and the journals of
//! its cutovers (JSON objects in the bucket), and its secrets (SSM parameters).
//!
//! Every write depends on what was read, so that two processes never overwrite each other unseen.
//! Resources are not recorded here: the cloud lists them by tag.

mod epoch;
mod held;
pub mod import_history;
mod journal;
mod lock;
mod lock_record;
mod process;
mod store;

pub(crate) use held::FILE as LOCK_FILE;
pub use held::Held;
pub use journal::{Entry, Journal};
pub use lock::{Lock, Standing};
pub use lock_record::{LOCK_TERM, LockRecord};
pub use process::ProcessIdentity;
pub use store::{Store, Stored};
