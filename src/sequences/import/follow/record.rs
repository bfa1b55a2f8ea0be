//! How far the following is, in a file beside `import.yml`, so that the next run goes on after a kill.
//!
//! The server remembers how far the log of changes is confirmed; the file remembers the rest. If the file is lost,
//! every row is looked at once more, and nothing else is.

use super::mend::Followed;
use crate::decide::import::follow::Way;
use crate::model::error::{Doing, Result};
use crate::model::files;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// More than any record takes.
const MAX_BYTES: u64 = 4 << 20;

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Record {
    /// True once slot and publication were made for these tables.
    pub has_slot: bool,
    /// The name of both. A changed mapping has another one.
    pub slot: Option<String>,
    pub tables: BTreeMap<String, Table>,
    /// When everything up to then was followed.
    pub caught_up: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Table {
    pub way: Way,
    /// Every row was looked at once since the changes are followed.
    pub swept: bool,
    /// The largest value of the column that grows which was seen.
    pub high: Option<String>,
    #[serde(flatten)]
    pub followed: Followed,
}

impl Record {
    pub fn path(file: &Path) -> PathBuf {
        let mut name = file.as_os_str().to_owned();
        name.push(".follow");
        PathBuf::from(name)
    }

    /// Reads the record beside this file; `None` if there is none.
    pub fn read(file: &Path) -> Option<Record> {
        let text = files::read_text(&Self::path(file), MAX_BYTES).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub fn write(&self, file: &Path) -> Result<()> {
        let path = Self::path(file);
        let doing = || format!("write {}", path.display());
        let text = serde_json::to_string(self).doing(doing)?;
        files::replace(&path, &text).doing(doing)
    }

    pub fn remove(file: &Path) -> Result<()> {
        let path = Self::path(file);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}
