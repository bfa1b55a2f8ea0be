//! Looking into values: whole where they are small, in `windows` where they are not.

use super::super::key::printable;
use super::batch::{self, BUDGET, Verdicts, settle};
use super::difference::Reason;
use super::fields;
use super::pair::{Pair, Side};
use super::replies::{Trouble, array, ask, bytes, integer, moved};
use super::streams;
use super::sweep::AT_ONCE;
use super::windows::{large, long_string};
use crate::error::Result;
use ::redis::{Cmd, Pipeline, Value, cmd, pipe};
use futures_util::{StreamExt, stream};
use std::collections::HashSet;

/// Larger collections are compared in windows.
pub(super) const SMALL_COLLECTION: i64 = 128 * 1024;

/// Bytes of one element, with its share of the structure, where the server does not tell.
const ASSUMED_ELEMENT: i64 = 1024;

const LARGEST_WINDOW: i64 = 10_000;

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

    /// Returns whether it may be got whole: a list or a sorted set only by the number of its elements.
    fn is_counted(self, elements: Option<i64>) -> bool {
        matches!(self, Kind::Set | Kind::Hash) || elements.is_some()
    }

    /// How many values a reply has for each element.
    fn parts(self) -> usize {
        match self {
            Kind::List | Kind::Set => 1,
            Kind::Hash | Kind::SortedSet => 2,
        }
    }

    /// Returns the command for all elements; for a list or a sorted set never more than were counted, since another client may add a million meanwhile.
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

/// Servers of different versions write the same score in different ways: compared as the numbers that they are.
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

/// A key with its types on both sides, `none` for what is not there.
pub(super) struct Shaped<'a> {
    pub name: &'a Vec<u8>,
    pub source: String,
    pub target: String,
    /// Of the source's value, by the server's own estimate; none where that is not known yet.
    pub bytes: Option<i64>,
    /// Of a list or a sorted set, where both sides have as many.
    pub elements: Option<i64>,
}

/// Compares keys that exist on both sides and are not strings on both.
pub(super) async fn compare(pair: &Pair, names: &[&Vec<u8>], verdicts: &mut Verdicts) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let (sources, targets) = tokio::try_join!(batch::types(&pair.source, names), batch::types(&pair.target, names))?;
    let shaped = names.iter().zip(sources).zip(targets);
    let shaped = shaped.map(|((name, source), target)| Shaped {
        name,
        source,
        target,
        bytes: None,
        elements: None,
    });
    verdicts.add(compare_shaped(pair, shaped.collect()).await?);
    Ok(())
}

/// The same for keys whose types are known; those whose sizes are known and small cost one round trip together.
pub(super) async fn compare_shaped(pair: &Pair, keys: Vec<Shaped<'_>>) -> Result<Verdicts> {
    let mut verdicts = Verdicts::default();
    let (mut weighed, mut unweighed, mut windows) = (Vec::new(), Vec::new(), Vec::new());
    let mut expiring = Vec::new();
    for key in keys {
        let name = key.name;
        let found = match (key.source.as_str(), key.target.as_str()) {
            ("none", "none") => Ok(None),
            ("none", _) | (_, "none") => Err(Trouble::Moved),
            _ if key.source != key.target => Ok(Some(Reason::Type {
                source: key.source,
                target: key.target,
            })),
            ("string" | "stream", _) => {
                windows.push((name, key.source == "stream"));
                continue;
            }
            (other, _) => match (Kind::named(other), key.bytes) {
                (None, _) => Ok(Some(Reason::Uncomparable(key.source))),
                (Some(Kind::Hash), _) if pair.expiring_fields => {
                    expiring.push(name);
                    continue;
                }
                (Some(kind), Some(bytes)) if bytes <= SMALL_COLLECTION && kind.is_counted(key.elements) => {
                    weighed.push((name, kind, bytes, key.elements.unwrap_or(0)));
                    continue;
                }
                (Some(kind), _) => {
                    unweighed.push((name, kind));
                    continue;
                }
            },
        };
        settle(pair, name, found, &mut verdicts)?;
    }
    let (small, known, long, hashes) = tokio::try_join!(
        in_groups(pair, &weighed),
        known_kinds(pair, &unweighed),
        in_windows(pair, windows),
        async {
            let mut verdicts = Verdicts::default();
            fields::compare(pair, &expiring, &mut verdicts).await?;
            Ok(verdicts)
        }
    )?;
    for more in [small, known, long, hashes] {
        verdicts.add(more);
    }
    Ok(verdicts)
}

/// Compares streams and strings, some at the same time: each takes several round trips.
async fn in_windows(pair: &Pair, keys: Vec<(&Vec<u8>, bool)>) -> Result<Verdicts> {
    let mut verdicts = Verdicts::default();
    let keys = keys.into_iter();
    let looks: Vec<_> = keys
        .map(|(name, is_stream)| in_window(pair.clone(), name.clone(), is_stream))
        .collect();
    let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
    while let Some((name, found)) = looks.next().await {
        settle(pair, &name, found, &mut verdicts)?;
    }
    Ok(verdicts)
}

async fn in_window(pair: Pair, name: Vec<u8>, is_stream: bool) -> (Vec<u8>, Result<Option<Reason>, Trouble>) {
    let found = if is_stream {
        streams::compare(&pair, &name).await
    } else {
        long_string(&pair, &name).await
    };
    (name, found)
}

/// Compares collections of known sizes, as many at once as the budget allows.
async fn in_groups(pair: &Pair, keys: &[(&Vec<u8>, Kind, i64, i64)]) -> Result<Verdicts> {
    let mut verdicts = Verdicts::default();
    let mut group = Vec::new();
    let mut weight = 0;
    for (name, kind, bytes, length) in keys {
        group.push((*name, *kind, *length));
        weight += bytes;
        if weight > BUDGET {
            small(pair, &std::mem::take(&mut group), &mut verdicts).await?;
            weight = 0;
        }
    }
    small(pair, &group, &mut verdicts).await?;
    Ok(verdicts)
}

async fn known_kinds(pair: &Pair, keys: &[(&Vec<u8>, Kind)]) -> Result<Verdicts> {
    let mut verdicts = Verdicts::default();
    let (sources, targets) = tokio::try_join!(sizes(&pair.source, keys, true), sizes(&pair.target, keys, false))?;
    let mut weighed = Vec::new();
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
            weighed.push((name, kind, bytes, length));
        } else {
            let found = large(pair, name, kind, length, step_of(bytes, length)).await;
            settle(pair, name, found, &mut verdicts)?;
        }
    }
    verdicts.add(in_groups(pair, &weighed).await?);
    Ok(verdicts)
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
            (Value::Array(source), Value::Array(target)) if source.len() != target.len() => Ok(Some(Reason::Length {
                source: (source.len() / kind.parts()) as u64,
                target: (target.len() / kind.parts()) as u64,
            })),
            (Value::Array(source), Value::Array(target)) => Ok(kind.unlike(source, target)),
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
