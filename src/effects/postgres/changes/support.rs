//! Facts of a server and its tables, by which it is decided whether the log of changes can be followed.

use crate::effects::postgres::Session;
use crate::model::error::{Error, Result};

/// The rights of this session's user, and the server's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `wal_level`: only `logical` has rows.
    pub wal_level: String,
    /// True if the user may make slots.
    pub may_replicate: bool,
    /// True if the user may make a publication in this database.
    pub may_publish: bool,
    /// Slots that are free.
    pub free_slots: u64,
    /// True for a standby, which has no log of its own.
    pub in_recovery: bool,
    /// One for each table that was asked for, in that order; `None` if there is no such table.
    pub tables: Vec<Option<TableFacts>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFacts {
    /// The catalogue's letter: `r` for a table, `p` for a partitioned one.
    pub kind: char,
    /// True if this user is its owner, or a member of it.
    pub owned: bool,
    /// True for a table whose changes are not in the log.
    pub unlogged: bool,
    /// Columns that name the old row in the log; empty if there are none, all if the table logs whole rows.
    pub identity: Vec<String>,
}

/// Asks the server for its facts and those of these tables (schema and name).
pub async fn facts(session: &Session, tables: &[(String, String)]) -> Result<Facts> {
    let failed = |error: tokio_postgres::Error| {
        Error::failed("ask PostgreSQL whether its log of changes can be followed").because(error)
    };
    let server = "SELECT current_setting('wal_level'), \
        (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user) \
          OR EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'rds_replication' AND pg_has_role(current_user, oid, 'member')), \
        has_database_privilege(current_database(), 'CREATE'), \
        current_setting('max_replication_slots')::bigint - (SELECT count(*) FROM pg_replication_slots), \
        pg_is_in_recovery()";
    let row = session.client().query_one(server, &[]).await.map_err(failed)?;
    let mut found = Facts {
        wal_level: row.get(0),
        may_replicate: row.get(1),
        may_publish: row.get(2),
        free_slots: u64::try_from(row.get::<_, i64>(3)).unwrap_or(0),
        in_recovery: row.get(4),
        tables: Vec::new(),
    };
    // The identity is the primary key by default, a named index, the whole row, or nothing.
    let table = "SELECT c.relkind::text, pg_has_role(c.relowner, 'USAGE'), c.relpersistence <> 'p', \
        COALESCE((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a \
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND (c.relreplident = 'f' OR EXISTS ( \
            SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND a.attnum = ANY (i.indkey::int2[]) \
            AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)))), '{}') \
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
    let table = session.client().prepare(table).await.map_err(failed)?;
    for (schema, name) in tables {
        let row = session
            .client()
            .query_opt(&table, &[schema, name])
            .await
            .map_err(failed)?;
        found.tables.push(row.map(|row| TableFacts {
            kind: row.get::<_, &str>(0).chars().next().unwrap_or('?'),
            owned: row.get(1),
            unlogged: row.get(2),
            identity: row.get(3),
        }));
    }
    Ok(found)
}
