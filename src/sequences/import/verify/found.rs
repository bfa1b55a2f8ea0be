//! The differences that a round of `verify` found.

use super::super::setup::Ground;
use crate::model::import::Row;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Differences that are kept for the next round; with more, that round looks at everything again.
const KEPT: usize = 100_000;

/// A row and a key that do not fit; one of them may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The table's place among those that are verified.
    pub table: usize,
    pub key: Vec<u8>,
    /// The values of the row's key columns; `None` if only the key is known.
    pub row: Option<Vec<String>>,
    pub why: String,
}

/// The findings of one round.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub differences: Vec<Difference>,
    /// All of them, also those that are not kept.
    pub count: u64,
    pub rows: BTreeMap<String, u64>,
    pub keys: BTreeMap<String, u64>,
}

impl Found {
    pub fn add(&mut self, difference: Difference) {
        self.count += 1;
        if self.differences.len() < KEPT {
            self.differences.push(difference);
        }
    }

    pub fn append(&mut self, other: Found) {
        self.count += other.count;
        let room = KEPT.saturating_sub(self.differences.len());
        self.differences.extend(other.differences.into_iter().take(room));
        for (table, count) in other.rows {
            *self.rows.entry(table).or_default() += count;
        }
        for (table, count) in other.keys {
            *self.keys.entry(table).or_default() += count;
        }
    }
}

/// Returns true if a row's key is to be there: a row whose time is over has none.
pub fn is_due(expires_at: Option<i64>) -> bool {
    expires_at.is_none_or(|at| at > Timestamp::now().as_millisecond())
}

/// Returns the values of a row's key columns, by which it is found again.
pub fn key_values(ground: &Ground, row: &Row) -> Option<Vec<String>> {
    let values = ground
        .shape
        .key_columns
        .iter()
        .map(|at| row.values.get(*at).cloned().flatten());
    values.collect()
}
