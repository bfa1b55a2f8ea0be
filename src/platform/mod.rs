//! Where the app runs: its config vars, processes and releases, read and changed one step at a time.
//!
//! [`Heroku`] is the platform as one app sees it. Whatever may hold a URL is a [`crate::secret::Secret`] from the moment it is read. A change whose answer
//! was lost is looked for before it is sent again, since the platform knows no idempotency keys and every change restarts the app.
//!
//! Deliberately not here: what to change and when (`cutover` decides that), destroying an add-on, and rolling back to a release, which would roll back code too.

pub mod heroku;

pub use heroku::{Attachment, ConfigVars, Dyno, Formation, Heroku, Release, ReleaseStatus};
