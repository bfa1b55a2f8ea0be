//! One run of a command: look, decide, do, and go back when a step before the switch fails.

use super::app::Sent;
use super::decide::{self, Failure, Next, Refusal, Stillness, World};
use super::door::OurLook;
use super::fence::Fence;
use super::figures::Outcome;
use super::gate::{Baseline, Proof, Sides};
use super::history::{Entry, History, Switch};
use super::interrupt::Interrupt;
use super::look;
use super::onlookers::Onlookers;
use super::pair::Pair;
use super::phase::{Command, FenceKind, Phase};
use super::record::Record;
use super::sequence::Step;
use super::setup::Setup;
use super::steps::out_of_order;
use super::vars::Points;
use super::watch::Watch;
use crate::error::{Error, Kind, Result};
use crate::fault;
use crate::wait::Instant;
use std::collections::BTreeSet;
use tokio::task::JoinHandle;

/// A cutover as it runs: what was given, what the journal says, and what is held at the moment.
pub struct Cutover<R: Record, P: Pair> {
    pub(super) setup: Setup<R, P>,
    pub(super) command: Command,
    pub(super) history: History,
    pub(super) sides: Option<Sides>,
    pub(super) baseline: Option<Baseline>,
    pub(super) fence: Option<Fence>,
    pub(super) proof: Option<Proof>,
    /// The source's stream since the promotion's point.
    pub(super) source_watch: Option<Watch>,
    /// Our own master's stream since its promotion.
    pub(super) our_watch: Option<Watch>,
    /// The change of the apps' vars, found out before the fence.
    pub(super) planned_switch: Option<Switch>,
    /// The bucket has just said that the lock is ours.
    pub(super) just_confirmed: bool,
    /// A look at our own master that is under way since its promotion.
    pub(super) our_look: Option<JoinHandle<Result<OurLook>>>,
    pub(super) outcome: Outcome,
    /// How the source is fenced, or would be; looked at before each decision.
    pub(super) fence_kind: FenceKind,
    pub(super) sent: Sent,
    /// What this run saw before it decided.
    pub(super) seen: Option<World>,
    /// Whether this run let the app log in to the master, or may have.
    pub(super) access_opened: bool,
    /// When stopping the app began in this run.
    pub(super) stopped_at: Option<(Instant, jiff::Timestamp)>,
    /// When this run saw every process replaced.
    pub(super) replaced_at: Option<Instant>,
    /// Apps whose vars may still name the endpoint after the way back.
    pub(super) vars_not_back: BTreeSet<String>,
    /// What the platform refused to put back, each with what to do about it.
    pub(super) not_put_back: Vec<String>,
    /// Who only looks at the source, found while everything is compared.
    pub(super) onlookers: Option<Onlookers>,
    /// How many keys the source had expired when the pause ended.
    pub(super) expired_before: Option<u64>,
    pub(super) interrupt: Interrupt,
    /// Why the way back is taken, for the journal.
    pub(super) why_back: String,
    /// After how many steps to stop as if killed; for tests.
    #[cfg(test)]
    pub(super) dies_after: Option<usize>,
}

/// How a step ended.
#[derive(Debug)]
pub(super) enum Flow {
    On,
    /// The platform ended the release badly; the app runs on as before.
    ReleaseFailed(String),
}

/// Runs `promote` or `switch-app` until it is done, went back, or cannot go on. The lock stays the caller's.
pub async fn run<R: Record, P: Pair>(setup: Setup<R, P>, command: Command) -> Result<Outcome> {
    Cutover::new(setup, command)?.finish().await
}

/// By what the source is fenced, or would be.
pub async fn fence_kind<R: Record, P: Pair>(setup: &Setup<R, P>) -> Result<FenceKind> {
    Ok(look::fence_kind(setup, &setup.record.history()?).await)
}

/// The steps that [`run`] would take now, decided by the same function from the same look; changes nothing.
pub async fn preview<R: Record, P: Pair>(setup: &Setup<R, P>, command: Command) -> Result<Vec<String>> {
    let history = setup.record.history()?;
    let world = look::world(setup, command, &history).await?;
    Ok(match decide::decide(command, &look::past(&history), &world) {
        Next::Nothing(why) => vec![format!("nothing to do: {why}")],
        Next::Refuse(refusal) => {
            let (found, hint) = refusal.explain();
            vec![format!("refuses: {found}; {hint}")]
        }
        Next::Do(steps) => steps.into_iter().map(Step::describe).collect(),
        Next::Then(steps) => steps
            .into_iter()
            .map(Step::describe)
            .chain(["and then decides again".to_string()])
            .collect(),
    })
}

impl<R: Record, P: Pair> Cutover<R, P> {
    pub(super) fn new(setup: Setup<R, P>, command: Command) -> Result<Self> {
        let interrupt = setup.interrupt.clone();
        Ok(Cutover {
            history: setup.record.history()?,
            setup,
            command,
            sides: None,
            baseline: None,
            fence: None,
            proof: None,
            source_watch: None,
            our_watch: None,
            planned_switch: None,
            just_confirmed: false,
            our_look: None,
            outcome: Outcome::default(),
            fence_kind: FenceKind::Pause,
            sent: Sent::default(),
            seen: None,
            access_opened: false,
            stopped_at: None,
            replaced_at: None,
            vars_not_back: BTreeSet::new(),
            not_put_back: Vec::new(),
            onlookers: None,
            expired_before: None,
            interrupt: Interrupt::new(interrupt),
            why_back: String::new(),
            #[cfg(test)]
            dies_after: None,
        })
    }

    pub(super) async fn finish(mut self) -> Result<Outcome> {
        let mut begun = false;
        // Each round but the last is a way back, after which there is another decision.
        for _ in 0..4 {
            let world = look::world(&self.setup, self.command, &self.history).await?;
            self.fence_kind = world.fence;
            self.seen = Some(world);
            let (steps, again) = match decide::decide(self.command, &look::past(&self.history), &world) {
                Next::Nothing(why) => {
                    self.outcome.phase = self.history.phase;
                    self.outcome.late_writes = self.history.late_writes;
                    self.outcome.release = self.history.release;
                    self.outcome.notes.push(why.into());
                    return self.claim(false);
                }
                Next::Refuse(refusal) => return Err(self.refused(refusal).await),
                Next::Do(steps) => (steps, false),
                Next::Then(steps) => (steps, true),
            };
            if !std::mem::replace(&mut begun, true) {
                self.write(Entry::Begun { command: self.command }).await?;
            }
            if again {
                self.why_back = match world.source {
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
        }
        Err(
            Error::failed(format!("{}: the world changes under our feet", self.command))
                .hint("see who else works here, then run the same command again"),
        )
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

    /// The outcome, unless it says that something was lost, or written where nobody should have; or, for a switch that ends now, cannot say so.
    fn claim(self, settled_now: bool) -> Result<Outcome> {
        if self.outcome.foreign_writes > 0 {
            return Err(Error::unproven(format!(
                "answer for every write: somebody else wrote to the master {} times before its door was open",
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

    async fn all(&mut self, steps: &[Step]) -> Result<()> {
        for step in steps {
            #[cfg(test)]
            if let Some(left) = self.dies_after.as_mut() {
                if *left == 0 {
                    return Err(Error::interrupted("killed by the test"));
                }
                *left -= 1;
            }
            self.stop_if_asked()?;
            let begun = Instant::now();
            fault::point(format_args!("before {}", name(*step)));
            let flow = self.perform(*step).await;
            fault::point(format_args!("after {}", name(*step)));
            let seconds = begun.elapsed().as_secs_f64();
            *self.outcome.seconds.entry(name(*step)).or_default() += (seconds * 1000.0).round() / 1000.0;
            if let Flow::ReleaseFailed(what) = flow? {
                self.why_back = what.clone();
                return Err(Error::failed(what).hint(
                    "see the release's output on the platform; the app is back on the source and nothing was lost",
                ));
            }
        }
        Ok(())
    }

    /// Returns whether the way back is open: nothing that an app wrote is on the new side, and no change is under way that could still move an app there.
    async fn may_go_back(&self, error: &Error) -> bool {
        match self.history.phase {
            Some(Phase::Promoted | Phase::Returning) => true,
            Some(Phase::Switching) if error.kind() != Kind::Locked => {
                let moved_before =
                    |seen: World| seen.release_pending || !matches!(seen.app, Points::Source | Points::Absent);
                decide::may_take_back(&Failure {
                    given_up: !self.why_back.is_empty(),
                    nothing_changed: error.nothing_changed(),
                    sent: !self.sent.accepted.is_empty(),
                    unclear: !self.sent.unclear.is_empty(),
                    moved_before: self.fence_kind == FenceKind::Pause && self.seen.is_some_and(moved_before),
                    access_opened: self.access_opened,
                    unused: self.is_unused().await,
                })
            }
            _ => false,
        }
    }

    /// Returns whether our side's stream proves that nobody wrote there since the promotion.
    async fn is_unused(&self) -> bool {
        let Some(promotion) = &self.history.promotion else {
            return false;
        };
        look::our_stillness(&self.setup.master, &self.setup.source, promotion)
            .await
            .is_ok_and(|(stillness, _)| stillness == Stillness::Still)
    }

    /// After a step failed: what must not stay as it is, and the error as the person should read it.
    async fn step_back(&mut self, error: Error) -> Error {
        #[cfg(test)]
        if self.dies_after.is_some() {
            return error;
        }
        self.interrupt.ignore();
        if self.setup.record.confirm().await.is_err() {
            // Somebody else may be at work: the pause ends by itself, all else is theirs.
            return error;
        }
        if self.history.phase == Some(Phase::Returning) && !self.vars_not_back.is_empty() {
            return self.put_back(error);
        }
        if self.command == Command::Back && self.history.phase == Some(Phase::Returning) && self.apps_stayed().await {
            return self.stay_on_endpoint(error).await;
        }
        if self.may_go_back(&error).await {
            if self.why_back.is_empty() {
                self.why_back = error.to_string();
            }
            return match self.all(&decide::way_back(self.fence_kind)).await {
                Ok(()) => self.put_back(error),
                Err(second) => self.stuck_on_the_way_back(error, second).await,
            };
        }
        match self.history.phase {
            Some(Phase::Switching | Phase::Switched) => self.half_done(error),
            _ if self.history.stopped.is_some() => {
                if self.why_back.is_empty() {
                    self.why_back = error.to_string();
                }
                match self.all(&decide::restart()).await {
                    Ok(()) => self.put_back(error),
                    Err(second) => Error::partial(format!("start the app again after this: {error}"))
                        .because(second)
                        .hint("the app is stopped: run the same command again, or `infra switch-app --back` to let it run on the source"),
                }
            }
            _ => {
                if let Some(fence) = self.fence.take()
                    && let Err(lifting) = fence.lift().await
                {
                    self.setup.ui.warn(format!(
                        "the pause of the source ends by itself within seconds: {lifting}"
                    ));
                }
                match self.preboot_on().await {
                    Ok(()) => self.put_back(error),
                    Err(preboot) => {
                        self.setup
                            .ui
                            .warn(format!("preboot is still off; the next run turns it on: {preboot}"));
                        error
                    }
                }
            }
        }
    }

    /// The error of a switch that can only go forward.
    fn half_done(&self, error: Error) -> Error {
        let refused = error.nothing_changed();
        let error = match error.kind() {
            Kind::Interrupted => error,
            _ => error.with_kind(Kind::Partial),
        };
        if refused {
            return error
                .while_doing("finish the switch: the platform refused a change, and the new side is in use, so nothing was taken back")
                .hint("mend what the platform says, then run `infra switch-app` with the same --confirm: it goes on where this one stopped");
        }
        error
            .while_doing("finish the switch: the change of the app was announced, and from there the way is forward")
            .hint("run `infra switch-app` with the same --confirm: it goes on where this one stopped")
    }

    /// The error after everything was put back, or the one that names what could not be.
    fn put_back(&mut self, error: Error) -> Error {
        if self.not_put_back.is_empty() {
            return error;
        }
        let left = std::mem::take(&mut self.not_put_back).join("; ");
        Error::partial(format!("put everything back after this: {error}"))
            .because(left)
            .hint("mend what the platform says, then run the same command again: it puts the rest back first")
    }

    /// Returns whether every app is still on the endpoint, after a way back that the platform did not let begin.
    pub(super) async fn apps_stayed(&self) -> bool {
        let sent = !self.sent.accepted.is_empty() || !self.sent.unclear.is_empty();
        if sent || !self.history.was_switched || !self.is_unused().await {
            return false;
        }
        match look::apps(&self.setup).await {
            Ok((points, pending)) => points == Points::Endpoint && !pending,
            // The platform does not even let us look: what was seen before is what there is, since nothing was sent.
            Err(_) => self
                .seen
                .is_some_and(|seen| seen.app == Points::Endpoint && !seen.release_pending),
        }
    }

    /// Opens app access again for apps that could not be moved back, and journals that they are where they were.
    async fn stay_on_endpoint(&mut self, error: Error) -> Error {
        match self.reopen().await {
            Ok(()) => error.while_doing("move the app back: it stays on the endpoint, as before"),
            Err(second) => Error::partial(format!("let the app go on at the endpoint after this: {error}"))
                .because(second)
                .hint("the app may not log in to the master now: run `infra switch-app` at once"),
        }
    }

    async fn reopen(&mut self) -> Result<()> {
        let Some(switch) = self.history.switch.clone() else {
            return Err(out_of_order("open app access without a switch"));
        };
        let was_switched = self.history.was_switched;
        self.write(Entry::Switching(switch)).await?;
        self.setup.record.confirm().await?;
        self.setup.pair.set_door(true).await?;
        if self.command == Command::Back && was_switched {
            // The switch had been done before somebody wanted it back.
            let (release, late_writes) = (self.history.release, self.history.late_writes);
            self.write(Entry::Switched { release }).await?;
            self.write(Entry::Settled { late_writes }).await?;
            if let Some(fence) = self.fence.take() {
                fence.lift().await?;
            }
        }
        Ok(())
    }

    /// The way back failed too. If our side has writes by now, its door opens again and the way is forward.
    async fn stuck_on_the_way_back(&mut self, first: Error, second: Error) -> Error {
        let ours = match &self.history.promotion {
            Some(promotion) => look::our_stillness(&self.setup.master, &self.setup.source, promotion)
                .await
                .map_or(Stillness::Unknown, |(stillness, _)| stillness),
            None => Stillness::Unknown,
        };
        if self.history.switch.is_some()
            && ours == Stillness::Moved
            && let Err(third) = self.reopen().await
        {
            self.setup
                .ui
                .warn(format!("the app may not log in to the new side yet: {third}"));
        }
        Error::partial(format!("go back after this: {first}"))
            .because(second)
            .hint("run the same command again: it goes on or back from here, whichever is safe")
    }

    /// Writes an entry before what it announces is done.
    pub(super) async fn write(&mut self, entry: Entry) -> Result<()> {
        self.write_all(&[entry]).await
    }

    /// The same for several entries, in one write.
    pub(super) async fn write_all(&mut self, entries: &[Entry]) -> Result<()> {
        self.setup.record.write(entries).await?;
        entries.iter().for_each(|entry| self.history.add(entry));
        Ok(())
    }

    /// Before the switch an interruption goes back; after it, the rest is for the next run.
    fn stop_if_asked(&self) -> Result<()> {
        self.interrupt.check(self.command)
    }
}

fn name(step: Step) -> String {
    let text = match step {
        Step::Announce(phase) => return format!("journal {phase}"),
        // The last of the two entries that it writes.
        Step::AnnounceSwitch => return format!("journal {}", Phase::Switching),
        Step::PromoteAndHold => format!("{:?}", Step::Promote),
        other => format!("{other:?}"),
    };
    text.char_indices().fold(String::new(), |mut name, (at, letter)| {
        if letter.is_uppercase() && at > 0 {
            name.push(' ');
        }
        name.push(letter.to_ascii_lowercase());
        name
    })
}
