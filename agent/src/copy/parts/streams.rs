//! Reads a stream: its entries, its counters, and its groups with consumers and pending entries.
//!
//! An entry may be pending although it was deleted. Only an entry that exists can be claimed, so the
//! target gets one for each such id, which is deleted again at the end.

use super::part::Part;
use super::windows::{Outcome, Take, Trouble, Windows, refusal};
use redis::Value;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use wire::reply::{array, bytes, integer, pairs};

/// Pending entries that are read at once.
const PENDING: usize = 1000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(u64, u64);

impl Id {
    fn read(text: &[u8]) -> Option<Id> {
        let (time, number) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Id(time.parse().ok()?, number.parse().ok()?))
    }

    fn next(self) -> Option<Id> {
        match self.1.checked_add(1) {
            Some(number) => Some(Id(self.0, number)),
            None => Some(Id(self.0.checked_add(1)?, 0)),
        }
    }

    fn bytes(self) -> Vec<u8> {
        self.to_string().into_bytes()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

struct Group {
    name: Vec<u8>,
    last_delivered: Vec<u8>,
    /// `None` if the source does not know it.
    entries_read: Option<i64>,
    has_pending: bool,
}

/// An entry that was delivered and not acknowledged.
struct Pending {
    id: Id,
    consumer: Vec<u8>,
    /// When it was delivered last, milliseconds since 1970.
    delivered: i64,
    count: i64,
}

pub fn read(windows: &mut Windows, take: Take) -> Outcome<()> {
    let stream = named(windows.one(&[b"XINFO", b"STREAM"], &[])?)?;
    let groups = groups(windows)?;
    let mut deleted = BTreeSet::new();
    for group in groups.iter().filter(|group| group.has_pending) {
        windows.pending(&group.name, &mut |windows, page| {
            let ids = page.iter().map(|pending| pending.id).collect::<Vec<_>>();
            deleted.extend(windows.missing(&ids)?);
            Ok(())
        })?;
    }
    let first = windows.entries(&deleted, take)?;
    if first.is_none() && deleted.is_empty() {
        // Only a group makes a stream without an entry.
        let group = b"infra".to_vec();
        let made = vec![group.clone(), b"0".to_vec(), b"MKSTREAM".to_vec()];
        take(Part::in_order(&[b"XGROUP", b"CREATE"], made))?;
        take(Part::in_order(&[b"XGROUP", b"DESTROY"], vec![group]))?;
    }
    for group in groups {
        windows.group(&group, take)?;
    }
    remove(&deleted, first, take)?;
    // The counters come last: everything before changes them.
    Ok(take(Part::in_order(&[b"XSETID"], counters(&stream)?))?)
}

/// Removes what only held the place of deleted entries. A stream remembers the highest id that was deleted, and no counter takes that back; what
/// is trimmed at the beginning it does not remember.
fn remove(deleted: &BTreeSet<Id>, first: Option<Id>, take: Take) -> Outcome<()> {
    if deleted.is_empty() {
        return Ok(());
    }
    let trim = match first {
        Some(first) => vec![b"MINID".to_vec(), first.bytes()],
        None => vec![b"MAXLEN".to_vec(), b"0".to_vec()],
    };
    take(Part::in_order(&[b"XTRIM"], trim))?;
    for id in deleted.iter().filter(|id| first.is_some_and(|first| **id > first)) {
        take(Part::in_order(&[b"XDEL"], vec![id.bytes()]))?;
    }
    Ok(())
}

fn counters(stream: &HashMap<String, Value>) -> Outcome<Vec<Vec<u8>>> {
    let field = |name: &str| stream.get(name).cloned().and_then(bytes);
    let last = field("last-generated-id").ok_or(Trouble::Moved)?;
    // Before Redis 7 nobody counted; an engine that loads such a stream counts what is there.
    let added = field("entries-added")
        .or_else(|| field("length"))
        .ok_or(Trouble::Moved)?;
    let deleted = field("max-deleted-entry-id").unwrap_or_else(|| b"0-0".to_vec());
    Ok(vec![
        last,
        b"ENTRIESADDED".to_vec(),
        added,
        b"MAXDELETEDID".to_vec(),
        deleted,
    ])
}

fn named(answer: Value) -> Outcome<HashMap<String, Value>> {
    pairs(answer).ok_or(Trouble::Moved)
}

fn groups(windows: &mut Windows) -> Outcome<Vec<Group>> {
    let answer = array(windows.one(&[b"XINFO", b"GROUPS"], &[])?).ok_or(Trouble::Moved)?;
    let mut groups = Vec::new();
    for group in answer {
        let mut group = named(group)?;
        let mut field = |name: &str| group.remove(name);
        let entries_read = field("entries-read").as_ref().and_then(integer);
        let pending = field("pending").as_ref().and_then(integer);
        let (Some(name), Some(last_delivered)) = (
            field("name").and_then(bytes),
            field("last-delivered-id").and_then(bytes),
        ) else {
            return Err(Trouble::Moved);
        };
        groups.push(Group {
            name,
            last_delivered,
            entries_read,
            has_pending: pending != Some(0),
        });
    }
    Ok(groups)
}

impl Windows<'_> {
    /// Asks one thing about the key.
    fn one(&mut self, verb: &[&[u8]], arguments: &[&[u8]]) -> Outcome<Value> {
        let words: Vec<&[u8]> = verb
            .iter()
            .copied()
            .chain([self.key])
            .chain(arguments.iter().copied())
            .collect();
        match self.source.ask(&words)? {
            answer @ Value::ServerError(_) => Err(refusal(&answer)),
            answer => Ok(answer),
        }
    }

    /// Reads all entries, and puts one in the place of each deleted id. Returns the first id that has an entry.
    fn entries(&mut self, deleted: &BTreeSet<Id>, take: Take) -> Outcome<Option<Id>> {
        let mut missing = deleted.iter().copied().peekable();
        let place_holder = |id: Id| Part::in_order(&[b"XADD"], vec![id.bytes(), b"deleted".to_vec(), Vec::new()]);
        let mut from = Some(Id::default());
        let mut first = None;
        while let Some(start) = from {
            let key = self.key;
            let answer = self.ask(&|count| {
                let count = count.to_string().into_bytes();
                let words = [b"XRANGE".to_vec(), key.to_vec(), start.bytes(), b"+".to_vec()];
                words.into_iter().chain([b"COUNT".to_vec(), count]).collect()
            })?;
            let mut parts = Vec::new();
            let mut last = None;
            for entry in array(answer).ok_or(Trouble::Moved)? {
                let (id, mut arguments) = entry_of(entry).ok_or(Trouble::Moved)?;
                while let Some(id) = missing.next_if(|missing| *missing < id) {
                    parts.push(place_holder(id));
                }
                last = Some(id);
                first.get_or_insert(id);
                arguments.insert(0, id.bytes());
                parts.push(Part::in_order(&[b"XADD"], arguments));
            }
            self.give(parts, take)?;
            from = last.and_then(Id::next);
        }
        for id in missing {
            take(place_holder(id))?;
        }
        Ok(first)
    }

    /// Returns those of the ids that have no entry.
    fn missing(&mut self, ids: &[Id]) -> Outcome<Vec<Id>> {
        let answers = self
            .source
            .entries(self.key, &ids.iter().map(|id| id.bytes()).collect::<Vec<_>>())?;
        let mut missing = Vec::new();
        for (id, answer) in ids.iter().zip(answers) {
            if array(answer).ok_or(Trouble::Moved)?.is_empty() {
                missing.push(*id);
            }
        }
        Ok(missing)
    }

    fn group(&mut self, group: &Group, take: Take) -> Outcome<()> {
        let name = &group.name;
        let read = group.entries_read.unwrap_or(-1).to_string().into_bytes();
        let words = vec![
            name.clone(),
            group.last_delivered.clone(),
            b"ENTRIESREAD".to_vec(),
            read,
        ];
        take(Part::in_order(&[b"XGROUP", b"CREATE"], words))?;
        let consumers = array(self.one(&[b"XINFO", b"CONSUMERS"], &[name])?).ok_or(Trouble::Moved)?;
        for consumer in consumers {
            let consumer = named(consumer)?.remove("name").and_then(bytes).ok_or(Trouble::Moved)?;
            let words = vec![name.clone(), consumer];
            take(Part::in_order(&[b"XGROUP", b"CREATECONSUMER"], words))?;
        }
        if !group.has_pending {
            return Ok(());
        }
        self.pending(name, &mut |windows, page| {
            let claims = page.iter().map(|pending| claim(name, pending)).collect();
            windows.give(claims, take)
        })
    }

    /// Hands over all pending entries of a group, page by page.
    fn pending(&mut self, group: &[u8], take: &mut dyn FnMut(&mut Self, &[Pending]) -> Outcome<()>) -> Outcome<()> {
        let mut from = Some(Id::default());
        while let Some(start) = from {
            let now = self
                .source
                .clock()?
                .ok_or_else(|| Trouble::Refused("the source does not say its time".into()))?;
            let count = PENDING.to_string();
            let answer = self.one(&[b"XPENDING"], &[group, &start.bytes(), b"+", count.as_bytes()])?;
            let page = array(answer).ok_or(Trouble::Moved)?;
            let page: Vec<Pending> = page.into_iter().filter_map(|entry| pending_of(entry, now)).collect();
            take(self, &page)?;
            from = match page.last() {
                Some(last) if page.len() == PENDING => last.id.next(),
                _ => None,
            };
        }
        Ok(())
    }
}

/// Takes an entry apart into its id, and its fields and values.
fn entry_of(entry: Value) -> Option<(Id, Vec<Vec<u8>>)> {
    let mut entry = array(entry)?.into_iter();
    let id = Id::read(&bytes(entry.next()?)?)?;
    let fields = array(entry.next()?)?;
    Some((id, fields.into_iter().filter_map(bytes).collect()))
}

fn pending_of(entry: Value, now: i64) -> Option<Pending> {
    let mut entry = array(entry)?.into_iter();
    Some(Pending {
        id: Id::read(&bytes(entry.next()?)?)?,
        consumer: bytes(entry.next()?)?,
        delivered: now - integer(&entry.next()?)?,
        count: integer(&entry.next()?)?,
    })
}

fn claim(group: &[u8], pending: &Pending) -> Part {
    /// The place of the time among the arguments.
    const TIME: usize = 5;
    let words = vec![
        group.to_vec(),
        pending.consumer.clone(),
        b"0".to_vec(),
        pending.id.bytes(),
        b"TIME".to_vec(),
        pending.delivered.max(0).to_string().into_bytes(),
        b"RETRYCOUNT".to_vec(),
        pending.count.to_string().into_bytes(),
        b"FORCE".to_vec(),
        b"JUSTID".to_vec(),
    ];
    Part::in_order_without(&[b"XCLAIM"], TIME, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_the_next_one_until_the_last() {
        assert_eq!(Id::read(b"5-7"), Some(Id(5, 7)));
        assert_eq!(Id::read(b"5"), None);
        assert_eq!(Id(5, 7).next(), Some(Id(5, 8)));
        assert_eq!(Id(5, u64::MAX).next(), Some(Id(6, 0)));
        assert_eq!(Id(u64::MAX, u64::MAX).next(), None);
    }

    #[test]
    fn the_time_of_a_claim_is_no_part_of_its_digest() {
        let pending = |delivered| Pending {
            id: Id(1, 1),
            consumer: b"c".to_vec(),
            delivered,
            count: 3,
        };
        let state = std::collections::hash_map::RandomState::new();
        let digest = |delivered| {
            let mut digest = super::super::part::Digest::new(state.clone());
            digest.add(&claim(b"g", &pending(delivered)));
            digest.finish()
        };
        assert_eq!(digest(1000), digest(1001));
    }
}
