//! Runs a command: look, decide, do, and go back if a step before the switch fails.

use super::figures::Outcome;
use super::history::Entry;
use super::look;
use super::pair::Pair;
use super::record::Record;
use super::setup::Setup;
use super::state::Cutover;
use crate::decide::cutover as decide;
use crate::decide::cutover::steps::Step;
use crate::decide::cutover::{Next, Refusal, Stillness};
use crate::effects::fault;
use crate::model::clock::Instant;
use crate::model::error::{Error, Result};
use crate::model::phase::{Command, FenceKind, Phase};

/// Runs a command until it is done, went back, or cannot go on. The caller keeps the lock.
pub async fn run<R: Record, P: Pair>(setup: Setup<R, P>, command: Command) -> Result<Outcome> {
    Cutover::new(setup, command).await?.finish().await
}

/// Returns the kind of fence that the source has, or would get.
pub async fn fence_kind<R: Record, P: Pair>(setup: &Setup<R, P>) -> Result<FenceKind> {
    Ok(look::fence_kind(setup, &setup.record.history()?).await)
}

/// Returns the steps that [`run`] would take now, decided by the same function; changes nothing.
pub async fn preview<R: Record, P: Pair>(setup: &mut Setup<R, P>, command: Command) -> Result<Vec<String>> {
    let history = setup.record.history()?;
    let world = look::world(setup, command, &history).await?;
    Ok(match decide::decide(command, &look::past(&history), &world) {
        Next::Nothing(why) => vec![format!("nothing to do: {why}")],
        Next::Refuse(refusal) => {
            let (found, hint) = refusal.explain();
            vec![format!("refuses: {found}; {hint}")]
        }
        Next::Wait => vec!["waits until the app's release has ended, and then decides".into()],
        Next::Do(steps) => steps.into_iter().map(Step::describe).collect(),
        Next::Then(steps) => steps
            .into_iter()
            .map(Step::describe)
            .chain(["and then decides again".to_string()])
            .collect(),
    })
}

impl<R: Record, P: Pair> Cutover<R, P> {
    pub(super) async fn finish(mut self) -> Result<Outcome> {
        let mut begun = false;
        // Each round but the last is a way back, or waits for a release. Then it decides again.
        for _ in 0..4 {
            let (steps, again) = match decide::decide(self.command, &look::past(&self.history), &self.seen) {
                Next::Nothing(why) => {
                    self.outcome.phase = self.history.phase;
                    self.outcome.late_writes = self.history.late_writes;
                    self.outcome.release = self.history.release;
                    self.outcome.notes.push(why.into());
                    return self.claim(false);
                }
                Next::Refuse(refusal) => return Err(self.refused(refusal).await),
                Next::Wait => {
                    self.await_releases().await?;
                    self.seen = look::world(&mut self.setup, self.command, &self.history).await?;
                    continue;
                }
                Next::Do(steps) => (steps, false),
                Next::Then(steps) => (steps, true),
            };
            if !std::mem::replace(&mut begun, true) {
                self.write(Entry::Begun { command: self.command }).await?;
            }
            if again {
                self.why_back = match self.seen.source {
                    Stillness::Moved => "the source was written to after the promotion".into(),
                    _ => "it is not proven that the source was not written to after the promotion".into(),
                };
                self.setup.ui.note(format!(
                    "going back first: {}; the new side was never used",
                    self.why_back
                ));
            }
            if let Err(error) = self.all(&steps).await {
                return Err(self.step_back(error).await);
            }
            if !again {
                self.outcome.phase = self.history.phase;
                let settled_now = self.outcome.phase == Some(Phase::Settled);
                return self.claim(settled_now);
            }
            self.seen = look::world(&mut self.setup, self.command, &self.history).await?;
        }
        Err(
            Error::failed(format!("{}: it had to go back several times in a row", self.command))
                .hint("see who else changes the app or the servers, then run the same command again"),
        )
    }

    /// Waits until no app has a release under way.
    async fn await_releases(&self) -> Result<()> {
        let step = self.setup.ui.step("release");
        for app in &self.setup.apps {
            self.interrupt.or(self.settled_release(app, &step)).await?;
        }
        step.done("no release is under way any more");
        Ok(())
    }

    async fn refused(&self, refusal: Refusal) -> Error {
        let (found, hint) = refusal.explain();
        let error = Error::failed(format!("begin {}: {found}", self.command)).hint(hint);
        let (Refusal::WrittenSinceSwitch, Some(promotion)) = (refusal, &self.history.promotion) else {
            return error;
        };
        error.because(
            match look::our_stillness(&self.setup.master, &self.setup.source, promotion).await {
                Ok((Stillness::Unknown, _)) => {
                    "its stream does not reach back to the promotion, so it is not known how many".into()
                }
                Ok((_, seen)) => format!("{} writes are at stake", seen.writes.max(1)),
                Err(error) => error.to_string(),
            },
        )
    }

    /// Returns the outcome. Fails if a write was lost or foreign, or if that is not known.
    fn claim(self, settled_now: bool) -> Result<Outcome> {
        if self.outcome.foreign_writes > 0 {
            return Err(Error::unproven(format!(
                        "answer for every write: somebody else wrote to the master {} times before app access was open",
                self.outcome.foreign_writes
            ))
            .because(self.outcome.notes.join("; "))
            .hint("the app was moved and nothing of its own is lost; look at those keys, and at who has the master's administrator's password"));
        }
        match self.outcome.late_writes {
            Some(late) if late > 0 => Err(Error::unproven(format!(
                "move every write: the source took {late} after the fence"
            ))
            .because(self.outcome.notes.join("; "))
            .hint("the app runs on the new side; write those keys there by hand if they matter, and stop what still writes to the source")),
            None if settled_now => Err(Error::unproven(
                "know whether the source was written to after the fence: its stream could not be watched to the end",
            )
            .because("the app runs on the new side, and nothing of what was proven before is in doubt")
            .hint("a source that restarted, or is gone, ends its stream; see who else may still have its URL. Running it again changes nothing")),
            _ => Ok(self.outcome),
        }
    }

    pub(super) async fn all(&mut self, steps: &[Step]) -> Result<()> {
        for step in steps {
            #[cfg(test)]
            if let Some(left) = self.dies_after.as_mut() {
                if *left == 0 {
                    return Err(Error::interrupted("killed by the test"));
                }
                *left -= 1;
            }
            self.interrupt.check()?;
            let begun = Instant::now();
            let performed = fault::around(&step.name(), self.perform(*step)).await;
            let seconds = begun.elapsed().as_secs_f64();
            *self.outcome.seconds.entry(step.name()).or_default() += (seconds * 1000.0).round() / 1000.0;
            performed?;
        }
        Ok(())
    }

    /// Writes an entry before its effect.
    pub(super) async fn write(&mut self, entry: Entry) -> Result<()> {
        self.write_all(&[entry]).await
    }

    pub(super) async fn write_all(&mut self, entries: &[Entry]) -> Result<()> {
        self.setup.record.write(entries).await?;
        entries.iter().for_each(|entry| self.history.add(entry));
        Ok(())
    }
}
