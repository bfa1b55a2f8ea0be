//! A slot and a publication of our own: made, read, confirmed, watched and taken away.

use super::{Decoder, Event, Lsn};
use crate::effects::fault;
use crate::effects::postgres::Session;
use crate::model::error::{Error, Result};
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

/// A session that was killed holds the slot until the server has seen that it is gone.
const CLAIMS: u32 = 40;
const BETWEEN_CLAIMS: Duration = Duration::from_millis(250);

/// A name of slot and publication, and what belongs to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    name: String,
}

/// How much of the log the server keeps for a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// From the oldest place that the slot may need to the end of the log.
    pub bytes: u64,
    /// Not confirmed yet: the lag in bytes.
    pub unconfirmed: u64,
    /// True if the server has thrown away what the slot needs.
    pub lost: bool,
    /// True if a session reads from it now.
    pub active: bool,
    /// The server's own limit for what a slot retains; `None` if it has none.
    pub limit: Option<u64>,
}

impl Slot {
    /// The server ends an answer with the transaction that reaches this number.
    pub const MESSAGES_AT_ONCE: usize = 10_000;

    /// Names a slot and its publication: small letters, digits and `_`, at most 63, as PostgreSQL wants it.
    pub fn named(name: &str) -> Result<Self> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
            return Err(Error::usage(format!(
                "name a replication slot {name:?}: small letters, digits and _ alone, at most 63"
            )));
        }
        Ok(Slot { name: name.into() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Holds the slot for this session alone, until the session ends. Waits a little for a session that is ending.
    pub async fn claim(&self, session: &Session) -> Result<()> {
        let sql = "SELECT pg_try_advisory_lock($1)";
        let mut key = [0; 8];
        key.copy_from_slice(&Sha256::digest(&self.name)[..8]);
        for _ in 0..CLAIMS {
            let row = session.client().query_one(sql, &[&i64::from_be_bytes(key)]).await;
            if row.map_err(|error| failed("claim the slot", &error))?.get(0) {
                return Ok(());
            }
            tokio::time::sleep(BETWEEN_CLAIMS).await;
        }
        Err(Error::locked(format!(
            "follow by the slot {}: another session follows by it",
            self.name
        ))
        .hint("end the other `infra import follow` with this import.yml"))
    }

    /// Returns other slots of this database whose names begin like this, with how much of the log they keep.
    pub async fn others(&self, session: &Session, prefix: &str) -> Result<Vec<(String, u64)>> {
        let sql = "SELECT slot_name::text, COALESCE(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint \
                   FROM pg_replication_slots WHERE database = current_database() AND slot_name <> $1 \
                   AND left(slot_name::text, length($2)) = $2 ORDER BY 1";
        let rows = session.client().query(sql, &[&self.name, &prefix]).await;
        let rows = rows.map_err(|error| failed("look for other slots", &error))?;
        let bytes = |row: &Row| u64::try_from(row.get::<_, i64>(1)).unwrap_or(0);
        Ok(rows.iter().map(|row| (row.get(0), bytes(row))).collect())
    }

    /// Makes the publication of these tables (schema and name) and then the slot, and returns the place that it begins at.
    /// Slot and publication of an earlier attempt are made anew.
    ///
    /// The server waits for the transactions that are open at this moment; the session's `statement_timeout` bounds that.
    pub async fn create(&self, session: &Session, tables: &[(String, String)]) -> Result<Lsn> {
        self.remove(session).await?;
        let listed: Vec<String> = tables
            .iter()
            .map(|(schema, table)| format!("{}.{}", quoted(schema), quoted(table)))
            .collect();
        let publication = format!(
            "CREATE PUBLICATION {} FOR TABLE {}",
            quoted(&self.name),
            listed.join(", ")
        );
        fault::point(format_args!("before make the publication"));
        session
            .client()
            .batch_execute(&publication)
            .await
            .map_err(|error| self.refused("make the publication", &error))?;
        fault::point(format_args!("before make the replication slot"));
        // The log is decoded with the catalogue of its time, so the publication has to come first.
        let slot = "SELECT lsn::text FROM pg_create_logical_replication_slot($1, 'pgoutput')";
        let row = session.client().query_one(slot, &[&self.name]).await;
        match row {
            Ok(row) => lsn(&row, 0),
            Err(error) => {
                let refused = self.refused("make the replication slot", &error);
                self.remove(session).await?;
                Err(refused)
            }
        }
    }

    /// Returns the end of the log at this moment.
    pub async fn end_of_log(session: &Session) -> Result<Lsn> {
        let row = session
            .client()
            .query_one("SELECT pg_current_wal_flush_lsn()::text", &[])
            .await;
        lsn(&row.map_err(|error| failed("ask for the end of the log", &error))?, 0)
    }

    /// Reads the log up to this place, without confirming it; `None` is a message that says nothing of rows.
    ///
    /// If as many messages come as [`Slot::MESSAGES_AT_ONCE`], more may be left: [`Slot::read`] then has to be called
    /// again after what came was confirmed.
    pub async fn read(
        &self,
        session: &Session,
        upto: Lsn,
    ) -> Result<impl Stream<Item = Result<Option<Event>>> + Unpin + use<>> {
        let sql = "SELECT data FROM pg_logical_slot_peek_binary_changes(\
                   $1, $2::text::pg_lsn, $3, 'proto_version', '1', 'publication_names', $1::name::text)";
        let upto = upto.to_string();
        let at_once = i32::try_from(Self::MESSAGES_AT_ONCE).unwrap_or(i32::MAX);
        let parameters: [&(dyn ToSql + Sync); 3] = [&self.name, &upto, &at_once];
        let rows = session.client().query_raw(sql, parameters).await;
        let rows = rows.map_err(|error| self.refused("read the log of changes", &error))?;
        let mut decoder = Decoder::default();
        let slot = self.clone();
        let events = rows.map(move |row| {
            let row = row.map_err(|error| slot.refused("read the log of changes", &error))?;
            let data = row.try_get::<_, &[u8]>(0);
            decoder.read(data.map_err(|error| failed("read the log of changes", &error))?)
        });
        Ok(Box::pin(events))
    }

    /// Lets the server forget the log up to this place. It gives what comes later alone from then on.
    pub async fn confirm(&self, session: &Session, upto: Lsn) -> Result<()> {
        fault::point(format_args!("before confirm changes"));
        let sql = "SELECT 1 FROM pg_replication_slot_advance($1, $2::text::pg_lsn)";
        let confirmed = session.client().query(sql, &[&self.name, &upto.to_string()]).await;
        match confirmed {
            Ok(_) => Ok(()),
            // It was confirmed before, up to a later place.
            Err(error) if error.code() == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) && is_behind(&error) => {
                Ok(())
            }
            Err(error) => Err(self.refused("confirm the changes that were applied", &error)),
        }
    }

    /// Returns how much the server keeps for the slot; `None` if there is no such slot.
    pub async fn retained(&self, session: &Session) -> Result<Option<Retained>> {
        let failed = |error| failed("ask how much of the log the server keeps", &error);
        // Servers before PostgreSQL 13 know no limit, and so lose nothing.
        let since_13 = "SELECT current_setting('server_version_num')::int >= 130000";
        let limited: bool = session.client().query_one(since_13, &[]).await.map_err(failed)?.get(0);
        let (lost, limit) = if limited {
            let limit = "(SELECT CASE WHEN setting::bigint < 0 THEN NULL ELSE setting::bigint * 1048576 END \
                         FROM pg_settings WHERE name = 'max_slot_wal_keep_size')";
            ("wal_status = 'lost' OR restart_lsn IS NULL", limit)
        } else {
            ("false", "NULL::bigint")
        };
        let sql = format!(
            "SELECT COALESCE(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint, \
             COALESCE(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn), 0)::bigint, \
             {lost}, active, {limit} FROM pg_replication_slots WHERE slot_name = $1"
        );
        let found = session.client().query_opt(&sql, &[&self.name]).await.map_err(failed)?;
        let bytes = |value: i64| u64::try_from(value).unwrap_or(0);
        Ok(found.map(|row| Retained {
            bytes: bytes(row.get(0)),
            unconfirmed: bytes(row.get(1)),
            lost: row.get(2),
            active: row.get(3),
            limit: row.get::<_, Option<i64>>(4).map(bytes),
        }))
    }

    /// Takes slot and publication away. Does nothing if they are gone.
    pub async fn remove(&self, session: &Session) -> Result<()> {
        fault::point(format_args!("before drop the replication slot"));
        let slot = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
        session
            .client()
            .query(slot, &[&self.name])
            .await
            .map_err(|error| self.refused("drop the replication slot", &error))?;
        fault::point(format_args!("before drop the publication"));
        let publication = format!("DROP PUBLICATION IF EXISTS {}", quoted(&self.name));
        session
            .client()
            .batch_execute(&publication)
            .await
            .map_err(|error| self.refused("drop the publication", &error))
    }

    fn refused(&self, doing: &str, error: &tokio_postgres::Error) -> Error {
        let refused = failed(&format!("{doing} {}", self.name), error);
        let code = error.code();
        if code == Some(&SqlState::OBJECT_IN_USE) {
            return refused.hint("end the other `infra import follow` that reads from it");
        }
        if code == Some(&SqlState::UNDEFINED_OBJECT) || code == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) {
            return refused.hint("run `infra import follow` again: it makes a new slot and looks at every row once");
        }
        if code == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            return refused.hint("follow by a column that grows: this user may not replicate");
        }
        refused
    }
}

/// A place before the confirmed one is refused; this is the only such answer of the function.
fn is_behind(error: &tokio_postgres::Error) -> bool {
    error
        .as_db_error()
        .is_some_and(|error| error.message().contains("cannot advance"))
}

fn lsn(row: &Row, column: usize) -> Result<Lsn> {
    let text: &str = row
        .try_get(column)
        .map_err(|error| failed("read a place in the log", &error))?;
    Lsn::parse(text).ok_or_else(|| Error::failed(format!("read a place in the log: {text:?} is none")))
}

/// Returns an error with the server's own words. They have no values of rows in them.
fn failed(doing: &str, error: &tokio_postgres::Error) -> Error {
    let said = match error.as_db_error() {
        Some(answer) => answer.message().to_owned(),
        None => error.to_string(),
    };
    Error::failed(doing).because(said)
}

/// Returns a name as SQL has it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
