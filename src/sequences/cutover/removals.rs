//! Tells removals by clients from expiry and eviction, which look like DEL or HDEL in a stream.

use super::watch::{MOST_DELETED, Seen};
use crate::effects::redis::{Server, exists};
use crate::effects::wait::Pauses;
use crate::model::error::Result;
use std::collections::BTreeMap;
use std::time::Duration;
use wire::info::OwnRemovals;

/// How much later a key may expire on the other side: clocks differ, and a sent TTL arrives late.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);

/// A key and a field of its hash.
type Field<'a> = (&'a [u8], &'a [u8]);

/// A number of keys and of fields of hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub keys: u64,
    pub fields: u64,
}

impl Count {
    pub fn is_none(self) -> bool {
        self == Count::default()
    }

    fn at_most(self, other: Count) -> Count {
        Count {
            keys: self.keys.min(other.keys),
            fields: self.fields.min(other.fields),
        }
    }
}

/// Returns the removals that only a client can have made: more than the server counted as its own,
/// and of what the other side still has a while later.
pub(super) async fn by_clients(seen: &Seen, by_itself: OwnRemovals, other: &Server) -> Result<Count> {
    let unexplained = unexplained(seen, by_itself);
    if unexplained.is_none() {
        return Ok(unexplained);
    }
    let mut pauses = Pauses::even(PATIENCE, PAUSE);
    loop {
        let left = unexplained.at_most(still_there(other, seen).await?);
        if left.is_none() || !pauses.again().await {
            return Ok(left);
        }
    }
}

/// Returns removals beyond the server's count, which lacks a hash whose last field expired.
fn unexplained(seen: &Seen, by_itself: OwnRemovals) -> Count {
    let keys = by_itself.expired_keys + by_itself.evicted_keys + by_itself.expired_fields;
    Count {
        keys: seen.deletions.saturating_sub(keys),
        fields: seen.field_deletions.saturating_sub(by_itself.expired_fields),
    }
}

/// Returns how much of what was removed a server still has; what is not listed counts as there.
async fn still_there(server: &Server, seen: &Seen) -> Result<Count> {
    let mut keys: BTreeMap<u32, Vec<&[u8]>> = BTreeMap::new();
    let mut fields: BTreeMap<u32, Vec<Field>> = BTreeMap::new();
    // A key whose database the stream did not name is in one of those that exist.
    let databases: Vec<u32> = if seen.unplaced.is_empty() && seen.deleted_fields.iter().all(|at| at.database.is_some())
    {
        Vec::new()
    } else {
        let info = server.connect(0).await?.info().await?;
        info.keyspace.keys().copied().collect()
    };
    for key in &seen.deleted {
        keys.entry(key.database).or_default().push(&key.name);
    }
    for database in &databases {
        let names = seen.unplaced.iter().map(Vec::as_slice);
        keys.entry(*database).or_default().extend(names);
    }
    for at in &seen.deleted_fields {
        let places = at.database.as_ref().map_or(databases.as_slice(), std::slice::from_ref);
        for database in places {
            fields.entry(*database).or_default().push((&at.key, &at.field));
        }
    }
    let mut count = Count {
        keys: unlisted(seen.deletions, seen.deleted.len() + seen.unplaced.len()),
        fields: unlisted(seen.field_deletions, seen.deleted_fields.len()),
    };
    for (database, names) in keys {
        let mut connection = server.connect(database).await?;
        count.keys += exists::keys(&mut connection, &names).await?;
    }
    for (database, names) in fields {
        let mut connection = server.connect(database).await?;
        count.fields += exists::fields(&mut connection, &names).await?;
    }
    Ok(count)
}

fn unlisted(all: u64, listed: usize) -> u64 {
    if listed < MOST_DELETED {
        0
    } else {
        all.saturating_sub(listed as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_removals_beyond_the_servers_own_count_are_unexplained() {
        let mut seen = Seen::default();
        (seen.deletions, seen.field_deletions) = (5, 3);
        let by_itself = |expired_keys, evicted_keys, expired_fields| OwnRemovals {
            expired_keys,
            evicted_keys,
            expired_fields,
        };
        for (own, keys, fields) in [
            (by_itself(0, 0, 0), 5, 3),
            (by_itself(2, 1, 0), 2, 3),
            (by_itself(3, 1, 1), 0, 2),
            (by_itself(9, 9, 9), 0, 0),
        ] {
            assert_eq!(unexplained(&seen, own), Count { keys, fields }, "{own:?}");
        }
    }
}
