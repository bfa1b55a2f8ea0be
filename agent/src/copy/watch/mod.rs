//! The watch by MONITOR: knows which keys of the source were written since it began.
//!
//! [`line`] opens MONITOR and reads it on a thread of its own into [`marks`]. [`barrier`] proves how
//! far it is read, by a read with a nonce, and that no request is missing, by the source's own count
//! of its commands. [`keeper`] opens a watch, asks for a barrier twice a second, and closes MONITOR
//! when it lags or the source runs short of memory: what the source cannot send it holds in memory.
//!
//! A break is never bridged. The next watch has another id, knows nothing of what was written in
//! between, and is whole only after a sweep that began within it.
//!
//! Deliberately not here: values. They are discarded while they are read, and never logged.

mod barrier;
mod keeper;
mod line;
mod marks;
mod members;
mod waiters;

pub use keeper::{Connect, Ground, Watch, start};
pub use marks::Token;
pub use members::Members;
