//! Follows tables by PostgreSQL's log of changes.

use super::mend::{Followed, Mender, Spot};
use crate::effects::postgres::Session;
use crate::effects::postgres::changes::{Change, Event, Lsn, Relation, Slot, Tuple, Value};
use crate::effects::redis::entries::Entries;
use crate::model::error::{Error, Result};
use crate::model::import::{Place, Row};
use crate::sequences::import::setup::Ready;
use futures_util::StreamExt;
use std::collections::BTreeSet;

/// Places that are remembered before they are brought up to date: it bounds the memory of a large transaction.
const REMEMBERED: usize = 2_000;

pub struct Log<'a> {
    ready: &'a Ready,
    slot: &'a Slot,
    session: Session,
    /// One for each table that is followed by the log, with the places that are still to be brought up to date.
    tables: Vec<(Mender<'a>, BTreeSet<Spot>)>,
}

impl<'a> Log<'a> {
    pub fn new(ready: &'a Ready, slot: &'a Slot, session: Session, menders: Vec<Mender<'a>>) -> Self {
        let tables = menders.into_iter().map(|mender| (mender, BTreeSet::new())).collect();
        Log {
            ready,
            slot,
            session,
            tables,
        }
    }

    /// Returns the session that reads the log.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Applies what was committed up to now. Returns what was done for each table, and true if nothing is left.
    pub async fn look(&mut self) -> Result<(Vec<(String, Followed)>, bool)> {
        let mut done: Vec<Followed> = vec![Followed::default(); self.tables.len()];
        let end = Slot::end_of_log(&self.session).await?;
        let mut events = self.slot.read(&self.session, end).await?;
        let (mut messages, mut committed) = (0_usize, None);
        while let Some(event) = events.next().await {
            messages += 1;
            match event? {
                Some(Event::Committed(upto)) => committed = Some(upto),
                Some(Event::Change(change)) => self.note(&change, &mut done).await?,
                None => {}
            }
            for ((mender, spots), done) in self.tables.iter_mut().zip(&mut done) {
                if spots.len() >= REMEMBERED {
                    done.add(mender.mend(spots).await?);
                }
            }
        }
        drop(events);
        let mut is_clear = true;
        for ((mender, spots), done) in self.tables.iter_mut().zip(&mut done) {
            done.add(mender.mend(spots).await?);
            is_clear &= spots.is_empty();
        }
        // Changes that were not brought up to date have to come again after a crash.
        // Every message counts, since the server counts those too that say nothing of rows.
        let is_all = messages < Slot::MESSAGES_AT_ONCE;
        let upto: Option<Lsn> = if is_all { Some(end) } else { committed };
        if let Some(upto) = upto.filter(|_| is_clear) {
            self.slot.confirm(&self.session, upto).await?;
        }
        let labels = self.tables.iter().map(|(mender, _)| mender.ground.shape.label.clone());
        Ok((labels.zip(done).collect(), is_all && is_clear))
    }

    /// Remembers where the rows of a change are and were.
    async fn note(&mut self, change: &Change, done: &mut [Followed]) -> Result<()> {
        let (relation, rows): (&Relation, Vec<&Tuple>) = match change {
            Change::Insert { relation, new } => (relation, vec![new]),
            Change::Update { relation, old, new } => (relation, old.iter().chain([new]).collect()),
            Change::Delete { relation, old } => (relation, vec![old]),
            Change::Truncate { relations } => {
                for relation in relations {
                    self.truncated(relation).await?;
                }
                return Ok(());
            }
        };
        for ((mender, spots), done) in self.tables.iter_mut().zip(done) {
            if !is_of(mender, relation) {
                continue;
            }
            done.looked_at += 1;
            for tuple in &rows {
                let row = row_of(mender, relation, tuple)?;
                // A row without a place is left out by `run` too, or refused there by name.
                spots.extend(mender.spot_of_log(&row));
            }
        }
        Ok(())
    }

    /// Remembers every place of a table, since none of its rows is left.
    async fn truncated(&mut self, relation: &Relation) -> Result<()> {
        for (mender, spots) in &mut self.tables {
            if !is_of(mender, relation) {
                continue;
            }
            let shape = &mender.ground.shape;
            if shape.is_shared() || !shape.is_readable {
                return Err(Error::failed(format!("follow a TRUNCATE of {}", shape.label))
                    .because("its keys do not say which rows they are of")
                    .hint("remove its keys, run `infra import finish`, and begin again with `infra import follow`"));
            }
            let mut redis = Entries::connect(&self.ready.target, shape.database).await?;
            let mut cursor = 0;
            loop {
                let (next, keys) = redis.scan(cursor, &shape.pattern()).await?;
                for mut columns in keys.iter().filter_map(|key| shape.columns_of(key)) {
                    columns.sort();
                    spots.insert(columns.into_iter().map(|(_, text)| text).collect());
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn is_of(mender: &Mender<'_>, relation: &Relation) -> bool {
    match &mender.ground.shape.place {
        Place::Table { schema, name } => *schema == relation.schema && *name == relation.name,
        Place::Query(_) => false,
    }
}

/// Returns the values of the columns that say where a row is. The log has the text that COPY has too.
fn row_of(mender: &Mender<'_>, relation: &Relation, tuple: &Tuple) -> Result<Row> {
    let shape = &mender.ground.shape;
    let mut row = Row {
        values: vec![None; shape.columns.len()],
    };
    for at in &mender.columns {
        let name = &shape.columns[*at].name;
        let place = relation.columns.iter().position(|column| column.name == *name);
        let value = place.and_then(|place| tuple.get(place));
        row.values[*at] = match value {
            Some(Value::Text(text)) => Some(text.clone()),
            Some(Value::Null) => None,
            Some(Value::Unchanged) => {
                return Err(Error::failed(format!("find the place of a row of {}", shape.label))
                    .because(format!("the log of changes leaves out {name}, which is too large"))
                    .hint("name a column with `grows`, by which the table is followed instead"));
            }
            None => {
                return Err(Error::failed(format!("find the place of a row of {}", shape.label))
                    .because(format!("the table has no column {name} any more"))
                    .hint("correct import.yml to the new schema, and run the same command again"));
            }
        };
    }
    Ok(row)
}
