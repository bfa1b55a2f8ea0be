//! `infra import plan`: what an import would read, write and cost. Changes nothing.

use super::setup::{Ground, Ready};
use crate::decide::import::estimate;
use crate::effects::postgres::Session;
use crate::effects::redis::entries::Entries;
use crate::model::error::{ExitCode, Result};
use crate::model::size;
use crate::sequences::arguments::ImportFile;
use crate::sequences::context::Context;
use serde::Serialize;
use serde_json::json;
use std::collections::HashSet;
use std::time::Duration;

/// Rows that are mapped for the estimate.
const SAMPLE: u64 = 2_000;
/// The speed without a limit, on two small cores with both servers on them.
const ROWS_PER_S: u64 = 200_000;

/// The estimate for one table; its fields are part of the JSON output and only ever grow.
#[derive(Debug, Serialize)]
struct Estimate {
    table: String,
    /// As the planner expects them.
    rows: u64,
    keys: u64,
    memory_bytes: u64,
    sampled: u64,
    /// Bytes on disk, which are read twice: once to be written, once to see what changed meanwhile.
    table_bytes: u64,
    /// No two rows can become the same key, by a unique index; else all rows are looked at first.
    distinct: bool,
    /// The table is read in several ranges at the same time.
    in_ranges: bool,
}

pub async fn run(context: &Context, arguments: &ImportFile) -> Result<ExitCode> {
    let ready = Ready::look(context, &arguments.file, &arguments.tables).await?;
    ready.check_target().await?;
    let session = ready.source.connect().await?;
    let step = context.ui.step("plan");
    let mut estimates = Vec::new();
    for ground in &ready.tables {
        step.update(ground.shape.label.as_str());
        estimates.push(estimate(ground, &session).await?);
    }
    let database = ready.tables.first().map_or(0, |ground| ground.shape.database);
    let (used, limit) = Entries::connect(&ready.target, database).await?.memory().await?;
    step.done(format!("{} tables fit their mapping", estimates.len()));
    show(context, &ready, &estimates, used, limit);
    Ok(ExitCode::Done)
}

async fn estimate(ground: &Ground, session: &Session) -> Result<Estimate> {
    let shape = &ground.shape;
    let rows = match ground.relation.rows {
        0 => ground.reader.expected(session).await?,
        rows => rows,
    };
    let mut sampled: u64 = 0;
    let (mut bytes, mut keys) = (0, HashSet::new());
    for row in ground.reader.first(session, SAMPLE).await? {
        sampled += 1;
        let Some(entry) = shape.entry(&row).map_err(super::window::refused)? else {
            continue;
        };
        if !shape.is_shared() {
            bytes += estimate::bytes(&entry);
            keys.insert(entry.key);
            continue;
        }
        bytes += estimate::member_bytes(&entry.part);
        if keys.insert(entry.key.clone()) {
            bytes += estimate::bytes(&entry).saturating_sub(estimate::member_bytes(&entry.part));
        }
    }
    let rows = if sampled < SAMPLE { sampled } else { rows.max(sampled) };
    let scaled = |amount: u64| (amount as f64 * rows as f64 / sampled.max(1) as f64) as u64;
    Ok(Estimate {
        table: shape.label.clone(),
        rows,
        keys: scaled(keys.len() as u64),
        memory_bytes: scaled(bytes),
        sampled,
        table_bytes: ground.relation.bytes,
        distinct: shape.is_distinct,
        in_ranges: ground.has_ranges,
    })
}

fn show(context: &Context, ready: &Ready, estimates: &[Estimate], used: u64, limit: Option<u64>) {
    let memory: u64 = estimates.iter().map(|one| one.memory_bytes).sum();
    let rows: u64 = estimates.iter().map(|one| one.rows).sum();
    let disk: u64 = estimates.iter().map(|one| one.table_bytes).sum();
    let limits = &ready.mapping.limits;
    let speed = limits
        .rows_per_s
        .0
        .map_or(ROWS_PER_S, |limit| ROWS_PER_S.min(limit.into()));
    let seconds = rows.div_ceil(speed.max(1));
    let connections = 1 + 2 * limits.parallel;
    let fits = limit.is_none_or(|limit| used + memory <= limit);
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["table", "rows", "keys", "memory", "on disk"]);
    for one in estimates {
        table.add_row([
            one.table.clone(),
            size::count(one.rows),
            size::count(one.keys),
            size::bytes(one.memory_bytes),
            size::bytes(one.table_bytes),
        ]);
    }
    let room = limit.map_or("no limit".to_owned(), |limit| {
        format!("a limit of {}", size::bytes(limit))
    });
    let mut lines = vec![
        table.to_string(),
        format!("reads   {}", ready.source),
        format!("writes  {}, with {} in use and {room}", ready.target, size::bytes(used)),
        format!(
            "memory  about {} more, from a sample of each table",
            size::bytes(memory)
        ),
        format!(
            "time    at least {} at {} rows a second (limits.rows_per_s); verify takes twice as long",
            size::duration(Duration::from_secs(seconds)),
            size::count(speed)
        ),
        format!(
            "costs   {} read twice, {connections} connections, and one snapshot that holds vacuum back for as long",
            size::bytes(disk)
        ),
    ];
    for one in estimates.iter().filter(|one| !one.distinct) {
        lines.push(format!(
            "{}: no unique index proves that its keys differ, so all rows are looked at first",
            one.table
        ));
    }
    for one in estimates.iter().filter(|one| !one.in_ranges) {
        lines.push(format!(
            "{}: no unique index on its key columns, so it is read in one range",
            one.table
        ));
    }
    if !fits {
        lines.push("warning: that is more than the server may use; choose a larger one, fewer columns or a TTL".into());
    }
    let fields = json!({
        "tables": estimates, "memory_bytes": memory, "memory_used_bytes": used, "memory_limit_bytes": limit,
        "fits": fits, "seconds": seconds, "connections": connections, "read_bytes": 2 * disk,
    });
    context.ui.report(fields, lines);
}
