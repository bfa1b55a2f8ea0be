//! Looking into a stream: its entries, its counters, its groups, their consumers and what each has pending.
//!
//! Idle times are not compared: they move by themselves, and replication does not carry them exactly. Nor is a group's `entries-read`: a replica learns of what was
//! read by XCLAIM, which does not carry that number (Redis 7 to 8), so that a replica that is exact shows none. Only the `lag` of XINFO is made from it.

use super::super::key::printable;
use super::collections::both_arrays;
use super::difference::Reason;
use super::pair::Pair;
use super::replies::{Trouble, array, bytes, integer, text};
use ::redis::{Cmd, Value, cmd};
use std::collections::BTreeMap;

/// Entries, or pending entries, at once.
const WINDOW: usize = 1_000;

/// Numbers of a stream and of a group that must be the same. Those that came with Redis 7 are compared where both sides tell them.
const OF_STREAM: [&str; 4] = ["length", "last-generated-id", "max-deleted-entry-id", "entries-added"];
const OF_GROUP: [&str; 2] = ["pending", "last-delivered-id"];

type Result<T> = std::result::Result<T, Trouble>;
type Fields = BTreeMap<String, Value>;

pub(super) async fn compare(pair: &Pair, name: &[u8]) -> Result<Option<Reason>> {
    let (source, target) = both_arrays(pair, cmd("XINFO").arg("STREAM").arg(name).to_owned()).await?;
    let (source, target) = (fields(source), fields(target));
    if let Some(field) = unlike(&source, &target, &OF_STREAM) {
        return Ok(Some(Reason::Content(format!("its {field}"))));
    }
    if let Some(reason) = entries(pair, name).await? {
        return Ok(Some(reason));
    }
    groups(pair, name).await
}

/// Compares windows of what XRANGE or XPENDING list, each beginning after the last id of the one before; gives the first place that differs.
async fn windows(
    pair: &Pair,
    command: impl Fn(&str) -> Cmd,
    part: impl Fn(Value) -> Option<Value>,
) -> Result<Option<String>> {
    let mut start = "-".to_owned();
    loop {
        let (source, target) = both_arrays(pair, command(&start)).await?;
        let (source, target): (Vec<_>, Vec<_>) = (
            source.into_iter().map(&part).collect(),
            target.into_iter().map(&part).collect(),
        );
        if let Some(at) = (0..source.len().max(target.len())).find(|at| source.get(*at) != target.get(*at)) {
            let of = source.get(at).or(target.get(at)).and_then(Option::as_ref);
            return Ok(Some(of.and_then(id).unwrap_or_default()));
        }
        if source.len() < WINDOW {
            return Ok(None);
        }
        let last = source.last().and_then(Option::as_ref).and_then(id);
        start = last.and_then(|last| successor(&last)).ok_or(Trouble::Moved)?;
    }
}

async fn entries(pair: &Pair, name: &[u8]) -> Result<Option<Reason>> {
    let range = |start: &str| {
        cmd("XRANGE")
            .arg(name)
            .arg(start)
            .arg("+")
            .arg("COUNT")
            .arg(WINDOW)
            .to_owned()
    };
    let unlike = windows(pair, range, Some).await?;
    Ok(unlike.map(|id| Reason::Content(format!("entry {id}"))))
}

async fn groups(pair: &Pair, name: &[u8]) -> Result<Option<Reason>> {
    let (source, target) = both_arrays(pair, cmd("XINFO").arg("GROUPS").arg(name).to_owned()).await?;
    let (source, target) = (by_name(source), by_name(target));
    if let Some(group) = unlike_names(&source, &target) {
        return Ok(Some(Reason::Content(format!(
            "whether it has group {}",
            printable(group)
        ))));
    }
    for (group, of_source) in &source {
        let shown = printable(group);
        let field = target
            .get(group)
            .and_then(|of_target| unlike(of_source, of_target, &OF_GROUP));
        if let Some(field) = field {
            return Ok(Some(Reason::Content(format!("{field} of group {shown}"))));
        }
        if let Some(consumer) = consumers(pair, name, group).await? {
            return Ok(Some(Reason::Content(format!("consumer {consumer} of group {shown}"))));
        }
        if let Some(id) = pending(pair, name, group).await? {
            return Ok(Some(Reason::Content(format!("pending entry {id} of group {shown}"))));
        }
    }
    Ok(None)
}

async fn consumers(pair: &Pair, name: &[u8], group: &[u8]) -> Result<Option<String>> {
    let command = cmd("XINFO").arg("CONSUMERS").arg(name).arg(group).to_owned();
    let (source, target) = both_arrays(pair, command).await?;
    let pending = |consumers: Vec<Value>| -> BTreeMap<Vec<u8>, i64> {
        let all = by_name(consumers).into_iter();
        let all = all.map(|(name, fields)| (name, fields.get("pending").and_then(integer).unwrap_or(0)));
        all.filter(|(_, pending)| *pending > 0 || pair.idle_consumers_count)
            .collect()
    };
    let (source, target) = (pending(source), pending(target));
    let names = source.keys().chain(target.keys());
    Ok(names
        .into_iter()
        .find(|name| source.get(*name) != target.get(*name))
        .map(|name| printable(name)))
}

/// Id, owner and delivery count of what was delivered and not acknowledged.
async fn pending(pair: &Pair, name: &[u8], group: &[u8]) -> Result<Option<String>> {
    let list = |start: &str| {
        cmd("XPENDING")
            .arg(name)
            .arg(group)
            .arg(start)
            .arg("+")
            .arg(WINDOW)
            .to_owned()
    };
    let without_idle_time = |entry: Value| {
        let mut entry = array(entry)?;
        (entry.len() == 4).then(|| entry.remove(2))?;
        Some(Value::Array(entry))
    };
    windows(pair, list, without_idle_time).await
}

/// The id that an entry, or a pending entry, begins with.
fn id(entry: &Value) -> Option<String> {
    match entry {
        Value::Array(parts) => parts.first().and_then(text),
        _ => None,
    }
}

/// The smallest id after this one. (`(id` for an open interval is known from Redis 6.2 only.)
fn successor(id: &str) -> Option<String> {
    let (time, sequence) = id.split_once('-')?;
    let (time, sequence): (u64, u64) = (time.parse().ok()?, sequence.parse().ok()?);
    match sequence.checked_add(1) {
        Some(next) => Some(format!("{time}-{next}")),
        None => Some(format!("{}-0", time.checked_add(1)?)),
    }
}

fn fields(flat: Vec<Value>) -> Fields {
    let mut flat = flat.into_iter();
    std::iter::from_fn(|| Some((text(&flat.next()?)?, flat.next()?))).collect()
}

/// Groups or consumers by their names, which are bytes.
fn by_name(list: Vec<Value>) -> BTreeMap<Vec<u8>, Fields> {
    let each = list.into_iter().filter_map(array).map(fields);
    each.filter_map(|mut fields| Some((bytes(fields.remove("name")?)?, fields)))
        .collect()
}

fn unlike_names<'a, V>(source: &'a BTreeMap<Vec<u8>, V>, target: &'a BTreeMap<Vec<u8>, V>) -> Option<&'a Vec<u8>> {
    let here_only = source.keys().find(|name| !target.contains_key(*name));
    here_only.or_else(|| target.keys().find(|name| !source.contains_key(*name)))
}

/// The first of these fields that both sides tell, and tell differently.
fn unlike(source: &Fields, target: &Fields, names: &[&'static str]) -> Option<&'static str> {
    let differs = |name: &&&str| match (source.get(**name), target.get(**name)) {
        (Some(source), Some(target)) => source != target,
        _ => false,
    };
    names.iter().find(differs).copied()
}
