//! The keys that rows make, by which keys without a row are found.

use super::super::setup::Ground;
use std::collections::{BTreeSet, HashMap};

/// The keys that the rows of one table make, with how many rows make each.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Made(HashMap<u64, u32>);

impl Made {
    pub fn add(&mut self, key: u64) {
        *self.0.entry(key).or_default() += 1;
    }

    /// Returns how many rows make the key; `None` if no row does.
    pub fn rows(&self, key: u64) -> Option<u32> {
        self.0.get(&key).copied()
    }

    pub fn append(&mut self, other: Made) {
        for (key, count) in other.0 {
            *self.0.entry(key).or_default() += count;
        }
    }
}

/// Returns true if an index leads from a key to its rows.
pub(super) fn are_looked_up(ground: &Ground) -> bool {
    let shape = &ground.shape;
    let named: BTreeSet<&str> = shape.template_columns.iter().map(|(name, _)| name.as_str()).collect();
    let leads = |unique: &Vec<String>| unique.first().is_some_and(|first| named.contains(first.as_str()));
    shape.is_readable && ground.relation.unique.iter().any(leads)
}
