//! Compares hashes whose fields may expire (Redis 7.4, Valkey 9), as if they were keys.
//!
//! Only hashes of databases where a server counts such fields come here, so others cost nothing.
//! Lengths are not compared, since a server counts fields that expired and were not removed yet.

use super::super::key::printable;

use super::difference::Reason;
use super::expiry::{Clock, Expiry, Standing, standing, time};
use super::kind::{Kind, SMALL_COLLECTION, pairs, sizes, step_of};
use super::pair::{Pair, Side};
use super::replies::{Trouble, ask, scanned};
use super::verdicts::{BUDGET, Verdicts, settle};
use crate::model::error::{Error, Result};
use ::redis::{Value, pipe};
use std::collections::{BTreeMap, BTreeSet};
use wire::reply::{array, bytes};

/// Holds the fields that a server shows, with values and expiry times, and the server's own time.
struct Seen {
    now: i64,
    fields: BTreeMap<Vec<u8>, (Vec<u8>, Expiry)>,
}

/// Compares hashes that both sides have.
pub(super) async fn compare(pair: &Pair, names: &[&Vec<u8>], verdicts: &mut Verdicts) -> Result<()> {
    let keys: Vec<(&Vec<u8>, Kind)> = names.iter().map(|name| (*name, Kind::Hash)).collect();
    let sizes = sizes(&pair.source, &keys, true).await?;
    let (mut group, mut weight) = (Vec::new(), 0);
    for (name, size) in names.iter().zip(sizes) {
        let Some(length) = size.length else {
            verdicts.differs(pair, name, Reason::Moving);
            continue;
        };
        let bytes = size.estimate(length);
        if pair.divisor > 1 || bytes > SMALL_COLLECTION {
            let found = large(pair, name, step_of(bytes, length, pair.divisor)).await;
            settle(pair, name, found, verdicts)?;
            continue;
        }
        group.push(*name);
        weight += bytes;
        if weight > BUDGET {
            small(pair, &std::mem::take(&mut group), verdicts).await?;
            weight = 0;
        }
    }
    small(pair, &group, verdicts).await
}

/// Compares whole hashes, many at once: one round trip for values and one for times.
async fn small(pair: &Pair, names: &[&Vec<u8>], verdicts: &mut Verdicts) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let (sources, targets) = tokio::try_join!(whole(&pair.source, names), whole(&pair.target, names))?;
    for ((name, source), target) in names.iter().zip(sources).zip(targets) {
        let found = match (source, target) {
            (Some(source), Some(target)) => Ok(unlike(pair, &source, &target)),
            _ => Err(Trouble::Moved),
        };
        settle(pair, name, found, verdicts)?;
    }
    Ok(())
}

/// Reads whole hashes; `None` for a key that is no hash any more.
async fn whole(side: &Side, names: &[&Vec<u8>]) -> Result<Vec<Option<Seen>>> {
    let mut commands = pipe();
    for name in names {
        commands.cmd("HGETALL").arg(name);
    }
    let mut connection = side.connection.clone();
    let mut hashes = Vec::new();
    for answer in connection.ask_all(&commands).await? {
        match answer {
            Value::ServerError(error) if !super::replies::moved(&error) => {
                return Err(connection.explain("HGETALL", error.into()));
            }
            answer => hashes.push(array(answer).map(|flat| pairs(flat).collect::<Vec<_>>())),
        }
    }
    let asked: Vec<(&[u8], Vec<&[u8]>)> = names
        .iter()
        .zip(&hashes)
        .map(|(name, hash)| {
            let fields = hash.iter().flatten().map(|(field, _)| field.as_slice());
            (name.as_slice(), fields.collect())
        })
        .collect();
    let (now, times) = times(side, &asked).await?;
    let seen = hashes.into_iter().zip(times).map(|(hash, times)| {
        let fields = hash?
            .into_iter()
            .zip(times)
            .map(|((field, value), at)| (field, (value, at)));
        Some(Seen {
            now,
            fields: fields.collect(),
        })
    });
    Ok(seen.collect())
}

/// Returns when these fields expire, and the server's time before that.
async fn times(side: &Side, asked: &[(&[u8], Vec<&[u8]>)]) -> Result<(i64, Vec<Vec<Expiry>>)> {
    let mut commands = pipe();
    commands.cmd("TIME");
    for (name, fields) in asked
        .iter()
        .filter(|(_, fields)| side.field_times && !fields.is_empty())
    {
        commands.cmd("HPEXPIRETIME").arg(*name).arg("FIELDS").arg(fields.len());
        for field in fields {
            commands.arg(*field);
        }
    }
    let mut connection = side.connection.clone();
    let unreadable = |place: &str| Error::failed(format!("read when fields of hashes of {place} expire"));
    let mut answers = connection.ask_all(&commands).await?.into_iter();
    let now = (answers.next().as_ref().and_then(time)).ok_or_else(|| unreadable(connection.place()))?;
    let mut all = Vec::new();
    for (_, fields) in asked {
        if !side.field_times || fields.is_empty() {
            all.push(vec![Expiry::Never; fields.len()]);
            continue;
        }
        all.push(match answers.next() {
            Some(Value::Array(times)) if times.len() == fields.len() => {
                let read = times.iter().map(|at| Clock::Absolute.read(at, now));
                read.collect::<Option<Vec<_>>>()
                    .ok_or_else(|| unreadable(connection.place()))?
            }
            Some(Value::ServerError(error)) if !super::replies::moved(&error) => {
                return Err(connection.explain("HPEXPIRETIME", error.into()));
            }
            // The key vanished, or changed its type.
            _ => vec![Expiry::Gone; fields.len()],
        });
    }
    Ok((now, all))
}

fn unlike(pair: &Pair, source: &Seen, target: &Seen) -> Option<Reason> {
    let names: BTreeSet<&Vec<u8>> = source.fields.keys().chain(target.fields.keys()).collect();
    names.into_iter().find_map(|name| {
        let (here, there) = (source.fields.get(name), target.fields.get(name));
        let expiry = |field: Option<&(Vec<u8>, Expiry)>| field.map_or(Expiry::Gone, |(_, expiry)| *expiry);
        let differs = || Some(Reason::Content(format!("field {}", printable(name))));
        match standing(expiry(here), expiry(there), source.now, target.now, pair.tolerance) {
            Standing::Neither | Standing::Expiring => None,
            Standing::Both | Standing::Later(_) if here.map(|field| &field.0) == there.map(|field| &field.0) => None,
            Standing::Differs(Reason::Expiry { source, target }) => Some(Reason::FieldExpiry {
                field: printable(name),
                source,
                target,
            }),
            Standing::Both | Standing::Later(_) | Standing::Differs(_) => differs(),
        }
    })
}

/// Compares a large hash in windows, first by the source's fields, then by the target's.
async fn large(pair: &Pair, name: &[u8], step: i64) -> std::result::Result<Option<Reason>, Trouble> {
    for side in [&pair.source, &pair.target] {
        let mut walked = side.connection.clone();
        let mut cursor = 0;
        loop {
            let mut commands = pipe();
            commands.cmd("HSCAN").arg(name).arg(cursor).arg("COUNT").arg(step);
            let answer = ask(&mut walked, &commands).await?.into_iter().next();
            let (next, found) = answer.and_then(scanned).ok_or(Trouble::Moved)?;
            let fields: Vec<&[u8]> = found.chunks(2).map(|pair| pair[0].as_slice()).collect();
            if !fields.is_empty() {
                let (source, target) =
                    tokio::try_join!(some(&pair.source, name, &fields), some(&pair.target, name, &fields))?;
                if let Some(reason) = unlike(pair, &source, &target) {
                    return Ok(Some(reason));
                }
            }
            if next == 0 {
                break;
            }
            cursor = next;
        }
    }
    Ok(None)
}

async fn some(side: &Side, name: &[u8], fields: &[&[u8]]) -> std::result::Result<Seen, Trouble> {
    let mut commands = pipe();
    commands.cmd("HMGET").arg(name).arg(fields);
    let mut connection = side.connection.clone();
    let answer = ask(&mut connection, &commands).await?.into_iter().next();
    let values = answer.and_then(array).ok_or(Trouble::Moved)?;
    let (now, times) = times(side, &[(name, fields.to_vec())]).await?;
    let found = fields.iter().zip(values).zip(times.into_iter().flatten());
    let there = found.filter_map(|((field, value), at)| Some((field.to_vec(), (bytes(value)?, at))));
    Ok(Seen {
        now,
        fields: there.collect(),
    })
}
