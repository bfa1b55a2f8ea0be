//! One comparison of both sides, in rounds until the differences converge.

use super::super::setup::Ready;
use super::found::Found;
use super::{again, keys, rows};
use crate::effects::redis::key::printable;
use crate::model::error::Result;
use crate::model::import::Look;
use crate::model::size;
use crate::sequences::arguments::ImportComparison;
use crate::sequences::context::Context;
use crate::ui::Step;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// One round, as JSON has it.
#[derive(Debug, Serialize)]
pub struct Round {
    pub full: bool,
    pub differing: u64,
    pub seconds: f64,
}

/// The result; its fields are part of the JSON output and only ever grow.
#[derive(Debug, Serialize)]
pub struct Verdict {
    pub identical: bool,
    pub rows: BTreeMap<String, u64>,
    pub keys: BTreeMap<String, u64>,
    pub differing: u64,
    pub first: Vec<Shown>,
    pub rounds: Vec<Round>,
    /// Tables of which only rows are held against keys, since no pattern says which keys are
    /// theirs.
    pub one_way: Vec<String>,
    pub tolerances: Vec<String>,
    pub seconds: f64,
}

impl Verdict {
    /// Returns the figures that the history of a watch keeps.
    pub fn as_look(&self, at: Timestamp) -> Look {
        Look {
            at,
            rows: self.rows.values().sum(),
            keys: self.keys.values().sum(),
            differing: self.differing,
            rounds: self.rounds.len() as u64,
            seconds: self.seconds,
            failure: None,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Shown {
    pub table: String,
    pub key: String,
    pub reason: String,
}

pub async fn compare(context: &Context, ready: &Ready, arguments: &ImportComparison, step: &Step) -> Result<Verdict> {
    let begun = crate::model::clock::Instant::now();
    let mut rounds: Vec<Round> = Vec::new();
    let mut found = Found::default();
    let mut first = Found::default();
    for number in 1..=arguments.rounds {
        let since = crate::model::clock::Instant::now();
        let full = number == 1 || found.count > found.differences.len() as u64;
        found = if full {
            let found = everything(context, ready, step).await?;
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
async fn everything(context: &Context, ready: &Ready, step: &Step) -> Result<Found> {
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
