//! The ledger: what each process of the app sent to Redis and what Redis acknowledged.
//!
//! One file a process, only ever appended to. An attempt is written *before* it is sent, an
//! acknowledgement after it came. A killed process may leave attempts without the acknowledgement
//! that it got; these count as unknown. A ledger never claims more than happened.

mod count;
pub mod format;
mod hand_over;
mod judge;
mod observe;
mod summary;
mod writer;

pub use count::Confirmed;
pub use judge::{Finding, FindingKind, Observed, Verdict, judge};
pub use observe::observe;
pub use summary::{Expectations, Report, read_folder, read_folder_since, report};
pub use writer::{Ledger, Operation};
