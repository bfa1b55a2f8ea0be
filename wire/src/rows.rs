//! The commands that are known here, with where each has the keys that it may write. The table
//! serves a replication stream and the requests that MONITOR shows.

use crate::resp;
use crate::stream::Argument;
use crate::touched::{Place, Touched};
use std::collections::HashMap;

/// Where a command has the keys that it may write. Places are counted from the name, which is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    First,
    Second,
    FirstTwo,
    /// All arguments.
    All,
    /// The last one is a time.
    AllButLast,
    /// Each is followed by its value.
    EverySecond,
    /// The number at this place says how many follow it.
    Counted(usize),
    /// The first half of the arguments behind the word STREAMS.
    Streams,
    /// The same key in the selected database and in the one that is named.
    Moved,
    /// The destination, which may be in another database.
    Copied,
    /// Behind each word STORE or STOREDIST; a command without one writes nothing.
    Stored,
    /// The first two; a client may wait for the first one, with the seconds at this place.
    Waiting(usize),
    /// The third, or those behind the word KEYS.
    Migrated,
    /// None: the commands that it runs are shown, or sent, by themselves.
    Inner,
    /// None: it tells other clients something.
    Message,
    /// None: it may change the functions.
    Functions,
    /// A whole database or two.
    Databases,
}

/// A table of commands by their names in capitals.
#[derive(Clone, Debug)]
pub struct Rows(HashMap<&'static str, Keys>);

impl Default for Rows {
    fn default() -> Self {
        let first = FIRST.iter().map(|name| (*name, Keys::First));
        Rows(first.chain(OTHERS.iter().copied()).collect())
    }
}

impl Rows {
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// Returns the table without one of its rows, for tests of what a row is good for.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    pub(crate) fn find(&self, name: &str) -> Option<Keys> {
        self.0.get(name).copied()
    }
}

/// Returns true if the command may put elements where no list was, so that waiting clients are
/// served. One that is not known here may do anything.
pub(crate) fn may_fill_a_list(name: &str, row: Option<Keys>) -> bool {
    row.is_none() || FILLING.contains(&name)
}

const FILLING: &[&str] = &[
    "BLMOVE",
    "BRPOPLPUSH",
    "COPY",
    "LMOVE",
    "LPUSH",
    "MOVE",
    "RENAME",
    "RENAMENX",
    "RESTORE",
    "RESTORE-ASKING",
    "RPOPLPUSH",
    "RPUSH",
    "SORT",
];

const OTHERS: &[(&str, Keys)] = &[
    ("BITOP", Keys::Second),
    ("BLMOVE", Keys::Waiting(5)),
    ("BLMPOP", Keys::Counted(2)),
    ("BLPOP", Keys::AllButLast),
    ("BRPOP", Keys::AllButLast),
    ("BRPOPLPUSH", Keys::Waiting(3)),
    ("BZMPOP", Keys::Counted(2)),
    ("BZPOPMAX", Keys::AllButLast),
    ("BZPOPMIN", Keys::AllButLast),
    ("COPY", Keys::Copied),
    ("DEL", Keys::All),
    ("EVAL", Keys::Inner),
    ("EVALSHA", Keys::Inner),
    ("FCALL", Keys::Inner),
    ("FLUSHALL", Keys::Databases),
    ("FLUSHDB", Keys::Databases),
    ("FUNCTION", Keys::Functions),
    ("GEORADIUS", Keys::Stored),
    ("GEORADIUSBYMEMBER", Keys::Stored),
    ("LMOVE", Keys::FirstTwo),
    ("LMPOP", Keys::Counted(1)),
    ("MIGRATE", Keys::Migrated),
    ("MOVE", Keys::Moved),
    ("MSET", Keys::EverySecond),
    ("MSETNX", Keys::EverySecond),
    ("PFCOUNT", Keys::All),
    ("PUBLISH", Keys::Message),
    ("RENAME", Keys::FirstTwo),
    ("RENAMENX", Keys::FirstTwo),
    ("RPOPLPUSH", Keys::FirstTwo),
    ("SCRIPT", Keys::Message),
    ("SMOVE", Keys::FirstTwo),
    ("SORT", Keys::Stored),
    ("SPUBLISH", Keys::Message),
    ("SWAPDB", Keys::Databases),
    ("UNLINK", Keys::All),
    ("XGROUP", Keys::Second),
    ("XREADGROUP", Keys::Streams),
    ("ZMPOP", Keys::Counted(1)),
];

/// Commands that write one key, which is their first argument; of those that store a result, its
/// destination.
#[rustfmt::skip]
const FIRST: &[&str] = &[
    // strings
    "SET", "SETEX", "PSETEX", "SETNX", "GETSET", "GETDEL", "GETEX", "APPEND", "INCR", "DECR", "INCRBY",
    "DECRBY", "INCRBYFLOAT", "SETRANGE", "SETBIT", "BITFIELD", "PFADD", "PFMERGE",
    // any type
    "EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT", "PERSIST", "RESTORE", "RESTORE-ASKING",
    // lists
    "LPUSH", "RPUSH", "LPUSHX", "RPUSHX", "LPOP", "RPOP", "LREM", "LSET", "LTRIM", "LINSERT",
    // sets
    "SADD", "SREM", "SPOP", "SDIFFSTORE", "SINTERSTORE", "SUNIONSTORE",
    // hashes
    "HSET", "HMSET", "HSETNX", "HDEL", "HINCRBY", "HINCRBYFLOAT", "HEXPIRE", "HPEXPIRE", "HEXPIREAT",
    "HPEXPIREAT", "HPERSIST", "HGETDEL", "HGETEX", "HSETEX",
    // sorted sets
    "ZADD", "ZINCRBY", "ZREM", "ZREMRANGEBYSCORE", "ZREMRANGEBYRANK", "ZREMRANGEBYLEX", "ZPOPMIN",
    "ZPOPMAX", "ZDIFFSTORE", "ZINTERSTORE", "ZUNIONSTORE", "ZRANGESTORE", "GEOADD", "GEOSEARCHSTORE",
    // streams
    "XADD", "XTRIM", "XDEL", "XACK", "XCLAIM", "XAUTOCLAIM", "XSETID",
];

/// Returns the keys of a command that has them at such places; `None` where one is absent or was too
/// long to keep, or the command writes more than some keys.
pub(crate) fn keys(keys: Keys, arguments: &[Argument]) -> Option<Vec<Touched>> {
    let from = |first: usize, step: usize| selected((first..arguments.len()).step_by(step).map(|at| arguments.get(at)));
    let at = |places: &[usize]| selected(places.iter().map(|at| arguments.get(*at)));
    match keys {
        Keys::First => at(&[1]),
        Keys::Second => at(&[2]),
        Keys::FirstTwo | Keys::Waiting(_) => at(&[1, 2]),
        Keys::All => from(1, 1),
        Keys::AllButLast => selected((1..arguments.len().checked_sub(1)?).map(|at| arguments.get(at))),
        Keys::EverySecond => from(1, 2),
        Keys::Counted(place) => {
            let count: usize = resp::number(arguments.get(place)?.bytes()?)?;
            let end = place.checked_add(count)?;
            (end < arguments.len()).then(|| selected((place + 1..=end).map(|at| arguments.get(at))))?
        }
        Keys::Streams => selected(streams(arguments)?.iter().map(Some)),
        Keys::Moved => moved(arguments),
        Keys::Copied => copied(arguments),
        Keys::Stored => stored(arguments),
        // The third argument, or where that is empty those behind the word KEYS.
        Keys::Migrated => {
            let listed = option(arguments, 6, &["KEYS"]).unwrap_or(arguments.len());
            let is_empty = arguments.get(3)?.bytes() == Some(b"".as_slice());
            let single = (!is_empty || listed == arguments.len()).then_some(3);
            selected(
                single
                    .into_iter()
                    .chain(listed..arguments.len())
                    .map(|at| arguments.get(at)),
            )
        }
        Keys::Inner | Keys::Message | Keys::Functions => Some(Vec::new()),
        Keys::Databases => None,
    }
}

/// Returns these arguments as keys of the selected database; `None` where one is absent or was too
/// long to keep.
fn selected<'a>(keys: impl Iterator<Item = Option<&'a Argument>>) -> Option<Vec<Touched>> {
    keys.map(|key| touched(Place::Selected, key)).collect()
}

pub(crate) fn touched(place: Place, key: Option<&Argument>) -> Option<Touched> {
    Some(Touched {
        place,
        name: key?.bytes()?.to_vec(),
    })
}

pub(crate) fn number(argument: &Argument) -> Option<u32> {
    resp::number(argument.bytes()?)
}

fn moved(arguments: &[Argument]) -> Option<Vec<Touched>> {
    let there = Place::Database(arguments.get(2).and_then(number)?);
    let key = arguments.get(1);
    Some(vec![touched(Place::Selected, key)?, touched(there, key)?])
}

/// COPY source destination [DB number] [REPLACE]: the source stays as it is.
fn copied(arguments: &[Argument]) -> Option<Vec<Touched>> {
    let place = match option(arguments, 3, &["DB"]) {
        None => Place::Selected,
        Some(at) => Place::Database(arguments.get(at).and_then(number)?),
    };
    Some(vec![touched(place, arguments.get(2))?])
}

/// Returns the streams of XREADGROUP. Each has an id behind them.
pub(crate) fn streams(arguments: &[Argument]) -> Option<&[Argument]> {
    let both = arguments.get(first_stream(arguments)?..)?;
    both.get(..both.len() / 2)
}

/// Returns the position of the first stream of XREADGROUP. A group may be named as the word that stands
/// before it, so every option is walked over; `None` if one is not known.
fn first_stream(arguments: &[Argument]) -> Option<usize> {
    let mut at = 1;
    loop {
        let word = arguments.get(at)?.bytes()?.to_ascii_uppercase();
        at += match word.as_slice() {
            b"STREAMS" => return Some(at + 1),
            b"NOACK" => 1,
            b"BLOCK" | b"COUNT" | b"MAXCOUNT" | b"MAXSIZE" | b"CLAIM" => 2,
            b"GROUP" => 3,
            _ => return None,
        };
    }
}

/// GET and BY patterns of SORT may be the word STORE itself, so every such word counts.
fn stored(arguments: &[Argument]) -> Option<Vec<Touched>> {
    let destinations =
        (2..arguments.len()).filter(|at| option(&arguments[..=*at], *at, &["STORE", "STOREDIST"]).is_some());
    destinations
        .filter_map(|at| arguments.get(at + 1))
        .map(|key| touched(Place::Selected, Some(key)))
        .collect()
}

/// Returns the position of an option's value: after one of these words, searched from `first` on.
fn option(arguments: &[Argument], first: usize, words: &[&str]) -> Option<usize> {
    let is_word = |argument: &Argument| {
        let bytes = argument.bytes().unwrap_or_default();
        words.iter().any(|word| bytes.eq_ignore_ascii_case(word.as_bytes()))
    };
    let at = arguments.iter().skip(first).position(is_word)?;
    Some(first + at + 1)
}
