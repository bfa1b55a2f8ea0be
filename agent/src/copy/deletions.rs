//! Keys that the target has and the source has not. Few of them are removed at every sweep; many at
//! once may mean that the source lost its data, and then the target is the last that has it.

use super::remembered::Remembered;
use super::source::Source;
use super::target::Target;
use anyhow::Result;

/// This many keys may always go.
const FEW: u64 = 100;
/// More names than this are not kept in memory: so many deletions are held in any case.
const MOST: usize = 200_000;
const STEP: usize = 500;

/// The keys that the source no longer has.
#[derive(Default)]
pub struct Gone {
    keys: Vec<(u32, Vec<Vec<u8>>)>,
    count: u64,
    /// Keys that the target had.
    looked_at: u64,
}

impl Gone {
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns true if more than a tenth of the keys would go.
    pub fn is_too_much(&self) -> bool {
        self.count > (self.looked_at / 10).max(FEW)
    }

    fn add(&mut self, database: u32, keys: Vec<Vec<u8>>) {
        self.count += keys.len() as u64;
        let kept: usize = self.keys.iter().map(|(_, keys)| keys.len()).sum();
        if !keys.is_empty() && kept < MOST {
            self.keys.push((database, keys));
        }
    }
}

/// Walks through the target. Returns `None` if it was interrupted.
pub fn find(source: &mut Source, target: &mut Target, interrupted: &mut dyn FnMut() -> bool) -> Result<Option<Gone>> {
    let mut gone = Gone::default();
    for (database, _) in target.look()?.keys {
        target.select(database)?;
        let selectable = source.select(database)?;
        let mut cursor = 0;
        loop {
            let (next, keys) = target.scan(cursor)?;
            gone.looked_at += keys.len() as u64;
            let missing = if selectable { missing(source, &keys)? } else { keys };
            gone.add(database, missing);
            cursor = next;
            if cursor == 0 {
                break;
            }
            if interrupted() {
                return Ok(None);
            }
        }
    }
    Ok(Some(gone))
}

fn missing(source: &mut Source, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let there = source.has(keys)?;
    let missing = keys.iter().zip(there).filter(|(_, there)| !there);
    Ok(missing.map(|(key, _)| key.clone()).collect())
}

/// Removes what is still missing. Returns how many keys went.
pub fn apply(source: &mut Source, target: &mut Target, gone: Gone, remembered: &mut Remembered) -> Result<u64> {
    let mut deleted = 0;
    for (database, keys) in gone.keys {
        target.select(database)?;
        let selectable = source.select(database)?;
        for keys in keys.chunks(STEP) {
            // A key may have come back since the walk.
            let missing = if selectable {
                missing(source, keys)?
            } else {
                keys.to_vec()
            };
            for key in &missing {
                remembered.forget(database, key);
            }
            deleted += target.delete(&missing)?;
        }
    }
    Ok(deleted)
}
