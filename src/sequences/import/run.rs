//! `infra import run`: writes every row whose key is not there yet.

use super::collisions;
use super::pace::Pace;
use super::progress::{Counts, Progress};
use super::ranges::Walk;
use super::setup::{Ground, Ready};
use super::window::{Hand, Window};
use crate::effects::fault;
use crate::effects::interrupt::Interrupt;
use crate::effects::postgres::{Range, Session, Snapshot};
use crate::model::clock::Instant;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::size;
use crate::sequences::arguments::ImportRun;
use crate::sequences::context::Context;
use crate::ui::Step;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;

pub async fn run(context: &Context, arguments: &ImportRun) -> Result<ExitCode> {
    let ready = Ready::look(context, &arguments.file.file, &arguments.file.tables).await?;
    ready.check_target().await?;
    let begun = Instant::now();
    let identity = ready.identity(&arguments.file.file, &arguments.replace.to_string())?;
    let progress = Mutex::new(Progress::open(&arguments.file.file, &identity, arguments.restart));
    for ground in &ready.tables {
        table(context, &ready, ground, arguments.replace, &progress).await?;
    }
    let progress = progress.into_inner().unwrap_or_else(PoisonError::into_inner);
    let counts = progress.counts();
    progress.finish()?;
    show(context, &counts, begun.elapsed());
    Ok(ExitCode::Done)
}

/// Reads one table by several workers, range by range.
async fn table(
    context: &Context,
    ready: &Ready,
    ground: &Ground,
    replaces: bool,
    progress: &Mutex<Progress>,
) -> Result<()> {
    let label = &ground.shape.label;
    let step = context.ui.step(format!("import {label}"));
    let done = lock(progress).begin(label);
    if done.finished {
        step.unchanged("done by an earlier run");
        return Ok(());
    }
    let snapshot = Snapshot::take(&ready.source).await?;
    ground.check_schema(snapshot.session()).await?;
    ground.check_keys(snapshot.session()).await?;
    collisions::check(ground, snapshot.session()).await?;
    let work = Work {
        ready,
        ground,
        replaces,
        snapshot: &snapshot,
        walk: AsyncMutex::new((Walk::begin(ground, done.up_to, ready.mapping.limits.rows_per_s.0), 0)),
        progress,
        rows: AtomicU64::new(done.counts.rows),
        pace: Pace::new(ready.mapping.limits.rows_per_s.0),
        step: &step,
        interrupt: &context.interrupt,
    };
    let workers = if ground.has_ranges {
        ready.mapping.limits.parallel
    } else {
        1
    };
    futures_util::future::try_join_all((0..workers).map(|_| work.worker())).await?;
    let counts = lock(progress).counts().get(label).copied().unwrap_or_default();
    step.done(format!(
        "{} rows: {} written, {} there already, {} left with another value",
        size::count(counts.rows),
        size::count(counts.written),
        size::count(counts.same),
        size::count(counts.left)
    ));
    Ok(())
}

fn lock(progress: &Mutex<Progress>) -> std::sync::MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Work<'a> {
    ready: &'a Ready,
    ground: &'a Ground,
    replaces: bool,
    snapshot: &'a Snapshot,
    walk: AsyncMutex<(Walk<'a>, u64)>,
    progress: &'a Mutex<Progress>,
    rows: AtomicU64,
    pace: Pace,
    step: &'a Step,
    interrupt: &'a Interrupt,
}

impl Work<'_> {
    async fn worker(&self) -> Result<()> {
        let Ready {
            source,
            target,
            mapping,
            ..
        } = self.ready;
        let reading = self.snapshot.join().await?;
        if !self.ground.has_ranges {
            // One statement gives all rows, and takes as long as they take to be written.
            reading.answer_within(Duration::ZERO).await?;
        }
        let mut hand = Hand::connect(self.ground, source, target, &mapping.tolerate, self.replaces).await?;
        loop {
            let (range, number) = {
                let mut walk = self.walk.lock().await;
                let Some(range) = walk.0.next(self.snapshot.session()).await? else {
                    return Ok(());
                };
                walk.1 += 1;
                (range, walk.1 - 1)
            };
            let counts = self.range(&reading, &mut hand, &range).await?;
            fault::point(format_args!("before noting a range of {}", self.ground.shape.label));
            lock(self.progress).done(&self.ground.shape.label, number, range, counts)?;
            fault::point(format_args!("after noting a range of {}", self.ground.shape.label));
        }
    }

    async fn range(&self, reading: &Session, hand: &mut Hand<'_>, range: &Range) -> Result<Counts> {
        let mut rows = self.ground.reader.range(reading, range).await?;
        let mut window = Window::begin(range.after.clone());
        let mut counts = Counts::default();
        while let Some(row) = rows.next().await? {
            if window.add(self.ground, &row, Timestamp::now())? {
                let written = hand.write(&mut window, None, false).await?;
                counts.add(&written);
                self.after_window(written.rows).await?;
            }
        }
        let written = hand.write(&mut window, range.up_to.clone(), true).await?;
        counts.add(&written);
        self.after_window(written.rows).await?;
        Ok(counts)
    }

    async fn after_window(&self, rows: u64) -> Result<()> {
        if self.interrupt.requested() {
            return Err(Error::interrupted("finish the import: it was asked to stop")
                .hint("run the same command again: it goes on where it stopped"));
        }
        let rows = self.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        let expected = self.ground.relation.rows;
        self.step.update(format!(
            "{} of about {} rows",
            size::count(rows),
            size::count(expected.max(rows))
        ));
        self.pace.wait(rows).await;
        Ok(())
    }
}

fn fields(counts: &BTreeMap<String, Counts>, took: Duration) -> Value {
    json!({ "tables": counts, "seconds": took.as_secs_f64() })
}

fn show(context: &Context, counts: &BTreeMap<String, Counts>, took: Duration) {
    let mut lines = Vec::new();
    let mut all = Counts::default();
    for (table, counts) in counts {
        all.add(counts);
        let mut parts = vec![
            format!("{} rows", size::count(counts.rows)),
            format!("{} written", size::count(counts.written)),
        ];
        for (count, what) in [
            (counts.same, "there already"),
            (counts.left, "left with another value"),
            (counts.replaced, "replaced"),
            (counts.without_value, "without a value"),
            (counts.expired, "expired"),
            (counts.taken_back, "taken back, since the row went meanwhile"),
            (counts.unsettled, "unsettled"),
        ] {
            if count > 0 {
                parts.push(format!("{} {what}", size::count(count)));
            }
        }
        lines.push(format!("{table}: {}", parts.join(", ")));
    }
    lines.push(format!(
        "took {}; `infra import verify` compares both sides",
        size::duration(took)
    ));
    context.ui.report(fields(counts, took), lines);
}
