//! The state of a sweep: both servers, limits, and keys that have to wait.

use super::journal::Journal;
use super::left_out::Prefix;
use super::remembered::Remembered;
use super::shared::Shared;
use super::source::Source;
use super::target::Target;
use super::watch::{Token, Watch};
use std::path::Path;
use std::time::Duration;

/// Values are read in batches of about this many bytes.
pub const BATCH: u64 = 2 << 20;
/// A larger value is read in parts: it would hold the source up.
pub const LARGE: u64 = 1 << 20;
/// How often the place is written down.
pub const JOURNALED: Duration = Duration::from_secs(1);
/// How often identity and memory are looked at.
pub const LOOKED: Duration = Duration::from_secs(2);

/// Keys that were not copied with their batch, and are as soon as neither side has anything under way.
#[derive(Default)]
pub struct Later {
    /// Keys whose format the target does not know.
    pub by_type: Vec<Vec<u8>>,
    /// Keys that turned out to be long.
    pub in_parts: Vec<Vec<u8>>,
}

impl Later {
    pub fn is_empty(&self) -> bool {
        self.by_type.is_empty() && self.in_parts.is_empty()
    }
}

/// One walk through every key of the source, and through every key of the target.
pub struct Sweep<'a> {
    pub source: &'a mut Source,
    pub target: &'a mut Target,
    pub journal: &'a mut Journal,
    pub remembered: &'a mut Remembered,
    pub shared: &'a Shared,
    /// Bytes that may be read in a second; `None` if an app waits.
    pub rate: Option<u64>,
    /// Keys whose names begin so stay where they are.
    pub left_out: &'a [Prefix],
    /// Keys that were not copied with their batch.
    pub later: Later,
    pub home: &'a Path,
    pub memory: Option<u64>,
    /// Marks the keys that are written meanwhile.
    pub watch: Option<&'a Watch>,
    /// Shows that the sweep began within the watch.
    pub token: Option<&'a Token>,
}
