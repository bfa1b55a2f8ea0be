//! Reads a stream: its entries, its counters, and its groups with consumers and pending entries.
//!
//! An entry may be pending although it was deleted. Only an entry that exists can be claimed, so the
//! target gets one for each such id, which is deleted again at the end.

use super::ids::Id;
use super::part::Part;
use super::windows::{Outcome, Take, Trouble, Windows, refusal};
use redis::Value;
use std::collections::{BTreeSet, HashMap};
use wire::reply::{array, bytes, integer, pairs};

/// Pending entries that are read at once.
const PENDING: usize = 1000;

/// A group, without its consumers and pending entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: Vec<u8>,
    last_delivered: Vec<u8>,
    /// `None` if the source does not know it.
    entries_read: Option<i64>,
    consumers: Option<i64>,
    pub pending: Option<i64>,
}

impl Group {
    fn has_pending(&self) -> bool {
        self.pending != Some(0)
    }
}

/// A stream at one moment, without its entries and groups.
#[derive(Debug)]
pub struct Info {
    pub last: Id,
    pub length: u64,
    pub first: Option<Id>,
    added: Option<Vec<u8>>,
    /// The highest id that was deleted; `None` before Redis 7.
    pub deleted: Option<Id>,
}

/// The stream that the target has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The last id, of an entry or of one that was deleted.
    pub last: Id,
    pub length: u64,
    /// Groups as they were before their pending entries were read.
    pub groups: HashMap<Vec<u8>, Group>,
    /// Entries that the source is asked for at once.
    pub window: u64,
}

/// An entry that was delivered and not acknowledged.
struct Pending {
    id: Id,
    consumer: Vec<u8>,
    /// When it was delivered last, milliseconds since 1970.
    delivered: i64,
    count: i64,
}

pub fn read(windows: &mut Windows, take: Take) -> Outcome<Held> {
    // The groups come first: none of them has read an entry behind the last id then.
    let groups = groups(windows)?;
    let stream = info(windows)?;
    let last = stream.last;
    let mut deleted = BTreeSet::new();
    for group in groups.iter().filter(|group| group.has_pending()) {
        windows.pending(&group.name, last, &mut |windows, page| {
            let ids = page.iter().map(|pending| pending.id).collect::<Vec<_>>();
            deleted.extend(windows.missing(&ids)?);
            Ok(())
        })?;
    }
    let (first, length) = windows.entries(Id::default(), last, &deleted, take)?;
    if first.is_none() && deleted.is_empty() {
        // Only a group makes a stream without an entry.
        let group = b"infra".to_vec();
        let made = vec![group.clone(), b"0".to_vec(), b"MKSTREAM".to_vec()];
        take(Part::in_order(&[b"XGROUP", b"CREATE"], made))?;
        take(Part::in_order(&[b"XGROUP", b"DESTROY"], vec![group]))?;
    }
    for group in &groups {
        windows.group(group, last, take)?;
    }
    remove(&deleted, first, take)?;
    // The counters come last: everything before changes them.
    take(counters(&stream, length))?;
    Ok(Held {
        last,
        length,
        groups: by_name(groups),
        window: windows.usual,
    })
}

pub fn by_name(groups: Vec<Group>) -> HashMap<Vec<u8>, Group> {
    let groups = groups.into_iter();
    groups.map(|group| (group.name.clone(), group)).collect()
}

/// Removes what only held the place of deleted entries. A stream remembers the highest id that was deleted, and no counter takes that back; what
/// is trimmed at the beginning it does not remember.
fn remove(deleted: &BTreeSet<Id>, first: Option<Id>, take: Take) -> Outcome<()> {
    if deleted.is_empty() {
        return Ok(());
    }
    take(trim(first))?;
    for id in deleted.iter().filter(|id| first.is_some_and(|first| **id > first)) {
        take(Part::in_order(&[b"XDEL"], vec![id.bytes()]))?;
    }
    Ok(())
}

/// Removes all entries before the first one.
pub fn trim(first: Option<Id>) -> Part {
    let words = match first {
        Some(first) => vec![b"MINID".to_vec(), first.bytes()],
        None => vec![b"MAXLEN".to_vec(), b"0".to_vec()],
    };
    Part::in_order(&[b"XTRIM"], words)
}

/// Sets the counters of a stream. The target has so many entries, and takes no lower number of those that were added.
pub fn counters(stream: &Info, length: u64) -> Part {
    // Before Redis 7 nobody counted; an engine that loads such a stream counts what is there.
    let there = || stream.length.max(length).to_string().into_bytes();
    let added = stream.added.clone().unwrap_or_else(there);
    let words = vec![
        stream.last.bytes(),
        b"ENTRIESADDED".to_vec(),
        added,
        b"MAXDELETEDID".to_vec(),
        stream.deleted.unwrap_or_default().bytes(),
    ];
    Part::in_order(&[b"XSETID"], words)
}

pub fn info(windows: &mut Windows) -> Outcome<Info> {
    let mut stream = named(windows.one(&[b"XINFO", b"STREAM"], &[])?)?;
    let mut field = |name: &str| stream.remove(name);
    let mut id = |name: &str| Id::read(&field(name).and_then(bytes)?);
    let (last, deleted) = (id("last-generated-id"), id("max-deleted-entry-id"));
    let length = field("length").as_ref().and_then(integer);
    Ok(Info {
        last: last.ok_or(Trouble::Moved)?,
        length: length
            .and_then(|length| u64::try_from(length).ok())
            .ok_or(Trouble::Moved)?,
        first: field("first-entry").and_then(entry_of).map(|(id, _)| id),
        added: field("entries-added").and_then(bytes),
        deleted,
    })
}

fn named(answer: Value) -> Outcome<HashMap<String, Value>> {
    pairs(answer).ok_or(Trouble::Moved)
}

pub fn groups(windows: &mut Windows) -> Outcome<Vec<Group>> {
    let answer = array(windows.one(&[b"XINFO", b"GROUPS"], &[])?).ok_or(Trouble::Moved)?;
    let mut groups = Vec::new();
    for group in answer {
        let mut group = named(group)?;
        let mut field = |name: &str| group.remove(name);
        let mut number = |name: &str| field(name).as_ref().and_then(integer);
        let (entries_read, consumers, pending) = (number("entries-read"), number("consumers"), number("pending"));
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
            consumers,
            pending,
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

    /// Reads all entries between two ids, and puts one in the place of each deleted id. Returns the first id that
    /// has an entry, and how many have one.
    pub fn entries(&mut self, begin: Id, end: Id, deleted: &BTreeSet<Id>, take: Take) -> Outcome<(Option<Id>, u64)> {
        let mut missing = deleted.iter().copied().peekable();
        let place_holder = |id: Id| Part::in_order(&[b"XADD"], vec![id.bytes(), b"deleted".to_vec(), Vec::new()]);
        let mut from = Some(begin);
        let (mut first, mut length) = (None, 0);
        while let Some(start) = from.filter(|start| *start <= end) {
            let key = self.key;
            let answer = self.ask(&|count| {
                let count = count.to_string().into_bytes();
                let words = [b"XRANGE".to_vec(), key.to_vec(), start.bytes(), end.bytes()];
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
                length += 1;
                arguments.insert(0, id.bytes());
                parts.push(Part::in_order(&[b"XADD"], arguments));
            }
            self.give(parts, take)?;
            from = last.and_then(Id::next);
        }
        for id in missing {
            take(place_holder(id))?;
        }
        Ok((first, length))
    }

    /// Returns those of the ids that have no entry.
    pub fn missing(&mut self, ids: &[Id]) -> Outcome<Vec<Id>> {
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

    /// Reads a group with its consumers, and its pending entries up to an id.
    pub fn group(&mut self, group: &Group, last: Id, take: Take) -> Outcome<()> {
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
        if !group.has_pending() {
            return Ok(());
        }
        self.pending(name, last, &mut |windows, page| {
            let claims = page.iter().map(|pending| claim(name, pending)).collect();
            windows.give(claims, take)
        })
    }

    /// Hands over the pending entries of a group up to an id, page by page.
    fn pending(
        &mut self,
        group: &[u8],
        last: Id,
        take: &mut dyn FnMut(&mut Self, &[Pending]) -> Outcome<()>,
    ) -> Outcome<()> {
        let mut from = Some(Id::default());
        while let Some(start) = from {
            let now = self
                .source
                .clock()?
                .ok_or_else(|| Trouble::Refused("the source does not say its time".into()))?;
            let count = PENDING.to_string();
            let answer = self.one(
                &[b"XPENDING"],
                &[group, &start.bytes(), &last.bytes(), count.as_bytes()],
            )?;
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
    fn the_time_of_a_claim_is_no_part_of_its_digest() {
        let pending = |delivered| Pending {
            id: Id::read(b"1-1").unwrap(),
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
