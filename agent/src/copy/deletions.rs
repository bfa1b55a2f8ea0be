//! Keys that the target has and the source has not. Few of them are removed at every sweep; many at
//! once may mean that the source lost its data, and then the target is the last that has it.

use super::left_out::{self, Prefix};
use super::remembered::Remembered;
use super::source::Source;
use super::target::Target;
use anyhow::Result;

/// This many keys may always go.
const FEW: u64 = 100;
/// More bytes of names than this are not kept in memory. The rest goes at the next sweep.
const MOST_BYTES: usize = 8 << 20;
/// Bytes that a name takes besides its own.
const OVERHEAD: usize = 48;
/// Keys of one command, and of one round trip to the source.
const STEP: usize = 500;
const ROUND: usize = 10_000;

/// The keys that the source no longer has.
#[derive(Default)]
pub struct Gone {
    keys: Vec<(u32, Vec<Vec<u8>>)>,
    bytes: usize,
    count: u64,
    /// Keys that the target had.
    looked_at: u64,
    /// Keys that were written to the target, and that somebody else removed there.
    pub removed: u64,
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
        if !keys.is_empty() && self.bytes < MOST_BYTES {
            self.bytes += keys.iter().map(|key| key.len() + OVERHEAD).sum::<usize>();
            self.keys.push((database, keys));
        }
    }
}

/// Walks through the target. Returns `None` if it was interrupted. `watched`: each key that a command
/// deleted since the sweep began is marked, so that one that was read meanwhile is not asked for again. What expired there
/// expires on the target too, and an eviction ends what the watch stands for.
pub fn find(
    source: &mut Source,
    target: &mut Target,
    left_out: &[Prefix],
    watched: bool,
    remembered: &mut Remembered,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<Option<Gone>> {
    let mut gone = Gone::default();
    remembered.walk_begins();
    for (database, _) in target.look()?.keys {
        target.select(database)?;
        let selectable = source.select(database)?;
        let (mut cursor, mut round) = (0, Vec::new());
        loop {
            let (next, mut keys) = target.scan(cursor)?;
            left_out::remove(&mut keys, left_out);
            gone.looked_at += keys.len() as u64;
            keys.retain(|key| {
                let was_read = remembered.met(database, key);
                !(watched && was_read)
            });
            round.append(&mut keys);
            cursor = next;
            if cursor == 0 || round.len() >= ROUND {
                let keys = std::mem::take(&mut round);
                gone.add(database, if selectable { missing(source, keys)? } else { keys });
            }
            if cursor == 0 {
                break;
            }
            if interrupted() {
                return Ok(None);
            }
        }
    }
    gone.removed = remembered.walk_ended(target.clock()?.unwrap_or(0));
    Ok(Some(gone))
}

fn missing(source: &mut Source, mut keys: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
    let groups = source.counts(keys.chunks(STEP))?;
    let mut whole = groups
        .iter()
        .flat_map(|(is_whole, keys)| std::iter::repeat_n(*is_whole, *keys));
    keys.retain(|_| whole.next() != Some(true));
    let mut there = source.has(&keys)?.into_iter();
    keys.retain(|_| there.next() == Some(false));
    Ok(keys)
}

/// Removes what is still missing. Returns how many keys went.
pub fn apply(source: &mut Source, target: &mut Target, gone: Gone, remembered: &mut Remembered) -> Result<u64> {
    let mut deleted = 0;
    for (database, keys) in gone.keys {
        target.select(database)?;
        let selectable = source.select(database)?;
        for keys in keys.chunks(STEP) {
            // A key may have come back since the walk.
            let keys = keys.to_vec();
            let missing = if selectable { missing(source, keys)? } else { keys };
            for key in &missing {
                remembered.forget(database, key);
            }
            deleted += target.delete(&missing)?;
        }
    }
    Ok(deleted)
}
