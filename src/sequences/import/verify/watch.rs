//! `infra import verify --watch`: the comparison again and again, with a history that outlives a kill.

use super::super::history::Kept;
use super::super::setup::Ready;
use super::verdict::{Verdict, compare};
use crate::decide::import::history::{self, MOST_LOOKS, Summary, next_look, span};
use crate::effects::fault;
use crate::model::error::{Doing, Error, ExitCode, Kind, Result};
use crate::model::import::{Look, Watch};
use crate::model::size;
use crate::sequences::arguments::ImportVerify;
use crate::sequences::context::Context;
use jiff::Timestamp;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// A pause is slept in parts, since the clock of a sleep stands still while a laptop sleeps.
const PART: Duration = Duration::from_secs(15);
/// Differences of a look that are named at once.
const NAMED: usize = 3;

struct Watching<'a> {
    context: &'a Context,
    arguments: &'a ImportVerify,
    kept: Kept,
    /// When the watch began, by which it is found in the history.
    begun_at: Timestamp,
    /// The mapping's text at the beginning.
    mapping: String,
}

pub(super) async fn run(context: &Context, arguments: &ImportVerify, lasts: Duration) -> Result<ExitCode> {
    if arguments.every.is_zero() || lasts.as_millis() / arguments.every.as_millis().max(1) > u128::from(MOST_LOOKS) {
        return Err(Error::usage(format!(
            "look every {} for {}: the history would be too long",
            size::duration(arguments.every),
            span(lasts)
        ))
        .hint(format!(
            "let --every be so long that there are at most {} looks",
            size::count(MOST_LOOKS)
        )));
    }
    let (file, tables) = (&arguments.comparison.file.file, &arguments.comparison.file.tables);
    let ready = Ready::look(context, file, tables).await?;
    let mut kept = Kept::open(context, &ready, file).await?;
    match kept.why_in_file() {
        Some(why) => context
            .ui
            .warn(format!("the history is kept in {}, since {why}", kept.shown())),
        None => context.ui.note(format!("the history is kept in {}", kept.shown())),
    }
    let of = kept.of().to_owned();
    let begun_at = history::begin(&kept.history, &of, Timestamp::now(), arguments.restart);
    let before = Summary::of(history::watch(&mut kept.history, &of, begun_at));
    if before.looks > 0 {
        context
            .ui
            .note(format!("going on with the watch of {begun_at}: {}", before.sentence()));
    }
    let mut watching = Watching {
        context,
        arguments,
        kept,
        begun_at,
        mapping: text_of(file)?,
    };
    let verdict = watching.all_looks(ready, lasts).await?;
    watching.end(verdict).await
}

impl Watching<'_> {
    fn watch(&mut self) -> &mut Watch {
        let of = self.kept.of().to_owned();
        history::watch(&mut self.kept.history, &of, self.begun_at)
    }

    /// Makes every look that is due until the end. Returns the verdict of the last one that was made here.
    async fn all_looks(&mut self, ready: Ready, lasts: Duration) -> Result<Option<Verdict>> {
        let mut ready = Some(ready);
        let mut last = None;
        let every = self.arguments.every;
        while let Some(due) = next_look(self.watch(), lasts, every) {
            self.wait(due).await?;
            let at = Timestamp::now();
            let is_first = ready.is_some();
            match self.look(ready.take()).await {
                Ok(verdict) => {
                    self.note(verdict.as_look(at)).await?;
                    last = Some(verdict);
                }
                Err(error) if is_first || matches!(error.kind(), Kind::Interrupted | Kind::Usage) => return Err(error),
                Err(error) => {
                    let failure = error.chain().join(": ");
                    self.context.ui.warn(format!("this look could not be made: {failure}"));
                    let failure = Some(failure);
                    self.note(Look {
                        at,
                        failure,
                        ..Look::default()
                    })
                    .await?;
                }
            }
        }
        Ok(last)
    }

    async fn wait(&mut self, due: Timestamp) -> Result<()> {
        let begun = Summary::of(self.watch());
        let left = || Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default();
        if left().is_zero() {
            return Ok(());
        }
        let step = self.context.ui.step("watch");
        let waiting = async {
            while !left().is_zero() {
                step.update(format!("{}; the next look comes in {}", begun.sentence(), span(left())));
                tokio::time::sleep(left().min(PART)).await;
            }
            Ok(())
        };
        let waited = self.context.interrupt.or(waiting).await;
        step.over(begun.sentence());
        waited.map_err(|error| error.hint("run the same command again: it goes on counting"))
    }

    /// Compares both sides. Credentials and schema are read again, since they may have changed meanwhile.
    async fn look(&mut self, ready: Option<Ready>) -> Result<Verdict> {
        let number = self.watch().looks.len() + 1;
        let comparison = &self.arguments.comparison;
        let step = self.context.ui.step(format!("look {number}"));
        let looking = async {
            let ready = match ready {
                Some(ready) => ready,
                None => {
                    self.check_mapping()?;
                    Ready::look(self.context, &comparison.file.file, &comparison.file.tables).await?
                }
            };
            compare(self.context, &ready, comparison, &step).await
        };
        let limit = self.context.common.timeout;
        let looked = tokio::time::timeout(limit, Box::pin(looking)).await;
        let verdict = looked.unwrap_or_else(|_| {
            Err(
                Error::failed(format!("finish a comparison within {}", size::duration(limit)))
                    .hint("give it longer with --timeout"),
            )
        });
        if verdict.is_err() {
            step.failed("not made");
        }
        let verdict = verdict?;
        for shown in verdict.first.iter().take(NAMED) {
            self.context
                .ui
                .warn(format!("{}  {}  {}", shown.table, shown.key, shown.reason));
        }
        Ok(verdict)
    }

    /// Looks of one watch are all of the same mapping.
    fn check_mapping(&self) -> Result<()> {
        let file = &self.arguments.comparison.file.file;
        if text_of(file)? == self.mapping {
            return Ok(());
        }
        Err(Error::usage(format!(
            "go on with the watch: {} was changed meanwhile",
            file.display()
        ))
        .hint("run the same command again: it begins another watch"))
    }

    /// Adds a look to the history. If that cannot be written now, it is written with the next one.
    async fn note(&mut self, look: Look) -> Result<()> {
        self.watch().looks.push(look);
        fault::point(format_args!("before noting a look"));
        let written = self.kept.write().await;
        fault::point(format_args!("after noting a look"));
        if written.is_err() && self.kept.why_in_file().is_none() {
            self.context.warn_of(written);
            return Ok(());
        }
        written
    }

    /// Reports all looks. The watch is finished then, and the next command begins another one.
    async fn end(mut self, verdict: Option<Verdict>) -> Result<ExitCode> {
        self.watch().finished = true;
        let watch = self.watch().clone();
        self.context.warn_of(self.kept.write().await);
        let summary = Summary::of(&watch);
        let sentence = summary.sentence();
        let lines = [
            sentence.clone(),
            summary.evidence(),
            format!("history in {}", self.kept.shown()),
        ];
        let is_identical = summary.is_identical();
        self.context.ui.report(
            json!({
                "identical": is_identical,
                "watch": self.kept.watched(&watch),
                "looks": watch.looks,
                "verdict": verdict,
            }),
            lines,
        );
        if is_identical {
            return Ok(ExitCode::Done);
        }
        Err(Error::unproven(format!(
            "prove that PostgreSQL and Redis stay identical: {sentence}"
        ))
        .hint("a look that differed may have met a write that fails in Redis, or two processes that write one row; repair with `infra import run --replace` or `infra import follow`, then watch again"))
    }
}

fn text_of(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).doing(|| format!("read {}", file.display()))
}
