//! Looking into values: whole where they are small, in windows where they are not, so that a hash of ten million fields takes no more memory than another.

use super::super::key::printable;
use super::batch::{self, BUDGET, Verdicts, settle};
use super::difference::Reason;
use super::fields;
use super::pair::{Pair, Side};
use super::replies::{Trouble, array, ask, bytes, integer, moved, scanned};
use super::streams;
use crate::error::Result;
use ::redis::{Cmd, Pipeline, Value, cmd, pipe};
use std::collections::HashSet;

/// Larger collections are compared in windows.
pub(super) const SMALL_COLLECTION: i64 = 128 * 1024;

/// Bytes of one element, with its share of the structure, where the server does not tell.
const ASSUMED_ELEMENT: i64 = 1024;

const LARGEST_WINDOW: i64 = 10_000;

/// A window of a long string, in bytes.
const STRING_WINDOW: i64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    List,
    Set,
    Hash,
    SortedSet,
}

impl Kind {
    fn named(name: &str) -> Option<Kind> {
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

    /// Never more than the elements that were counted, where a command can be told so: another client may add a million meanwhile.
    fn whole(self, name: &[u8], length: i64) -> Cmd {
        match self {
            Kind::List => window("LRANGE", name, 0, length - 1),
            Kind::Set => cmd("SMEMBERS").arg(name).to_owned(),
            Kind::Hash => cmd("HGETALL").arg(name).to_owned(),
            Kind::SortedSet => window("ZRANGE", name, 0, length - 1).arg("WITHSCORES").to_owned(),
        }
    }

    /// Where two whole values differ, if they do. Members come in the order that the server has them in, which means something in lists and sorted
    /// sets only.
    fn unlike(self, source: Vec<Value>, target: Vec<Value>) -> Option<Reason> {
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

fn window(command: &str, name: &[u8], first: i64, last: i64) -> Cmd {
    cmd(command).arg(name).arg(first).arg(last).to_owned()
}

pub(super) fn pairs(flat: Vec<Value>) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let mut flat = flat.into_iter().filter_map(bytes);
    std::iter::from_fn(move || Some((flat.next()?, flat.next()?)))
}

fn unlike_element(source: &[Value], target: &[Value], first: i64) -> Option<Reason> {
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

/// Servers of different versions write the same score in different ways: compared as the numbers that they are.
fn unlike_score(source: &[Value], target: &[Value], first: i64) -> Option<Reason> {
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

/// Compares keys that exist on both sides and are not strings on both.
pub(super) async fn compare(pair: &Pair, names: &[&Vec<u8>], verdicts: &mut Verdicts) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let (sources, targets) = tokio::try_join!(batch::types(&pair.source, names), batch::types(&pair.target, names))?;
    let (mut known, mut expiring) = (Vec::new(), Vec::new());
    for ((name, source), target) in names.iter().zip(sources).zip(targets) {
        let found = match (source.as_str(), target.as_str()) {
            ("none", "none") => Ok(None),
            ("none", _) | (_, "none") => Err(Trouble::Moved),
            _ if source != target => Ok(Some(Reason::Type { source, target })),
            ("string", _) => long_string(pair, name).await,
            ("stream", _) => streams::compare(pair, name).await,
            (other, _) => match Kind::named(other) {
                None => Ok(Some(Reason::Uncomparable(source))),
                Some(Kind::Hash) if pair.expiring_fields => {
                    expiring.push(*name);
                    continue;
                }
                Some(kind) => {
                    known.push((*name, kind));
                    continue;
                }
            },
        };
        settle(pair, name, found, verdicts)?;
    }
    fields::compare(pair, &expiring, verdicts).await?;
    known_kinds(pair, &known, verdicts).await
}

async fn known_kinds(pair: &Pair, keys: &[(&Vec<u8>, Kind)], verdicts: &mut Verdicts) -> Result<()> {
    let (sources, targets) = tokio::try_join!(sizes(&pair.source, keys, true), sizes(&pair.target, keys, false))?;
    let mut group = Vec::new();
    let mut weight = 0;
    for ((key, source), target) in keys.iter().zip(sources).zip(targets) {
        let (name, kind) = *key;
        let (Some(length), Some(target)) = (source.length, target.length) else {
            verdicts.differs(pair, name, Reason::Moving);
            continue;
        };
        if length != target {
            let (source, target) = (length.unsigned_abs(), target.unsigned_abs());
            verdicts.differs(pair, name, Reason::Length { source, target });
            continue;
        }
        let bytes = source.estimate(length);
        if bytes <= SMALL_COLLECTION {
            group.push((name, kind, length));
            weight += bytes;
            if weight > BUDGET {
                small(pair, &std::mem::take(&mut group), verdicts).await?;
                weight = 0;
            }
        } else {
            let found = large(pair, name, kind, length, step_of(bytes, length)).await;
            settle(pair, name, found, verdicts)?;
        }
    }
    small(pair, &group, verdicts).await
}

/// How many elements to get at once.
pub(super) fn step_of(bytes: i64, length: i64) -> i64 {
    (BUDGET / (bytes / length.max(1)).max(1)).clamp(1, LARGEST_WINDOW)
}

pub(super) struct Size {
    pub length: Option<i64>,
    /// By the server's own estimate from a few elements; none where it does not tell.
    bytes: Option<i64>,
}

impl Size {
    /// The bytes of that many elements.
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

/// Compares collections that are got whole, many at once.
async fn small(pair: &Pair, keys: &[(&Vec<u8>, Kind, i64)], verdicts: &mut Verdicts) -> Result<()> {
    let mut commands = pipe();
    for (name, kind, length) in keys {
        commands.add_command(kind.whole(name, *length));
    }
    let (source, target) = both(pair, &commands).await?;
    for (((name, kind, _), source), target) in keys.iter().zip(source).zip(target) {
        let found = match (source, target) {
            (Value::Array(source), Value::Array(target)) => match source.len() == target.len() {
                true => Ok(kind.unlike(source, target)),
                false => Err(Trouble::Moved),
            },
            (Value::ServerError(error), _) if !moved(&error) => Err(Trouble::Failed(
                pair.source.connection.explain("a read of a collection", error.into()),
            )),
            (_, Value::ServerError(error)) if !moved(&error) => Err(Trouble::Failed(
                pair.target.connection.explain("a read of a collection", error.into()),
            )),
            _ => Err(Trouble::Moved),
        };
        settle(pair, name, found, verdicts)?;
    }
    Ok(())
}

/// The same commands on both sides at once; errors of the servers are among the answers.
async fn both(pair: &Pair, commands: &Pipeline) -> Result<(Vec<Value>, Vec<Value>)> {
    let (mut source, mut target) = (pair.source.connection.clone(), pair.target.connection.clone());
    tokio::try_join!(source.ask_all(commands), target.ask_all(commands))
}

/// The same command on both sides, with an array as its answer.
pub(super) async fn both_arrays(pair: &Pair, command: Cmd) -> Result<(Vec<Value>, Vec<Value>), Trouble> {
    let mut commands = pipe();
    commands.add_command(command);
    let (mut source, mut target) = (pair.source.connection.clone(), pair.target.connection.clone());
    let (source, target) = tokio::try_join!(ask(&mut source, &commands), ask(&mut target, &commands))?;
    let only = |answers: Vec<Value>| answers.into_iter().next().and_then(array).ok_or(Trouble::Moved);
    Ok((only(source)?, only(target)?))
}

/// Compares a collection in windows of `step` elements.
async fn large(pair: &Pair, name: &[u8], kind: Kind, length: i64, step: i64) -> Result<Option<Reason>, Trouble> {
    match kind {
        Kind::List | Kind::SortedSet => ordered(pair, name, kind, length, step).await,
        Kind::Set | Kind::Hash => unordered(pair, name, kind, step).await,
    }
}

async fn ordered(pair: &Pair, name: &[u8], kind: Kind, length: i64, step: i64) -> Result<Option<Reason>, Trouble> {
    let mut first = 0;
    while first < length {
        let last = first + step - 1;
        let unlike = match kind {
            Kind::SortedSet => {
                let command = window("ZRANGE", name, first, last).arg("WITHSCORES").to_owned();
                let (source, target) = both_arrays(pair, command).await?;
                unlike_score(&source, &target, first)
            }
            _ => {
                let (source, target) = both_arrays(pair, window("LRANGE", name, first, last)).await?;
                unlike_element(&source, &target, first)
            }
        };
        if unlike.is_some() {
            return Ok(unlike);
        }
        first += step;
    }
    Ok(None)
}

/// Every member of the source is looked up on the target. As both have the same number of them, the target has no others.
async fn unordered(pair: &Pair, name: &[u8], kind: Kind, step: i64) -> Result<Option<Reason>, Trouble> {
    let (mut source, mut target) = (pair.source.connection.clone(), pair.target.connection.clone());
    let mut cursor = 0;
    loop {
        let scan = if kind == Kind::Hash { "HSCAN" } else { "SSCAN" };
        let mut commands = pipe();
        commands.cmd(scan).arg(name).arg(cursor).arg("COUNT").arg(step);
        let answer = ask(&mut source, &commands).await?.into_iter().next();
        let (next, found) = answer.and_then(scanned).ok_or(Trouble::Moved)?;
        let unlike = match kind {
            Kind::Hash => unlike_fields(&mut target, name, &found).await?,
            _ => absent_members(&mut target, name, &found).await?,
        };
        if unlike.is_some() || next == 0 {
            return Ok(unlike);
        }
        cursor = next;
    }
}

async fn unlike_fields(
    target: &mut super::super::Connection,
    name: &[u8],
    flat: &[Vec<u8>],
) -> Result<Option<Reason>, Trouble> {
    if flat.is_empty() {
        return Ok(None);
    }
    let mut commands = pipe();
    commands.cmd("HMGET").arg(name);
    for pair in flat.chunks(2) {
        commands.arg(&pair[0]);
    }
    let answer = ask(target, &commands).await?.into_iter().next();
    let there = answer.and_then(array).ok_or(Trouble::Moved)?;
    let mut both = flat.chunks(2).zip(there);
    let unlike = both.find(|(source, target)| match target {
        Value::BulkString(target) => source.get(1) != Some(target),
        _ => true,
    });
    Ok(unlike.map(|(source, _)| Reason::Content(format!("field {}", printable(&source[0])))))
}

async fn absent_members(
    target: &mut super::super::Connection,
    name: &[u8],
    members: &[Vec<u8>],
) -> Result<Option<Reason>, Trouble> {
    let mut commands = pipe();
    for member in members {
        commands.cmd("SISMEMBER").arg(name).arg(member);
    }
    let there = ask(target, &commands).await?;
    let absent = members.iter().zip(there).find(|(_, there)| integer(there) != Some(1));
    Ok(absent.map(|(member, _)| Reason::Content(format!("member {}", printable(member)))))
}

/// Compares a string of any length in windows.
pub(super) async fn long_string(pair: &Pair, name: &[u8]) -> Result<Option<Reason>, Trouble> {
    let mut first = 0;
    loop {
        let mut commands = pipe();
        commands.cmd("STRLEN").arg(name);
        commands.add_command(window("GETRANGE", name, first, first + STRING_WINDOW - 1));
        let (mut source, mut target) = (pair.source.connection.clone(), pair.target.connection.clone());
        let (source, target) = tokio::try_join!(ask(&mut source, &commands), ask(&mut target, &commands))?;
        let [Some(source_length), Some(target_length)] =
            [source.first().and_then(integer), target.first().and_then(integer)]
        else {
            return Err(Trouble::Moved);
        };
        if source_length != target_length {
            let (source, target) = (source_length.unsigned_abs(), target_length.unsigned_abs());
            return Ok(Some(Reason::Length { source, target }));
        }
        if source.get(1) != target.get(1) {
            return Ok(Some(Reason::Content(format!("the string from byte {first} on"))));
        }
        first += STRING_WINDOW;
        if first >= source_length {
            return Ok(None);
        }
    }
}
