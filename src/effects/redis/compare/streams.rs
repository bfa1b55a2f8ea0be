//! Compares a stream: its entries, counters and groups, and which consumer has which pending entry.
//!
//! Not compared: consumers with nothing pending and delivery counts, which reads change on the
//! master alone; idle times, which change by themselves; and `entries-read` of a group. XCLAIM
//! tells a replica of a read without that number (Redis 7 to 8), so an exact replica has none. Only
//! `lag` depends on it.

use super::super::key::printable;
use super::difference::Reason;
use super::pair::{Pair, both_arrays};
use super::replies::{Trouble, ask};
use ::redis::{Cmd, Value, cmd, pipe};
use std::collections::{BTreeMap, BTreeSet};
use wire::reply::{array, bytes, text_lossy};

/// Number of entries, or pending entries, to read at once.
const WINDOW: usize = 1_000;

/// Fields of streams and groups that must be equal if both sides have them (some since Redis 7).
const OF_STREAM: [&str; 4] = ["length", "last-generated-id", "max-deleted-entry-id", "entries-added"];
const OF_GROUP: [&str; 2] = ["last-delivered-id", "pending"];

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

/// Compares XRANGE or XPENDING page by page, with `window` ids each. Returns the first difference.
async fn windows(
    pair: &Pair,
    window: usize,
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
        if source.len() < window {
            return Ok(None);
        }
        let last = source.last().and_then(Option::as_ref).and_then(id);
        start = last.and_then(|last| successor(&last)).ok_or(Trouble::Moved)?;
    }
}

async fn entries(pair: &Pair, name: &[u8]) -> Result<Option<Reason>> {
    let window = (WINDOW / usize::try_from(pair.divisor).unwrap_or(WINDOW)).max(1);
    let range = |start: &str| {
        cmd("XRANGE")
            .arg(name)
            .arg(start)
            .arg("+")
            .arg("COUNT")
            .arg(window)
            .to_owned()
    };
    let unlike = windows(pair, window, range, Some).await?;
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
        // If one side drops pending ids, the ids are compared and not their number.
        let compared = if pair.drops_dead_ids {
            &OF_GROUP[..1]
        } else {
            &OF_GROUP[..]
        };
        let field = target
            .get(group)
            .and_then(|of_target| unlike(of_source, of_target, compared));
        if let Some(field) = field {
            return Ok(Some(Reason::Content(format!("{field} of group {shown}"))));
        }
        let id = if pair.drops_dead_ids {
            pending_of_living(pair, name, group).await?
        } else {
            pending(pair, name, group).await?
        };
        if let Some(id) = id {
            return Ok(Some(Reason::Content(format!("pending entry {id} of group {shown}"))));
        }
    }
    Ok(None)
}

/// Compares id and owner of entries that were delivered and not acknowledged.
async fn pending(pair: &Pair, name: &[u8], group: &[u8]) -> Result<Option<String>> {
    windows(pair, WINDOW, |start| list(name, group, start), id_and_owner).await
}

fn list(name: &[u8], group: &[u8], start: &str) -> Cmd {
    cmd("XPENDING")
        .arg(name)
        .arg(group)
        .arg(start)
        .arg("+")
        .arg(WINDOW)
        .to_owned()
}

/// Returns an entry without idle time and delivery count.
fn id_and_owner(entry: Value) -> Option<Value> {
    let mut entry = array(entry)?;
    entry.truncate(2);
    (entry.len() == 2).then_some(Value::Array(entry))
}

/// As `pending`, but ignores ids without an entry, which the target drops.
async fn pending_of_living(pair: &Pair, name: &[u8], group: &[u8]) -> Result<Option<String>> {
    let mut connection = pair.source.connection.clone();
    let mut start = "-".to_owned();
    loop {
        let source = pending_page(&mut connection, name, group, &start).await?;
        let end = if source.len() == WINDOW {
            source.keys().next_back().map(|last| shown(*last))
        } else {
            None
        };
        // The target's ids in the same range: fewer, or perhaps more if the sides differ.
        let mut there = pair.target.connection.clone();
        let mut target = BTreeMap::new();
        let mut from = start.clone();
        loop {
            let page = pending_page(&mut there, name, group, &from).await?;
            let (whole, last) = (page.len() < WINDOW, page.keys().next_back().copied());
            target.extend(page);
            let past_end = |last: Id| end.as_deref().and_then(parsed).is_some_and(|end| last >= end);
            match last {
                Some(last) if !whole && !past_end(last) => from = successor(&shown(last)).ok_or(Trouble::Moved)?,
                _ => break,
            }
        }
        if let Some(end) = end.as_deref().and_then(parsed) {
            target.retain(|id, _| *id <= end);
        }
        let ids: BTreeSet<Id> = source.keys().chain(target.keys()).copied().collect();
        let unlike: Vec<Id> = ids.into_iter().filter(|id| source.get(id) != target.get(id)).collect();
        if let Some(id) = first_living(pair, name, &unlike).await? {
            return Ok(Some(shown(id)));
        }
        match end {
            Some(end) => start = successor(&end).ok_or(Trouble::Moved)?,
            None => return Ok(None),
        }
    }
}

type Id = (u64, u64);

/// Returns pending ids with their owners, from `start` on.
async fn pending_page(
    connection: &mut super::super::Connection,
    name: &[u8],
    group: &[u8],
    start: &str,
) -> Result<BTreeMap<Id, Value>> {
    let mut commands = pipe();
    commands.add_command(list(name, group, start));
    let answer = ask(connection, &commands).await?.into_iter().next();
    let entries = answer.and_then(array).ok_or(Trouble::Moved)?.into_iter();
    let read = entries.map(|entry| {
        let mut entry = array(entry)?.into_iter();
        Some((parsed(&text_lossy(&entry.next()?)?)?, entry.next()?))
    });
    read.collect::<Option<_>>().ok_or(Trouble::Moved)
}

/// Returns the first of these ids whose entry is there on either side.
async fn first_living(pair: &Pair, name: &[u8], ids: &[Id]) -> Result<Option<Id>> {
    let mut commands = pipe();
    for id in ids {
        commands.cmd("XRANGE").arg(name).arg(shown(*id)).arg(shown(*id));
    }
    let (mut source, mut target) = (pair.source.connection.clone(), pair.target.connection.clone());
    let (source, target) = tokio::try_join!(ask(&mut source, &commands), ask(&mut target, &commands))?;
    let has = |answer: &Value| matches!(answer, Value::Array(entries) if !entries.is_empty());
    let mut found = ids.iter().zip(source.iter().zip(&target));
    Ok(found
        .find(|(_, (source, target))| has(source) || has(target))
        .map(|(id, _)| *id))
}

fn parsed(id: &str) -> Option<Id> {
    let (time, sequence) = id.split_once('-')?;
    Some((time.parse().ok()?, sequence.parse().ok()?))
}

fn shown((time, sequence): Id) -> String {
    format!("{time}-{sequence}")
}

/// Returns the id at the start of an entry or a pending entry.
fn id(entry: &Value) -> Option<String> {
    match entry {
        Value::Array(parts) => parts.first().and_then(text_lossy),
        _ => None,
    }
}

/// Returns the smallest id after this one. (Only Redis 6.2 and later know `(id`.)
fn successor(id: &str) -> Option<String> {
    let (time, sequence) = parsed(id)?;
    match sequence.checked_add(1) {
        Some(next) => Some(format!("{time}-{next}")),
        None => Some(format!("{}-0", time.checked_add(1)?)),
    }
}

fn fields(flat: Vec<Value>) -> Fields {
    let mut flat = flat.into_iter();
    std::iter::from_fn(|| Some((text_lossy(&flat.next()?)?, flat.next()?))).collect()
}

/// Returns groups or consumers by their names, which are bytes.
fn by_name(list: Vec<Value>) -> BTreeMap<Vec<u8>, Fields> {
    let each = list.into_iter().filter_map(array).map(fields);
    each.filter_map(|mut fields| Some((bytes(fields.remove("name")?)?, fields)))
        .collect()
}

fn unlike_names<'a, V>(source: &'a BTreeMap<Vec<u8>, V>, target: &'a BTreeMap<Vec<u8>, V>) -> Option<&'a Vec<u8>> {
    let here_only = source.keys().find(|name| !target.contains_key(*name));
    here_only.or_else(|| target.keys().find(|name| !source.contains_key(*name)))
}

/// Returns the first of these fields that both sides report with different values.
fn unlike(source: &Fields, target: &Fields, names: &[&'static str]) -> Option<&'static str> {
    let differs = |name: &&&str| match (source.get(**name), target.get(**name)) {
        (Some(source), Some(target)) => source != target,
        _ => false,
    };
    names.iter().find(differs).copied()
}
