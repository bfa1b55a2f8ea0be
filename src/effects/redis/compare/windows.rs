//! Compares large values in windows, so that a hash of ten million fields needs no more memory.

use super::super::Connection;
use super::super::key::printable;
use super::difference::Reason;
use super::kind::{Kind, unlike_element, unlike_score, window};
use super::pair::{Pair, both_arrays};
use super::replies::{Trouble, ask, scanned};
use crate::model::error::Result;
use ::redis::{Value, pipe};
use wire::reply::{array, integer};

/// Size of a window of a long string, in bytes.
const STRING_WINDOW: i64 = 1 << 20;

/// Compares a collection in windows of `step` elements.
pub(super) async fn large(
    pair: &Pair,
    name: &[u8],
    kind: Kind,
    length: i64,
    step: i64,
) -> Result<Option<Reason>, Trouble> {
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

/// Looks up the source's members on the target. As lengths are equal, the target has no more.
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

async fn unlike_fields(target: &mut Connection, name: &[u8], flat: &[Vec<u8>]) -> Result<Option<Reason>, Trouble> {
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

async fn absent_members(target: &mut Connection, name: &[u8], members: &[Vec<u8>]) -> Result<Option<Reason>, Trouble> {
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
