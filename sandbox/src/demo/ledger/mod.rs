//! The ledger: what each process of the app sent to Redis and what Redis acknowledged to it, and the judgement on that.
//!
//! One file a process, only ever appended to. An attempt is written to the file *before* it is sent, an acknowledgement
//! after it came. So a process that is killed may leave attempts whose acknowledgement is not written down (they then
//! count as unknown), but a ledger never claims more than happened.

pub mod format;
mod judge;
mod observe;
mod summary;
mod writer;

pub use judge::{Finding, FindingKind, Observed, Verdict, judge};
pub use observe::observe;
pub use summary::{Expectations, Report, read_folder, report};
pub use writer::{Ledger, Operation};
