//! What the person sees: steps with their progress on stderr, tables and JSON on stdout.
//!
//! Work reports through [`Ui::step`] and never prints. On a terminal a step is a spinner line, elsewhere a plain line when it ends, and
//! every ten seconds before. Data goes to stdout by [`Ui::data`], in the form that was asked for.

mod progress;

pub use progress::{Step, Ui, UiOptions};

/// The form of what `--json` prints.
pub const JSON_SCHEMA_VERSION: u32 = 1;
