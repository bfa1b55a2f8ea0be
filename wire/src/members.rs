//! The members of a key that a request may change: fields of a hash, members of a set or of a sorted
//! set, entries and groups of a stream. Pure.
//!
//! A large key that is written all the time is copied member by member. A request that is not
//! listed here may have changed any member of its keys.

use crate::resp;
use crate::rows;
use crate::stream::Argument;

/// The members of its keys that a request may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members<'a> {
    /// Fields, members, or the ids of entries.
    Named(Vec<&'a [u8]>),
    /// New entries at the end of a stream, and old ones at its beginning, which are trimmed.
    Ends,
    /// A group of a stream, with its consumers and pending entries.
    Group(&'a [u8]),
}

/// Where a command has the members that it may write. Places are counted from the name, which is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The argument at this place.
    One(usize),
    /// All arguments from this place on.
    From(usize),
    /// Every second argument from this place on.
    EverySecond(usize),
    /// Behind some options, the last of so many arguments each.
    Behind(&'static [&'static str], usize),
    /// Behind the word FIELDS and their number, each of so many arguments.
    Fields(usize),
    /// Those that trimming and adding at the end change.
    Ends,
    /// The group at this place, which stands behind the key.
    Group(usize),
    /// The group that XREADGROUP names, of each of its streams.
    Reader,
}

const ROWS: &[(&str, Place)] = &[
    ("GEOADD", Place::Behind(&["NX", "XX", "CH"], 3)),
    ("HDEL", Place::From(2)),
    ("HEXPIRE", Place::Fields(1)),
    ("HEXPIREAT", Place::Fields(1)),
    ("HGETDEL", Place::Fields(1)),
    ("HGETEX", Place::Fields(1)),
    ("HINCRBY", Place::One(2)),
    ("HINCRBYFLOAT", Place::One(2)),
    ("HMSET", Place::EverySecond(2)),
    ("HPERSIST", Place::Fields(1)),
    ("HPEXPIRE", Place::Fields(1)),
    ("HPEXPIREAT", Place::Fields(1)),
    ("HSET", Place::EverySecond(2)),
    ("HSETEX", Place::Fields(2)),
    ("HSETNX", Place::One(2)),
    ("SADD", Place::From(2)),
    ("SREM", Place::From(2)),
    ("XACK", Place::Group(2)),
    ("XADD", Place::Ends),
    ("XAUTOCLAIM", Place::Group(2)),
    ("XCLAIM", Place::Group(2)),
    ("XDEL", Place::From(2)),
    ("XGROUP", Place::Group(3)),
    ("XREADGROUP", Place::Reader),
    ("XTRIM", Place::Ends),
    ("ZADD", Place::Behind(&["NX", "XX", "GT", "LT", "CH", "INCR"], 2)),
    ("ZINCRBY", Place::One(3)),
    ("ZREM", Place::From(2)),
];

/// Returns the keys and the members of them that a request may change; `None` if they may be any.
pub fn of(arguments: &[Argument]) -> Option<(&[Argument], Members<'_>)> {
    let name = arguments.first()?.bytes()?;
    let (_, place) = ROWS.iter().find(|(row, _)| name.eq_ignore_ascii_case(row.as_bytes()))?;
    let keys = match *place {
        Place::Group(at) => arguments.get(at - 1..at)?,
        Place::Reader => rows::streams(arguments)?,
        _ => arguments.get(1..=1)?,
    };
    let names = match *place {
        Place::One(at) => kept(arguments.get(at..=at)?, 1, 1)?,
        Place::From(at) => kept(arguments.get(at..)?, 1, 1)?,
        Place::EverySecond(at) => kept(arguments.get(at..)?, 2, 1)?,
        Place::Behind(options, size) => {
            let mut rest = arguments.get(2..)?;
            while let Some((first, behind)) = rest.split_first()
                && is_one(first.bytes()?, options)
            {
                rest = behind;
            }
            kept(rest, size, size)?
        }
        Place::Fields(size) => {
            let at = behind(arguments, 2, "FIELDS")?;
            let count: usize = resp::number(arguments.get(at)?.bytes()?)?;
            let rest = arguments.get(at + 1..)?;
            kept(rest.get(..count.checked_mul(size)?)?, size, 1)?
        }
        Place::Ends => return only_ends(arguments.get(2..)?).then_some((keys, Members::Ends)),
        Place::Group(at) => return Some((keys, Members::Group(arguments.get(at)?.bytes()?))),
        Place::Reader => {
            let at = behind(arguments, 1, "GROUP")?;
            return Some((keys, Members::Group(arguments.get(at)?.bytes()?)));
        }
    };
    (!names.is_empty()).then_some((keys, Members::Named(names)))
}

/// Returns the place behind this word, which stands at `first` or later. Keys and values may be too long to keep; the
/// word may not.
fn behind(arguments: &[Argument], first: usize, word: &str) -> Option<usize> {
    let is_it = |argument: &Argument| {
        argument
            .bytes()
            .is_some_and(|bytes| bytes.eq_ignore_ascii_case(word.as_bytes()))
    };
    Some(first + arguments.iter().skip(first).position(is_it)? + 1)
}

/// Returns false if options of XADD or XTRIM may change more than the ends of a stream: newer servers can
/// remove entries from its groups too.
fn only_ends(mut rest: &[Argument]) -> bool {
    while let Some((first, behind)) = rest.split_first() {
        let Some(word) = first.bytes() else { return false };
        let values = match word.to_ascii_uppercase().as_slice() {
            b"NOMKSTREAM" | b"KEEPREF" => 0,
            b"LIMIT" => 1,
            b"MAXLEN" | b"MINID" => match behind.first().and_then(Argument::bytes) {
                Some(b"~" | b"=") => 2,
                _ => 1,
            },
            // The id, which only XADD has: fields and values follow it.
            [b'*'] | [b'0'..=b'9', ..] => return true,
            _ => return false,
        };
        rest = behind.get(values..).unwrap_or_default();
    }
    true
}

fn is_one(word: &[u8], options: &[&str]) -> bool {
    options
        .iter()
        .any(|option| word.eq_ignore_ascii_case(option.as_bytes()))
}

/// Returns the argument at `place`, counted from 1, of each group of `size`.
fn kept(arguments: &[Argument], size: usize, place: usize) -> Option<Vec<&[u8]>> {
    arguments
        .chunks(size)
        .map(|group| group.get(place - 1).and_then(Argument::bytes))
        .collect()
}

#[cfg(test)]
mod tests;
