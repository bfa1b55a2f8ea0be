//! `infra import verify`: every row against its key, and every key of the templates against its
//! row.
//!
//! The first round looks at everything, later ones only at what differed, since the app keeps
//! writing. Memory does not grow with the rows, but for tables whose keys do not say which row they
//! are of.

use self::found::Found;
use super::setup::Ready;
use crate::effects::redis::key::printable;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::size;
use crate::sequences::arguments::ImportVerify;
use crate::sequences::context::Context;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;

mod again;
pub mod found;
mod keys;
mod rows;

/// One round, as JSON has it.
#[derive(Debug, Serialize)]
struct Round {
    full: bool,
    differing: u64,
    seconds: f64,
}

/// The result; its fields are part of the JSON output and only ever grow.
#[derive(Debug, Serialize)]
pub struct Verdict {
    identical: bool,
    rows: BTreeMap<String, u64>,
    keys: BTreeMap<String, u64>,
    differing: u64,
    first: Vec<Shown>,
    rounds: Vec<Round>,
    /// Tables of which only rows are held against keys, since no pattern says which keys are
    /// theirs.
    one_way: Vec<String>,
    tolerances: Vec<String>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Shown {
    table: String,
    key: String,
    reason: String,
}

pub async fn run(context: &Context, arguments: &ImportVerify) -> Result<ExitCode> {
    let ready = Ready::look(context, &arguments.file.file, &arguments.file.tables).await?;
    let verdict = prove(context, &ready, arguments).await?;
    show(context, &verdict);
    Ok(ExitCode::Done)
}

/// Compares both sides. If they differ, it shows the differences and returns an error.
pub async fn prove(context: &Context, ready: &Ready, arguments: &ImportVerify) -> Result<Verdict> {
    let verdict = compare(context, ready, arguments).await?;
    if verdict.identical {
        return Ok(verdict);
    }
    show(context, &verdict);
    Err(Error::unproven(format!(
        "prove that PostgreSQL and Redis are identical: after {} rounds {} rows or keys differ",
        verdict.rounds.len(),
        size::count(verdict.differing)
    ))
    .hint("look at those named above: a row without a key is written by `infra import run`, another value is replaced by `infra import run --replace`, and a key without a row was written by the app alone"))
}

async fn compare(context: &Context, ready: &Ready, arguments: &ImportVerify) -> Result<Verdict> {
    let step = context.ui.step("verify");
    let begun = crate::model::clock::Instant::now();
    let mut rounds: Vec<Round> = Vec::new();
    let mut found = Found::default();
    let mut first = Found::default();
    for number in 1..=arguments.rounds {
        let since = crate::model::clock::Instant::now();
        let full = number == 1 || found.count > found.differences.len() as u64;
        found = if full {
            let found = everything(context, ready, &step).await?;
            first.rows.clone_from(&found.rows);
            first.keys.clone_from(&found.keys);
            found
        } else {
            again::look(ready, &found.differences).await?
        };
        let seconds = since.elapsed().as_secs_f64();
        rounds.push(Round {
            full,
            differing: found.count,
            seconds,
        });
        step.update(format!("round {number}: {} differ", size::count(found.count)));
        if found.count == 0 {
            break;
        }
        if number < arguments.rounds {
            context.interrupt.or(pause(arguments.pause)).await?;
        }
    }
    let identical = found.count == 0;
    if identical {
        let rows: u64 = first.rows.values().sum();
        step.done(format!(
            "identical: {} rows in {} rounds",
            size::count(rows),
            rounds.len()
        ));
    } else {
        step.failed("not identical");
    }
    let shown = found
        .differences
        .iter()
        .take(arguments.first as usize)
        .map(|difference| Shown {
            table: ready.tables[difference.table].shape.label.clone(),
            key: printable(&difference.key),
            reason: difference.why.clone(),
        });
    Ok(Verdict {
        identical,
        rows: first.rows,
        keys: first.keys,
        differing: found.count,
        first: shown.collect(),
        rounds,
        one_way: ready
            .tables
            .iter()
            .filter(|ground| !keys::has_pattern(ground))
            .map(|ground| ground.shape.label.clone())
            .collect(),
        tolerances: tolerances(ready),
        seconds: begun.elapsed().as_secs_f64(),
    })
}

async fn pause(span: std::time::Duration) -> Result<()> {
    tokio::time::sleep(span).await;
    Ok(())
}

/// Looks at every row, and then at every key.
async fn everything(context: &Context, ready: &Ready, step: &crate::ui::Step) -> Result<Found> {
    let mut found = Found::default();
    let mut made = Vec::new();
    for (at, ground) in ready.tables.iter().enumerate() {
        let (table, keys) = rows::look(context, ready, at, ground, step).await?;
        found.append(table);
        made.push(keys);
    }
    found.append(keys::look(context, ready, &made, step).await?);
    Ok(found)
}

fn tolerances(ready: &Ready) -> Vec<String> {
    let tolerate = &ready.mapping.tolerate;
    let float = tolerate.float.map(|by| format!("numbers may differ by {by}"));
    let time = tolerate
        .time
        .map(|by| format!("expiries may differ by {}", size::duration(by.0)));
    float.into_iter().chain(time).collect()
}

fn show(context: &Context, verdict: &Verdict) {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["table", "rows", "keys"]);
    for (name, rows) in &verdict.rows {
        let keys = verdict
            .keys
            .get(name)
            .map_or("not counted".into(), |keys| size::count(*keys));
        table.add_row([name.clone(), size::count(*rows), keys]);
    }
    let mut lines = vec![
        table.to_string(),
        format!("{} differ ({:.1} s)", size::count(verdict.differing), verdict.seconds),
    ];
    lines.extend(
        verdict
            .first
            .iter()
            .map(|shown| format!("  {}  {}  {}", shown.table, shown.key, shown.reason)),
    );
    lines.extend(verdict.one_way.iter().map(|table| {
        format!("not compared: keys that only Redis has, for {table}: its template is calculated; `keys` in import.yml names their pattern")
    }));
    lines.extend(
        verdict
            .tolerances
            .iter()
            .map(|tolerance| format!("tolerated: {tolerance}")),
    );
    context
        .ui
        .report(json!({ "identical": verdict.identical, "verdict": verdict }), lines);
}
