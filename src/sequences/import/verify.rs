//! `infra import verify`: every row against its key, and every key of the templates against its
//! row.
//!
//! The first round looks at everything, later ones only at what differed, since the app keeps
//! writing. Memory does not grow with the rows, but for tables whose keys do not say which row they
//! are of.

use super::setup::Ready;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::size;
use crate::sequences::arguments::{ImportComparison, ImportVerify};
use crate::sequences::context::Context;
use serde_json::json;
use verdict::{Verdict, compare};

mod again;
pub mod found;
mod judge;
mod keys;
mod made;
mod rows;
mod verdict;
mod watch;

pub async fn run(context: &Context, arguments: &ImportVerify) -> Result<ExitCode> {
    if let Some(lasts) = arguments.watch {
        return watch::run(context, arguments, lasts).await;
    }
    let comparison = &arguments.comparison;
    let ready = Ready::look(context, &comparison.file.file, &comparison.file.tables).await?;
    let verdict = prove(context, &ready, comparison).await?;
    show(context, &verdict);
    Ok(ExitCode::Done)
}

/// Compares both sides. If they differ, it shows the differences and returns an error.
pub async fn prove(context: &Context, ready: &Ready, arguments: &ImportComparison) -> Result<Verdict> {
    let verdict = compare(context, ready, arguments, &context.ui.step("verify")).await?;
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
