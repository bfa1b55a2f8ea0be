//! The kinds of collections: the commands that read each, its size, and where two of them differ.

use super::super::key::printable;
use super::difference::Reason;
use super::pair::Side;
use super::replies::moved;
use super::verdicts::BUDGET;
use crate::model::error::Result;
use ::redis::{Cmd, Value, cmd, pipe};
use std::collections::HashSet;
use wire::reply::{bytes, integer};

/// Larger collections are compared in windows.
pub(super) const SMALL_COLLECTION: i64 = 128 * 1024;

/// Bytes of one element with its share of the structure, if the server reports no size.
const ASSUMED_ELEMENT: i64 = 1024;

pub(super) const LARGEST_WINDOW: i64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    List,
    Set,
    Hash,
    SortedSet,
}

impl Kind {
    pub fn named(name: &str) -> Option<Kind> {
        match name {
            "list" => Some(Kind::List),
            "set" => Some(Kind::Set),
            "hash" => Some(Kind::Hash),
            "zset" => Some(Kind::SortedSet),
            _ => None,
        }
    }

    fn length(self, name: &[u8]) -> Cmd {
        let command = match self {
            Kind::List => "LLEN",
            Kind::Set => "SCARD",
            Kind::Hash => "HLEN",
            Kind::SortedSet => "ZCARD",
        };
        cmd(command).arg(name).to_owned()
    }

    /// Returns true if it may be read whole: a list or a sorted set only with a known length.
    pub fn is_counted(self, elements: Option<i64>) -> bool {
        matches!(self, Kind::Set | Kind::Hash) || elements.is_some()
    }

    /// How many values a reply has for each element.
    pub fn parts(self) -> usize {
        match self {
            Kind::List | Kind::Set => 1,
            Kind::Hash | Kind::SortedSet => 2,
        }
    }

    /// Returns the command for all elements. For a list or sorted set it reads no more than were
    /// counted, since a client may add a million meanwhile.
    pub fn whole(self, name: &[u8], length: i64) -> Cmd {
        match self {
            Kind::List => window("LRANGE", name, 0, length - 1),
            Kind::Set => cmd("SMEMBERS").arg(name).to_owned(),
            Kind::Hash => cmd("HGETALL").arg(name).to_owned(),
            Kind::SortedSet => window("ZRANGE", name, 0, length - 1).arg("WITHSCORES").to_owned(),
        }
    }

    /// Returns where two whole values differ. Order matters only in lists and sorted sets.
    pub fn unlike(self, source: Vec<Value>, target: Vec<Value>) -> Option<Reason> {
        match self {
            Kind::List => unlike_element(&source, &target, 0),
            Kind::SortedSet => unlike_score(&source, &target, 0),
            Kind::Set => {
                let there: HashSet<Vec<u8>> = target.into_iter().filter_map(bytes).collect();
                let absent = source
                    .into_iter()
                    .filter_map(bytes)
                    .find(|member| !there.contains(member));
                absent.map(|member| Reason::Content(format!("member {}", printable(&member))))
            }
            Kind::Hash => {
                let mut there: std::collections::HashMap<Vec<u8>, Vec<u8>> = pairs(target).collect();
                let unlike = pairs(source).find(|(field, value)| there.remove(field).as_ref() != Some(value));
                unlike.map(|(field, _)| Reason::Content(format!("field {}", printable(&field))))
            }
        }
    }
}

pub(super) fn window(command: &str, name: &[u8], first: i64, last: i64) -> Cmd {
    cmd(command).arg(name).arg(first).arg(last).to_owned()
}

pub(super) fn pairs(flat: Vec<Value>) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let mut flat = flat.into_iter().filter_map(bytes);
    std::iter::from_fn(move || Some((flat.next()?, flat.next()?)))
}

pub(super) fn unlike_element(source: &[Value], target: &[Value], first: i64) -> Option<Reason> {
    if source.len() != target.len() {
        return Some(Reason::Moving);
    }
    let at = source
        .iter()
        .zip(target)
        .position(|(source, target)| source != target)?;
    Some(Reason::Content(format!(
        "element {}",
        first + i64::try_from(at).unwrap_or(0)
    )))
}

/// Compares scores as numbers, since server versions write the same score in different ways.
pub(super) fn unlike_score(source: &[Value], target: &[Value], first: i64) -> Option<Reason> {
    if source.len() != target.len() {
        return Some(Reason::Moving);
    }
    let members = source.chunks(2).zip(target.chunks(2)).enumerate();
    for (at, (source, target)) in members {
        let rank = first + i64::try_from(at).unwrap_or(0);
        let alike = source.first() == target.first() && score(source.get(1)) == score(target.get(1));
        if !alike || score(source.get(1)).is_none() {
            return Some(Reason::Content(format!("member or score at rank {rank}")));
        }
    }
    None
}

fn score(value: Option<&Value>) -> Option<f64> {
    match value? {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        Value::Double(number) => Some(*number),
        _ => None,
    }
}

/// Returns how many elements to read at once. With a divisor the estimate was wrong before.
pub(super) fn step_of(bytes: i64, length: i64, divisor: i64) -> i64 {
    (BUDGET / (bytes / length.max(1)).max(1)).clamp(1, (LARGEST_WINDOW / divisor).max(1))
}

pub(super) struct Size {
    pub length: Option<i64>,
    /// Size by the server's own estimate from a few elements; `None` if it has none.
    bytes: Option<i64>,
}

impl Size {
    /// Returns the bytes of that many elements.
    pub fn estimate(&self, length: i64) -> i64 {
        self.bytes.unwrap_or(length.saturating_mul(ASSUMED_ELEMENT))
    }
}

pub(super) async fn sizes(side: &Side, keys: &[(&Vec<u8>, Kind)], bytes: bool) -> Result<Vec<Size>> {
    let mut commands = pipe();
    for (name, kind) in keys {
        commands.add_command(kind.length(name));
        if bytes {
            commands.cmd("MEMORY").arg("USAGE").arg(name);
        }
    }
    let mut connection = side.connection.clone();
    let answers = connection.ask_all(&commands).await?;
    let each = answers.chunks(1 + usize::from(bytes));
    each.map(|answers| {
        if let Some(Value::ServerError(error)) = answers.first()
            && !moved(error)
        {
            return Err(connection.explain("LLEN, SCARD, HLEN or ZCARD", error.clone().into()));
        }
        Ok(Size {
            length: answers.first().and_then(integer),
            bytes: answers.get(1).and_then(integer),
        })
    })
    .collect()
}
