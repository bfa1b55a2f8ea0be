//! Brings keys to what rows say, unless somebody changes them meanwhile.

use super::{Entries, add_whole};
use crate::model::error::Result;
use crate::model::import::{Entry, Part};
use ::redis::Pipeline;

/// A change of a key.
#[derive(Debug)]
pub enum Mend<'a> {
    /// The key holds the entry alone.
    Write(&'a Entry),
    /// The key gets these members and keeps its others.
    Add(&'a Entry),
    /// The key is gone.
    Remove(&'a [u8]),
    /// The key loses these members.
    Take(&'a [u8], &'a Part),
}

impl Entries {
    /// Watches keys: [`Entries::mend`] does nothing if one of them is changed from now on.
    pub async fn watch<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) -> Result<()> {
        let mut watching = Pipeline::new();
        watching.cmd("UNWATCH");
        let watch = watching.cmd("WATCH");
        for key in keys {
            watch.arg(key);
        }
        for answer in self.watching.ask_all(&watching).await? {
            self.accepted(answer)?;
        }
        Ok(())
    }

    /// Makes all changes, or none and returns false if a watched key was changed since it is watched.
    pub async fn mend(&mut self, changes: &[Mend<'_>]) -> Result<bool> {
        let mut making = Pipeline::new();
        making.cmd("MULTI");
        for change in changes {
            match change {
                Mend::Write(entry) => {
                    making.cmd("DEL").arg(&entry.key);
                    add_whole(&mut making, entry);
                }
                Mend::Add(entry) => add_whole(&mut making, entry),
                Mend::Remove(key) => {
                    making.cmd("DEL").arg(*key);
                }
                Mend::Take(key, Part::SortedSet(members)) => {
                    for (member, _) in members {
                        making.cmd("ZREM").arg(*key).arg(member);
                    }
                }
                Mend::Take(key, Part::Set(members)) => {
                    making.cmd("SREM").arg(*key).arg(members);
                }
                // Only sets share a key between rows.
                Mend::Take(_, Part::String(_) | Part::Hash(_) | Part::List(_)) => {}
            }
        }
        making.cmd("EXEC");
        self.transaction(&making).await
    }
}
