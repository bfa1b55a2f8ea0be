//! Gathers the results of a comparison by key.

use super::super::key::Key;
use super::difference::{Later, Reason};
use super::pair::Pair;
use super::replies::Trouble;
use crate::model::error::Result;

/// Bytes of values to hold in memory at once, per side and batch.
pub(super) const BUDGET: i64 = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// Keys that were on either side.
    pub compared: u64,
    /// Keys that expired on one side and are about to on the other.
    pub expired: u64,
    pub later: Later,
    pub differing: Vec<(Key, Reason)>,
}

impl Verdicts {
    pub fn differs(&mut self, pair: &Pair, name: &[u8], reason: Reason) {
        let key = Key {
            database: pair.database,
            name: name.to_vec(),
        };
        self.differing.push((key, reason));
    }

    pub fn add(&mut self, more: Verdicts) {
        self.compared += more.compared;
        self.expired += more.expired;
        self.later.add(more.later);
        self.differing.extend(more.differing);
    }
}

/// Turns the result of one value into a verdict.
pub(super) fn settle(
    pair: &Pair,
    name: &[u8],
    found: Result<Option<Reason>, Trouble>,
    verdicts: &mut Verdicts,
) -> Result<()> {
    match found {
        Ok(None) => {}
        Ok(Some(reason)) => verdicts.differs(pair, name, reason),
        Err(Trouble::Moved) => verdicts.differs(pair, name, Reason::Moving),
        Err(Trouble::Failed(error)) => return Err(error),
    }
    Ok(())
}
