//! The user interface: steps and progress on stderr, tables and JSON on stdout.
//!
//! Work reports through [`Ui::step`] and never prints. A step is a spinner line on a terminal;
//! elsewhere a plain line at its end and every ten seconds. [`Ui::data`] prints results on stdout.

mod progress;
mod report;

pub use progress::{Step, Ui, UiOptions};
pub use report::document;

/// The version of the form that `--json` prints.
pub const JSON_SCHEMA_VERSION: u32 = 1;
