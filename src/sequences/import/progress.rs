//! How far a run is, in a file beside `import.yml`, so that the next run goes on after a kill.
//!
//! The file holds nothing that cannot be found again: without it a run begins at the first row, and
//! leaves what is there. Ranges count in their order, so one key says what is done.

use crate::effects::postgres::{Bounds, Range};
use crate::model::error::{Doing, Result};
use crate::model::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// More than any progress takes.
const MAX_BYTES: u64 = 4 << 20;

/// Counts of rows by what became of them; the fields are part of the JSON output and only ever
/// grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Counts {
    pub rows: u64,
    /// Rows whose key, fields or members were written.
    pub written: u64,
    /// Rows whose value was there already.
    pub same: u64,
    /// Rows for which Redis has another value, which was left.
    pub left: u64,
    /// Rows for which Redis had another value, which was replaced.
    pub replaced: u64,
    /// Rows that map to nothing: NULL, or an empty array.
    pub without_value: u64,
    /// Rows whose time to expire is over.
    pub expired: u64,
    /// Rows that were deleted or renamed while they were written; what was written is gone again.
    pub taken_back: u64,
    /// Rows that came and went until the run gave up on them; `verify` looks at them again.
    pub unsettled: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        let Counts {
            rows,
            written,
            same,
            left,
            replaced,
            without_value,
            expired,
            taken_back,
            unsettled,
        } = other;
        self.rows += rows;
        self.written += written;
        self.same += same;
        self.left += left;
        self.replaced += replaced;
        self.without_value += without_value;
        self.expired += expired;
        self.taken_back += taken_back;
        self.unsettled += unsettled;
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
struct Record {
    /// Tells a run of one mapping between two servers from any other.
    run: String,
    tables: BTreeMap<String, Done>,
}

/// How far one table is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Done {
    /// Every row up to this key is done.
    pub up_to: Option<Bounds>,
    pub finished: bool,
    pub counts: Counts,
}

pub struct Progress {
    path: PathBuf,
    record: Record,
    /// Ranges that are done and wait for an earlier one, by their number.
    waiting: BTreeMap<u64, (Range, Counts)>,
    next: u64,
}

impl Progress {
    /// Opens the progress of this run; one of another run is forgotten.
    pub fn open(file: &Path, run: &str, restart: bool) -> Progress {
        let mut name = file.as_os_str().to_owned();
        name.push(".progress");
        let path = PathBuf::from(name);
        let found = files::read_text(&path, MAX_BYTES).ok();
        let found = found.and_then(|text| serde_json::from_str::<Record>(&text).ok());
        let record = found
            .filter(|record| record.run == run && !restart)
            .unwrap_or_else(|| Record {
                run: run.to_owned(),
                tables: BTreeMap::new(),
            });
        Progress {
            path,
            record,
            waiting: BTreeMap::new(),
            next: 0,
        }
    }

    /// Returns how far a table is, and begins to count its ranges.
    pub fn begin(&mut self, table: &str) -> Done {
        self.waiting.clear();
        self.next = 0;
        self.record.tables.entry(table.to_owned()).or_default().clone()
    }

    /// Notes that a range is done, durably once all before it are.
    pub fn done(&mut self, table: &str, number: u64, range: Range, counts: Counts) -> Result<()> {
        self.waiting.insert(number, (range, counts));
        let mut grew = false;
        while let Some((range, counts)) = self.waiting.remove(&self.next) {
            self.next += 1;
            grew = true;
            let done = self.record.tables.entry(table.to_owned()).or_default();
            done.finished |= range.up_to.is_none();
            done.up_to = range.up_to.or(done.up_to.take());
            done.counts.add(&counts);
        }
        if grew { self.write() } else { Ok(()) }
    }

    /// Returns the counts of each table so far.
    pub fn counts(&self) -> BTreeMap<String, Counts> {
        let tables = self.record.tables.iter();
        tables.map(|(table, done)| (table.clone(), done.counts)).collect()
    }

    /// Removes the file when the run is complete: the next one begins anew.
    pub fn finish(self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    fn write(&self) -> Result<()> {
        let doing = || format!("write {}", self.path.display());
        let text = serde_json::to_string(&self.record).doing(doing)?;
        files::replace(&self.path, &text).doing(doing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranges_without_an_open_one_before_them_are_done() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("import.yml");
        let bounds = |id: &str| Some(vec![Some(id.to_owned())]);
        let range = |after, up_to| Range { after, up_to };
        let counts = Counts {
            rows: 5,
            ..Counts::default()
        };
        let mut progress = Progress::open(&file, "one", false);
        assert_eq!(progress.begin("t"), Done::default());
        progress.done("t", 1, range(bounds("5"), bounds("9")), counts).unwrap();
        assert_eq!(Progress::open(&file, "one", false).begin("t"), Done::default());
        progress.done("t", 0, range(None, bounds("5")), counts).unwrap();
        let done = Progress::open(&file, "one", false).begin("t");
        assert_eq!((done.up_to, done.finished, done.counts.rows), (bounds("9"), false, 10));
        assert_eq!(Progress::open(&file, "another", false).begin("t"), Done::default());
        assert_eq!(Progress::open(&file, "one", true).begin("t"), Done::default());
        progress.done("t", 2, range(bounds("9"), None), counts).unwrap();
        assert!(Progress::open(&file, "one", false).begin("t").finished);
        progress.finish().unwrap();
        assert_eq!(Progress::open(&file, "one", false).begin("t"), Done::default());
    }
}
