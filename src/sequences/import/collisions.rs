//! Finds two rows that would become the same key, or the same member of one, before anything is
//! written.

use super::setup::Ground;
use super::window::{identity, refused};
use crate::effects::postgres::Session;
use crate::model::error::{Error, Result};
use crate::model::import::{Part, Row};
use std::collections::{HashMap, HashSet};

/// Looks through all rows, if the schema does not prove that no two can collide. Takes 16 bytes a
/// row.
pub async fn check(ground: &Ground, session: &Session) -> Result<()> {
    let shape = &ground.shape;
    if shape.is_distinct {
        return Ok(());
    }
    let mut seen: HashSet<u64> = HashSet::new();
    let mut twice: HashSet<u64> = HashSet::new();
    let mut rows = ground.reader.all(session).await?;
    while let Some(row) = rows.next().await? {
        let one = identity_of(ground, &row)?;
        twice.extend(one.map(|(hash, _)| hash).filter(|hash| !seen.insert(*hash)));
    }
    if twice.is_empty() {
        return Ok(());
    }
    // A second look names both rows, and tells a collision of keys from one of their hashes.
    let mut first: HashMap<(Vec<u8>, Vec<u8>), String> = HashMap::new();
    let mut rows = ground.reader.all(session).await?;
    while let Some(row) = rows.next().await? {
        let Some((_, name)) = identity_of(ground, &row)?.filter(|(hash, _)| twice.contains(hash)) else {
            continue;
        };
        let key = crate::effects::redis::key::printable(&name.0);
        let this = shape.row_name(&row);
        if let Some(other) = first.insert(name, this.clone()) {
            return Err(
                Error::failed(format!("give each row of {} a key of its own", shape.label))
                    .because(format!("{other} and {this} both become {key}"))
                    .hint("add a column to the key's template, or choose one of the rows by a `query`"),
            );
        }
    }
    Ok(())
}

type Name = (Vec<u8>, Vec<u8>);

/// Returns the key, with the member if several rows share it; `None` for a row without a value.
fn identity_of(ground: &Ground, row: &Row) -> Result<Option<(u64, Name)>> {
    let Some(entry) = ground.shape.entry(row).map_err(refused)? else {
        return Ok(None);
    };
    let member = match entry.part {
        Part::SortedSet(mut members) => members.pop().map(|(member, _)| member),
        Part::Set(mut members) if ground.shape.is_shared() => members.pop(),
        Part::String(_) | Part::Hash(_) | Part::List(_) | Part::Set(_) => None,
    };
    let name = (entry.key, member.unwrap_or_default());
    Ok(Some((identity(&name.0, &name.1), name)))
}
