//! `infra import follow`: what changes in PostgreSQL after the import reaches Redis, until `finish`.
//!
//! Changes come from the log of changes where the server allows it, else from a column that grows. They only say
//! where to look: [`mend`] brings a place to what PostgreSQL says at that moment, so that a change that comes
//! twice, or late, does no harm. Every row is looked at once after the changes are followed, so that nothing is
//! missed between `run` and `follow`.

mod column;
mod log;
pub mod mend;
pub mod record;
mod sweep;

use super::setup::{Ground, Ready};
use crate::decide::import::follow::{Way, way};
use crate::effects::postgres::Session;
use crate::effects::postgres::changes::{self, Slot};
use crate::model::clock::Instant;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::import::{Place, Table};
use crate::model::size;
use crate::sequences::arguments::ImportFollow;
use crate::sequences::context::Context;
use crate::ui::Step;
use column::Growing;
use jiff::Timestamp;
use log::Log;
use mend::{Followed, Mender};
use record::Record;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::path::Path;

/// The names of slots and publications begin like this.
const PREFIX: &str = "infra_import_";

pub async fn run(context: &Context, arguments: &ImportFollow) -> Result<ExitCode> {
    let file = &arguments.file.file;
    let ready = Ready::look(context, file, &arguments.file.tables).await?;
    ready.check_target().await?;
    let slot = slot(&ready)?;
    let mut following = Following::begin(&ready, &slot, file).await?;
    for table in following
        .record
        .tables
        .iter()
        .filter(|(_, table)| table.way == Way::Column)
    {
        context.ui.warn(format!(
            "{} is followed by a column: what is deleted in PostgreSQL stays in Redis, and `infra import verify` names it",
            table.0
        ));
    }
    let step = context.ui.step("follow");
    let begun = Instant::now();
    let mut work = async || -> Result<()> {
        following.sweep(&step).await?;
        loop {
            let is_clear = following.look(&step).await?;
            let is_over = arguments.once && is_clear || arguments.span.is_some_and(|span| begun.elapsed() >= span);
            if is_over || context.interrupt.requested() {
                return Ok(());
            }
            following.watch().await?;
            let pause = if is_clear {
                arguments.pause
            } else {
                std::time::Duration::ZERO
            };
            // The loop sees an interrupt, after a last look.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = context.interrupt.wait() => {}
            }
        }
    };
    work().await?;
    step.done(summary(&following.record));
    report(context, &following.record);
    Ok(ExitCode::Done)
}

/// Returns the slot of this import: the same name for the same mapping between the same two servers.
pub fn slot(ready: &Ready) -> Result<Slot> {
    let mapping = &ready.mapping;
    slot_for(format!(
        "{} {} {:?} {:?}",
        ready.source, ready.target, mapping.encode, mapping.tables
    ))
}

/// Returns the slot that this record was written for, if it is not `slot`. Records of earlier versions have no
/// name: their slots are named after the servers alone.
pub fn earlier(ready: &Ready, record: &Record, slot: &Slot) -> Result<Option<Slot>> {
    let earlier = match &record.slot {
        _ if !record.has_slot => return Ok(None),
        Some(name) => Slot::named(name)?,
        None => slot_for(format!("{} {}", ready.source, ready.target))?,
    };
    Ok(Some(earlier).filter(|earlier| earlier != slot))
}

fn slot_for(what: String) -> Result<Slot> {
    Slot::named(&format!("{PREFIX}{}", &hex::encode(Sha256::digest(what))[..12]))
}

/// Returns a line for each slot of another import of this database, which makes the source keep its log.
pub async fn others(slot: &Slot, session: &Session) -> Result<Vec<String>> {
    let others = slot.others(session, PREFIX).await?;
    let line = |(name, bytes): (String, u64)| {
        format!(
            "the slot {name} of another import keeps {} of the source's log: end it by `infra import finish` with \
             its import.yml, or if that is lost, by SELECT pg_drop_replication_slot('{name}')",
            size::bytes(bytes)
        )
    };
    Ok(others.into_iter().map(line).collect())
}

fn summary(record: &Record) -> String {
    let mut all = Followed::default();
    record.tables.values().for_each(|table| all.add(table.followed));
    format!(
        "{} changes looked at, {} written, {} removed",
        size::count(all.looked_at),
        size::count(all.written),
        size::count(all.removed)
    )
}

fn report(context: &Context, record: &Record) {
    let lines = record.tables.iter().map(|(label, table)| {
        let way = match table.way {
            Way::Log => "the log of changes",
            Way::Column => "a column that grows",
        };
        let Followed {
            looked_at,
            written,
            removed,
        } = table.followed;
        format!("{label}: by {way}, {looked_at} looked at, {written} written, {removed} removed")
    });
    context
        .ui
        .report(json!({ "follow": record }), lines.collect::<Vec<_>>());
}

struct Following<'a> {
    ready: &'a Ready,
    slot: &'a Slot,
    file: &'a Path,
    record: Record,
    log: Option<Log<'a>>,
    growing: Vec<Growing<'a>>,
}

impl<'a> Following<'a> {
    /// Decides how each table is followed, and makes slot and publication if they are needed and missing.
    async fn begin(ready: &'a Ready, slot: &'a Slot, file: &'a Path) -> Result<Self> {
        let session = ready.source.connect_for_changes().await?;
        slot.claim(&session).await?;
        let ways = ways(ready, &session).await?;
        let mut record = Record::read(file).unwrap_or_default();
        if let Some(earlier) = earlier(ready, &record, slot)? {
            earlier.remove(&session).await?;
            record = Record::default();
        }
        let logged: Vec<(String, String)> = of(&ways, Way::Log).filter_map(|(_, ground)| named(ground)).collect();
        let kept = slot.retained(&session).await?;
        let same = record.tables.len() == ways.len()
            && ways.iter().all(|(ground, _, way)| {
                let known = record.tables.get(&ground.shape.label);
                known.is_some_and(|known| known.way == *way)
            });
        let is_usable = kept.as_ref().is_some_and(|kept| !kept.lost) && record.has_slot && same;
        if !logged.is_empty() && !is_usable {
            // Changes since an older slot were lost may have been missed, so every row is looked at again.
            record = Record::default();
            slot.create(&session, &logged).await?;
            record.has_slot = true;
            record.slot = Some(slot.name().to_owned());
        }
        for (ground, _, way) in &ways {
            let entry = record.tables.entry(ground.shape.label.clone());
            entry.or_insert(record::Table {
                way: *way,
                swept: false,
                high: None,
                followed: Followed::default(),
            });
        }
        record.write(file)?;
        let mut menders = Vec::new();
        for (_, ground) in of(&ways, Way::Log) {
            menders.push(Mender::connect(ready, ground).await?);
        }
        let mut growing = Vec::new();
        for (table, ground) in of(&ways, Way::Column) {
            let reading = ready.source.connect().await?;
            let mender = Mender::connect(ready, ground).await?;
            let column = table.grows.as_deref().unwrap_or_default();
            growing.push(Growing::new(mender, reading, column, ready.mapping.follow.lookback.0)?);
        }
        let log = (!menders.is_empty()).then(|| Log::new(ready, slot, session, menders));
        Ok(Following {
            ready,
            slot,
            file,
            record,
            log,
            growing,
        })
    }

    /// Looks at every row once, in tables that are followed by the log. A column shows every row at its first look.
    async fn sweep(&mut self, step: &Step) -> Result<()> {
        for ground in &self.ready.tables {
            let label = &ground.shape.label;
            let table = self
                .record
                .tables
                .get(label)
                .filter(|table| !table.swept && table.way == Way::Log);
            if table.is_none() {
                continue;
            }
            let followed = sweep::sweep(self.ready, ground, step).await?;
            self.note(label, followed);
            if let Some(table) = self.record.tables.get_mut(label) {
                table.swept = true;
            }
            self.record.write(self.file)?;
        }
        Ok(())
    }

    /// Applies what changed up to now. Returns true if nothing is left.
    async fn look(&mut self, step: &Step) -> Result<bool> {
        let now = Timestamp::now();
        let mut is_clear = true;
        if let Some(log) = &mut self.log {
            let (done, clear) = log.look().await?;
            is_clear &= clear;
            for (label, followed) in done {
                self.note(&label, followed);
            }
        }
        for growing in &mut self.growing {
            let label = growing.label().to_owned();
            let Some(table) = self.record.tables.get_mut(&label) else {
                continue;
            };
            let (followed, high, clear) = growing.look(table.high.as_deref()).await?;
            is_clear &= clear;
            table.high = high;
            table.swept |= clear;
            table.followed.add(followed);
        }
        if is_clear {
            self.record.caught_up = Some(now);
        }
        self.record.write(self.file)?;
        step.update(summary(&self.record));
        Ok(is_clear)
    }

    /// Drops the slot before what it retains fills the source's disk.
    async fn watch(&mut self) -> Result<()> {
        let Some(session) = self.log.as_ref().map(Log::session) else {
            return Ok(());
        };
        let limit = self.ready.mapping.follow.max_log.0;
        let Some(retained) = self.slot.retained(session).await? else {
            return Ok(());
        };
        if retained.bytes <= limit {
            return Ok(());
        }
        self.slot.remove(session).await?;
        self.record.has_slot = false;
        self.record.write(self.file)?;
        Err(Error::unproven(format!(
            "follow the log of changes: the source kept {} of it for the slot, more than `follow.max_log` allows",
            size::bytes(retained.bytes)
        ))
        .hint("the slot is dropped, so the source's disk is safe; run `infra import follow` again when the load is lower: it looks at every row once"))
    }

    fn note(&mut self, label: &str, followed: Followed) {
        if let Some(table) = self.record.tables.get_mut(label) {
            table.followed.add(followed);
        }
    }
}

type Ways<'a> = Vec<(&'a Ground, &'a Table, Way)>;

fn of<'w, 'a>(ways: &'w Ways<'a>, wanted: Way) -> impl Iterator<Item = (&'a Table, &'a Ground)> + use<'w, 'a> {
    let chosen = ways.iter().filter(move |(_, _, way)| *way == wanted);
    chosen.map(|(ground, table, _)| (*table, *ground))
}

fn named(ground: &Ground) -> Option<(String, String)> {
    match &ground.shape.place {
        Place::Table { schema, name } => Some((schema.clone(), name.clone())),
        Place::Query(_) => None,
    }
}

/// Returns how each table is followed; the error names all that cannot be.
async fn ways<'a>(ready: &'a Ready, session: &Session) -> Result<Ways<'a>> {
    let asked: Vec<(String, String)> = ready.tables.iter().filter_map(named).collect();
    let facts = changes::facts(session, &asked).await?;
    let (mut ways, mut refusals) = (Vec::new(), Vec::new());
    for ground in &ready.tables {
        let label = &ground.shape.label;
        let Some(table) = ready.mapping.tables.iter().find(|table| table.label() == label) else {
            continue;
        };
        let at = named(ground).and_then(|name| asked.iter().position(|asked| *asked == name));
        let of_table = at.and_then(|at| facts.tables.get(at)?.as_ref());
        match way(table, &ground.shape, &facts, of_table) {
            Ok(way) => ways.push((ground, table, way)),
            Err(why) => refusals.push(format!("{label}: {why}")),
        }
    }
    if refusals.is_empty() {
        return Ok(ways);
    }
    Err(Error::usage("follow what changes in PostgreSQL")
        .because(refusals.join("; "))
        .hint("name a column such as updated_at with `grows` for these tables, or follow the others alone by their names; without following, `infra import verify` still proves what the app's dual writes keep identical"))
}
