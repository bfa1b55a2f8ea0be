//! Brings a large stream of the target up to date by what was written since, without reading it whole.
//!
//! Entries never change, and new ones have higher ids than all before. So those behind the target's
//! last id are new, those before the source's first entry were trimmed, and one that a request
//! deletes is named by it. A group that was written, or looks other than before, is made anew: a
//! client that waited for an entry is served without a request of its own.
//!
//! Marks are gone before this begins, so that what is written meanwhile is marked again. Without
//! such a write both sides must have the same number of entries in the end, once all that was
//! written before is marked.

use super::ids::Id;
use super::part::Part;
use super::streams::{self, Group, Held, Info};
use super::windows::{Outcome, Windows};
use crate::copy::source::Source;
use crate::copy::target::Target;
use crate::copy::watch::Members;
use std::collections::BTreeSet;

/// Ids that are asked for at once.
const STEP: usize = 100;
/// A group with more pending entries is copied with its whole stream.
const MOST_PENDING: i64 = 10_000;

/// A stream whose marked members are copied. Both sides have its database selected, and nothing under way.
pub struct Followed<'a> {
    pub source: &'a mut Source,
    pub target: &'a mut Target,
    pub key: &'a [u8],
    pub held: Held,
}

/// How much was copied.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// Entries, deleted ids and groups.
    pub members: u64,
    pub bytes: u64,
    /// False if the target has another number of entries, though the source did not change meanwhile.
    pub fits: bool,
}

impl Followed<'_> {
    /// Brings the target up to date. Returns `None` if the whole stream has to be copied.
    pub fn bring(&mut self, members: &Members) -> Outcome<Option<Brought>> {
        let Followed {
            source,
            target,
            key,
            held,
        } = self;
        let key: &[u8] = key;
        let mut windows = Windows::of(source, key, held.window);
        // The groups come first: none of them has read an entry behind the last id then.
        let groups = streams::groups(&mut windows)?;
        let stream = streams::info(&mut windows)?;
        let named: Option<Vec<Id>> = members.names.iter().map(|name| Id::named(name)).collect();
        let Some(named) = named.filter(|_| stream.last >= held.last) else {
            return Ok(None);
        };
        let mut step = Step {
            windows: &mut windows,
            target,
            held,
        };
        if !step.trimmed(&stream)? {
            return Ok(None);
        }
        let added = step.added(&stream)?;
        let counters = streams::counters(&stream, step.held.length);
        step.target.add_part_to(key, &counters)?;
        step.held.last = stream.last;
        // An entry that is deleted below may still be pending, and only one that exists can be claimed.
        let Some(changed) = step.groups(groups, members, stream.last)? else {
            return Ok(None);
        };
        if !step.deleted(&named, &stream)? || !step.target.accepted()? {
            return Ok(None);
        }
        let length = step.held.length;
        let now = streams::info(&mut windows)?;
        let is_settled = (now.last, now.length) == (stream.last, stream.length);
        Ok(Some(Brought {
            members: added + named.len() as u64 + changed,
            bytes: windows.read,
            fits: !is_settled || length == now.length,
        }))
    }
}

struct Step<'a, 'b> {
    windows: &'a mut Windows<'b>,
    target: &'a mut Target,
    held: &'a mut Held,
}

impl Step<'_, '_> {
    /// Removes what the source has trimmed. Returns false if the target refuses that.
    fn trimmed(&mut self, stream: &Info) -> Outcome<bool> {
        let removed = self.target.remove_by(self.windows.key, &streams::trim(stream.first))?;
        Ok(self.removed(removed))
    }

    /// Adds new entries. Returns how many they are.
    fn added(&mut self, stream: &Info) -> Outcome<u64> {
        let (Some(first), Some(next)) = (stream.first, self.held.last.next()) else {
            return Ok(0);
        };
        let (key, target) = (self.windows.key, &mut *self.target);
        let (_, added) = self
            .windows
            .entries(first.max(next), stream.last, &BTreeSet::new(), &mut |part| {
                target.add_part_to(key, &part)
            })?;
        self.held.length += added;
        Ok(added)
    }

    /// Deletes those of the named entries that the source does not have. Returns false if that cannot be done exactly.
    fn deleted(&mut self, named: &[Id], stream: &Info) -> Outcome<bool> {
        let before = self.held.length;
        for ids in named.chunks(STEP) {
            let missing = self.windows.missing(ids)?;
            if missing.is_empty() {
                continue;
            }
            let ids = missing.into_iter().map(Id::bytes).collect();
            let removed = self
                .target
                .remove_by(self.windows.key, &Part::in_order(&[b"XDEL"], ids))?;
            if !self.removed(removed) {
                return Ok(false);
            }
        }
        // A target that remembers a deleted id never forgets that there is one.
        Ok(self.held.length == before || stream.deleted != Some(Id::default()))
    }

    fn removed(&mut self, removed: Option<u64>) -> bool {
        let left = removed.and_then(|removed| self.held.length.checked_sub(removed));
        self.held.length = left.unwrap_or_default();
        left.is_some()
    }

    /// Makes groups anew that were written or look other than before, and removes those that are gone. Returns how
    /// many they are; `None` if one has too many pending entries.
    fn groups(&mut self, groups: Vec<Group>, members: &Members, last: Id) -> Outcome<Option<u64>> {
        let key = self.windows.key;
        let before = std::mem::replace(&mut self.held.groups, streams::by_name(groups));
        let mut changed = 0;
        for name in before.keys().filter(|name| !self.held.groups.contains_key(*name)) {
            self.target.add_part_to(key, &destroy(name))?;
            changed += 1;
        }
        for (name, group) in &self.held.groups {
            let known = before.get(name);
            if known == Some(group) && !members.groups.contains(name) {
                continue;
            }
            if group.pending.is_none_or(|pending| pending > MOST_PENDING) {
                return Ok(None);
            }
            if known.is_some() {
                self.target.add_part_to(key, &destroy(name))?;
            }
            let target = &mut *self.target;
            self.windows
                .group(group, last, &mut |part| target.add_part_to(key, &part))?;
            changed += 1;
        }
        Ok(Some(changed))
    }
}

fn destroy(group: &[u8]) -> Part {
    Part::in_order(&[b"XGROUP", b"DESTROY"], vec![group.to_vec()])
}
