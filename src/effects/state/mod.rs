//! What must outlive the process: the environment's state, its lock, the journals of its cutovers (JSON objects in the bucket) and its secrets
//! (SSM parameters).
//!
//! Every write is conditional on what was read, so that two processes can never overwrite each other unseen. What *exists* in the cloud is not
//! kept here: that is asked of the cloud, by tag.

mod epoch;
mod journal;
mod lock;
mod lock_record;
mod process;
mod store;

pub use journal::{Entry, Journal};
pub(crate) use lock::FILE as LOCK_FILE;
pub use lock::{Held, Lock, Standing};
pub use lock_record::{LOCK_TERM, LockRecord};
pub use process::ProcessIdentity;
pub use store::{Store, Stored};
