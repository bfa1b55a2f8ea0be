//! Copies written members of a large key into the target's key, which has all others. A stream is
//! brought up to date by [`Followed`].
//!
//! This is right because the watch follows the key since before it was read whole: a member that is
//! not marked is the same on both sides. Each member is read after its mark is gone, so that a write
//! in between marks it again. Anything that does not fit marks the whole key.

use super::kind::Kind;
use super::parts::{Followed, Held, LONGEST, Part, Trouble, field_ends};
use super::watch::Members;
use super::work::Sweep;
use crate::record::SweepReport;
use anyhow::Result;
use redis::Value;
use wire::reply::{array, bytes, integer, text_lossy};

/// Members of one request.
const STEP: usize = 100;

/// The commands that bring some members to a key.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    parts: Vec<Part>,
    gone: Vec<Vec<u8>>,
}

impl Sweep<'_> {
    /// Copies these members. Returns false if the whole key has to be copied. The source must have nothing under way.
    pub(super) fn members(
        &mut self,
        database: u32,
        key: &[u8],
        members: &Members,
        report: &mut SweepReport,
    ) -> Result<bool> {
        if members.is_empty() {
            return Ok(true);
        }
        if !self.source.select(database)? {
            return Ok(false);
        }
        let sent = self.target.flush()?;
        self.judge(sent, report);
        let held = self.remembered.take_held(database, key);
        // The target's key is no copy of one reading any more.
        self.remembered.forget(database, key);
        let named = text_lossy(&self.source.ask(&[b"TYPE", key])?).unwrap_or_default();
        let Some(kind) = Kind::named(&named) else {
            return Ok(false);
        };
        if kind == Kind::Stream {
            return match held {
                Some(held) => self.entries(database, key, held, members, report),
                None => Ok(false),
            };
        }
        let names: Vec<Vec<u8>> = members.names.iter().cloned().collect();
        for members in names.chunks(STEP) {
            let Some(changes) = self.changes(kind, key, members)? else {
                return Ok(false);
            };
            self.target.select(database)?;
            if !self.target.change(kind, key, &changes.parts, &changes.gone)? {
                return Ok(false);
            }
            let read = changes.parts.iter().map(Part::bytes).sum();
            self.source.rest(read)?;
            report.members += members.len() as u64;
            let mut status = self.shared.lock();
            status.bytes += read;
        }
        Ok(true)
    }

    /// Copies written entries and groups of a stream. Returns false if the whole stream has to be copied.
    fn entries(
        &mut self,
        database: u32,
        key: &[u8],
        held: Held,
        members: &Members,
        report: &mut SweepReport,
    ) -> Result<bool> {
        self.target.select(database)?;
        let mut followed = Followed {
            source: self.source,
            target: self.target,
            key,
            held,
        };
        let brought = followed.bring(members);
        let held = followed.held;
        match brought {
            Ok(Some(brought)) => {
                if !brought.fits && !self.is_marked_again(database, key) {
                    return Ok(false);
                }
                self.remembered.hold(database, key, held);
                report.members += brought.members;
                self.shared.lock().bytes += brought.bytes;
                Ok(true)
            }
            Ok(None) | Err(Trouble::Moved | Trouble::OtherType | Trouble::Refused(_)) => {
                // Answers that were not read would be taken for those to what is asked next.
                self.target.accepted()?;
                Ok(false)
            }
            Err(Trouble::Broken(error)) => Err(error),
        }
    }

    /// Returns true if members of the key are marked, once all that the source ran up to now is read.
    fn is_marked_again(&self, database: u32, key: &[u8]) -> bool {
        let key = (database, key.to_vec());
        self.watch
            .is_some_and(|watch| watch.barrier().is_ok() && watch.with_members().contains(&key))
    }

    /// Reads members; `None` if the source does not give them.
    fn changes(&mut self, kind: Kind, key: &[u8], members: &[Vec<u8>]) -> Result<Option<Changes>> {
        let command: &[u8] = match kind {
            Kind::Hash => b"HMGET",
            Kind::Set => b"SMISMEMBER",
            Kind::SortedSet => b"ZMSCORE",
            Kind::String | Kind::List | Kind::Stream => return Ok(None),
        };
        let mut words = vec![command, key];
        words.extend(members.iter().map(Vec::as_slice));
        let Some(values) = self.source.ask_within(&words, LONGEST)?.and_then(array) else {
            return Ok(None);
        };
        let mut changes = changes(kind, members, values);
        if kind == Kind::Hash && self.source.says_field_ends {
            let fields: Vec<&Vec<u8>> = changes.parts.iter().flat_map(Part::firsts).collect();
            if !fields.is_empty() {
                let ends = self.source.field_ends(key, &fields)?;
                if matches!(ends, Value::ServerError(_)) {
                    return Ok(None);
                }
                let ends = field_ends(fields.into_iter(), ends);
                changes.parts.extend(ends);
            }
        }
        Ok(Some(changes))
    }
}

/// Returns the commands for members by their values. Pure.
fn changes(kind: Kind, members: &[Vec<u8>], values: Vec<Value>) -> Changes {
    let (mut there, mut gone) = (Vec::new(), Vec::new());
    for (member, value) in members.iter().zip(values) {
        let pair = match kind {
            Kind::Hash => bytes(value).map(|value| vec![member.clone(), value]),
            Kind::SortedSet => bytes(value).map(|score| vec![score, member.clone()]),
            _ => (integer(&value) == Some(1)).then(|| vec![member.clone()]),
        };
        match pair {
            Some(pair) => there.extend(pair),
            None => gone.push(member.clone()),
        }
    }
    let (verb, size): (&[&[u8]], usize) = match kind {
        Kind::Hash => (&[b"HSET"], 2),
        Kind::SortedSet => (&[b"ZADD"], 2),
        _ => (&[b"SADD"], 1),
    };
    let parts = if there.is_empty() {
        Vec::new()
    } else {
        vec![Part::any_order(verb, size, there)]
    };
    Changes { parts, gone }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Vec<u8>> {
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_member_that_the_source_does_not_have_is_removed_and_the_others_are_written() {
        let value = |text: &str| Value::BulkString(text.into());
        let of = |kind, values: Vec<Value>| changes(kind, &names(&["a", "b"]), values);
        let found = of(Kind::Hash, vec![value("1"), Value::Nil]);
        assert_eq!(found.parts, [Part::any_order(&[b"HSET"], 2, names(&["a", "1"]))]);
        assert_eq!(found.gone, names(&["b"]));
        let found = of(Kind::SortedSet, vec![Value::Nil, value("2")]);
        assert_eq!(found.parts, [Part::any_order(&[b"ZADD"], 2, names(&["2", "b"]))]);
        assert_eq!(found.gone, names(&["a"]));
        let found = of(Kind::Set, vec![Value::Int(0), Value::Int(0)]);
        assert_eq!((found.parts.len(), found.gone), (0, names(&["a", "b"])));
    }
}
