//! Says which keys of Redis no row has, and which members.

use super::super::setup::{Ground, Ready};
use super::super::window::{identity, refused};
use super::found::{Difference, Found, is_due};
use super::made::{Made, are_looked_up};
use crate::effects::postgres::Session;
use crate::effects::redis::entries::Entries;
use crate::model::error::{Kind, Result};
use crate::model::import::{ColumnKind, Part};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Why a key is not one of a table's, or which members no row has.
enum Verdict {
    Fits,
    NoRow,
    Extra(String),
}

fn of(ready: &Ready, database: u32) -> impl Iterator<Item = (usize, &Ground)> {
    let tables = ready.tables.iter().enumerate();
    tables.filter(move |(_, ground)| ground.shape.database == database)
}

/// Judges keys of one pattern. A key that a table of another pattern makes belongs to that one.
pub(super) async fn judge(
    ready: &Ready,
    session: &Session,
    redis: &mut Entries,
    database: u32,
    pattern: &str,
    keys: &[Vec<u8>],
    made: &[Made],
) -> Result<Found> {
    let mut found = Found::default();
    let mut open: BTreeMap<&[u8], Difference> = BTreeMap::new();
    let tables = of(ready, database);
    let (own, others): (Vec<_>, Vec<_>) = tables.partition(|(_, ground)| ground.shape.pattern() == pattern);
    for key in keys {
        let table = own.first().map_or(0, |(at, _)| *at);
        let why = "no row of PostgreSQL has this key".into();
        open.insert(
            key,
            Difference {
                table,
                key: key.clone(),
                row: None,
                why,
            },
        );
    }
    for (at, ground) in own.into_iter().chain(others) {
        let asked: Vec<Vec<u8>> = open.keys().map(|key| key.to_vec()).collect();
        let made = made.get(at);
        for (key, verdict) in asked.iter().zip(verdicts(ground, session, redis, &asked, made).await?) {
            let label = || ground.shape.label.clone();
            match verdict {
                Verdict::NoRow => continue,
                Verdict::Fits => {}
                Verdict::Extra(why) => found.add(Difference {
                    table: at,
                    key: key.clone(),
                    row: None,
                    why,
                }),
            }
            if ground.shape.pattern() == pattern {
                *found.keys.entry(label()).or_default() += 1;
            }
            open.remove(key.as_slice());
        }
    }
    for (_, difference) in open {
        found.add(difference);
    }
    Ok(found)
}

async fn verdicts(
    ground: &Ground,
    session: &Session,
    redis: &mut Entries,
    keys: &[Vec<u8>],
    made: Option<&Made>,
) -> Result<Vec<Verdict>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let expected: Vec<Option<Vec<Vec<u8>>>> = if are_looked_up(ground) {
        looked_up(ground, session, keys).await?
    } else {
        // Without the rows only the number of members is known.
        let counted = |key: &Vec<u8>| made.and_then(|made| made.rows(identity(key, b"")));
        return remembered(ground, redis, keys, counted).await;
    };
    if !ground.shape.is_shared() {
        return Ok(expected
            .into_iter()
            .map(|members| members.map_or(Verdict::NoRow, |_| Verdict::Fits))
            .collect());
    }
    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let held = redis.members(&asked, is_scored(ground)).await?;
    Ok(expected
        .into_iter()
        .zip(held)
        .map(|(expected, held)| match expected {
            None => Verdict::NoRow,
            Some(expected) => {
                let expected: BTreeSet<Vec<u8>> = expected.into_iter().collect();
                let extra = held.into_iter().find(|member| !expected.contains(member));
                extra.map_or(Verdict::Fits, |member| {
                    Verdict::Extra(format!(
                        "the member {} is only in Redis",
                        crate::effects::redis::key::printable(&member)
                    ))
                })
            }
        })
        .collect())
}

fn is_scored(ground: &Ground) -> bool {
    ground.shape.kind == crate::model::import::KeyType::SortedSet
}

async fn remembered(
    ground: &Ground,
    redis: &mut Entries,
    keys: &[Vec<u8>],
    counted: impl Fn(&Vec<u8>) -> Option<u32>,
) -> Result<Vec<Verdict>> {
    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let held = if ground.shape.is_shared() {
        redis.members(&asked, is_scored(ground)).await?
    } else {
        vec![Vec::new(); keys.len()]
    };
    Ok(keys
        .iter()
        .zip(held)
        .map(|(key, held)| match counted(key) {
            None => Verdict::NoRow,
            Some(rows) if ground.shape.is_shared() && held.len() as u64 > u64::from(rows) => {
                Verdict::Extra(format!("it has {} members in Redis, and {rows} rows", held.len()))
            }
            Some(_) => Verdict::Fits,
        })
        .collect())
}

/// Returns the members that the rows of each key have; `None` if no row has the key.
async fn looked_up(ground: &Ground, session: &Session, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<Vec<u8>>>>> {
    let shape = &ground.shape;
    let mut columns: Vec<usize> = shape.template_columns.iter().map(|(_, at)| *at).collect();
    columns.sort_unstable();
    let mut wanted = Vec::new();
    for key in keys {
        let Some(mut values) = shape.columns_of(key) else {
            continue;
        };
        values.sort();
        let fits = values.iter().all(|(at, value)| may_be(&shape.columns[*at].kind, value));
        if fits && values.len() == columns.len() {
            wanted.push(values.into_iter().map(|(_, value)| value).collect::<Vec<String>>());
        }
    }
    let casts = ground.casts(columns.iter().copied());
    let mut there: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
    for row in rows_of(ground, session, &casts, &wanted).await? {
        let Some(entry) = shape.entry(&row).map_err(refused)? else {
            continue;
        };
        if !is_due(entry.expires_at) {
            continue;
        }
        let members = there.entry(entry.key).or_default();
        match entry.part {
            Part::Set(all) => members.extend(all),
            Part::SortedSet(all) => members.extend(all.into_iter().map(|(member, _)| member)),
            Part::String(_) | Part::Hash(_) | Part::List(_) => {}
        }
    }
    Ok(keys.iter().map(|key| there.remove(key)).collect())
}

/// Looks rows up. A text that is no value of its column fails the whole statement, so then each is
/// asked for alone.
async fn rows_of(
    ground: &Ground,
    session: &Session,
    casts: &[(&str, &str)],
    wanted: &[Vec<String>],
) -> Result<Vec<crate::model::import::Row>> {
    match ground.reader.matching(session, casts, wanted).await {
        Ok(rows) => Ok(rows),
        Err(error) if error.kind() != Kind::Usage => Err(error),
        Err(_) => {
            let mut rows = Vec::new();
            for one in wanted {
                match ground.reader.matching(session, casts, std::slice::from_ref(one)).await {
                    Ok(found) => rows.extend(found),
                    Err(error) if error.kind() == Kind::Usage => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(rows)
        }
    }
}

/// Returns false if the text is certainly no value of such a column.
fn may_be(kind: &ColumnKind, text: &str) -> bool {
    match kind {
        ColumnKind::Integer => text.parse::<i64>().is_ok(),
        ColumnKind::Bool => matches!(text, "true" | "false" | "t" | "f"),
        ColumnKind::Enum
        | ColumnKind::Float
        | ColumnKind::Numeric
        | ColumnKind::Time(_)
        | ColumnKind::Bytes
        | ColumnKind::Json
        | ColumnKind::Array(..)
        | ColumnKind::Uuid
        | ColumnKind::Text
        | ColumnKind::Unsupported => !text.contains('\0'),
    }
}
