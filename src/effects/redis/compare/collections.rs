//! Compares values: small ones whole, large ones in `windows`.

use super::super::connection::is_broken;
use super::difference::Reason;
use super::kind::{Kind, LARGEST_WINDOW, SMALL_COLLECTION, sizes, step_of};
use super::pair::{AT_ONCE, Pair, Side, both};
use super::replies::{Trouble, ask, moved};
use super::verdicts::{BUDGET, Verdicts, settle};
use super::windows::{large, long_string};
use super::{fields, streams};
use crate::model::error::{Error, Result};
use ::redis::{Value, pipe};
use futures_util::{StreamExt, stream};
use wire::reply::text_lossy;

/// A key with its types on both sides; `none` if it is absent.
#[derive(Clone)]
pub(super) struct Shaped<'a> {
    pub name: &'a Vec<u8>,
    pub source: String,
    pub target: String,
    /// Size of the source's value by the server's own estimate; `None` if it is not known yet.
    pub bytes: Option<i64>,
    /// Number of elements of a list or a sorted set, if both sides have the same number.
    pub elements: Option<i64>,
}

/// Compares keys that exist on both sides and are not strings on both.
pub(super) async fn compare(pair: &Pair, names: &[&Vec<u8>], verdicts: &mut Verdicts) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let (sources, targets) = tokio::try_join!(types(&pair.source, names), types(&pair.target, names))?;
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

/// How much smaller windows become after an answer that was too long.
const SMALLER: i64 = 4;

/// Compares keys of known types. If values turn out larger than a server estimated, and there are
/// connections for values alone, it goes on with ever smaller windows, down to single elements.
pub(super) async fn compare_shaped(pair: &Pair, keys: Vec<Shaped<'_>>) -> Result<Verdicts> {
    let Some(apart) = pair.apart.as_ref().filter(|_| !keys.is_empty()) else {
        return by_size(pair, keys).await;
    };
    let mut own = apart.lock().await;
    let mut divisor = 1;
    loop {
        let pair = pair.apart(&mut own, divisor).await?;
        match by_size(&pair, keys.clone()).await {
            Err(error) if is_broken(&error) && divisor < LARGEST_WINDOW => {
                *own = None;
                divisor *= SMALLER;
            }
            compared => return compared,
        }
    }
}

/// Compares keys of known types. Small keys of known sizes share one round trip.
async fn by_size(pair: &Pair, keys: Vec<Shaped<'_>>) -> Result<Verdicts> {
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
                (Some(kind), Some(bytes))
                    if pair.divisor == 1 && bytes <= SMALL_COLLECTION && kind.is_counted(key.elements) =>
                {
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

/// Compares streams and strings, some at the same time, since each takes several round trips.
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
        if pair.divisor == 1 && bytes <= SMALL_COLLECTION {
            weighed.push((name, kind, bytes, length));
        } else {
            let found = large(pair, name, kind, length, step_of(bytes, length, pair.divisor)).await;
            settle(pair, name, found, &mut verdicts)?;
        }
    }
    verdicts.add(in_groups(pair, &weighed).await?);
    Ok(verdicts)
}

/// Compares whole collections, many at once.
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

/// Returns the types of these keys on one side; `none` for an absent key.
async fn types(side: &Side, names: &[&Vec<u8>]) -> Result<Vec<String>> {
    let mut commands = pipe();
    for name in names {
        commands.cmd("TYPE").arg(name);
    }
    let mut connection = side.connection.clone();
    match ask(&mut connection, &commands).await {
        Ok(answers) => Ok(answers
            .iter()
            .map(|answer| text_lossy(answer).unwrap_or_default())
            .collect()),
        Err(Trouble::Failed(error)) => Err(error),
        Err(Trouble::Moved) => Err(Error::failed(format!(
            "read the types of keys of {}",
            connection.place()
        ))),
    }
}
