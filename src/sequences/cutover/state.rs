//! The value that the steps of a running cutover share.

use super::fence::Fence;
use super::figures::Outcome;
use super::gate::{Baseline, Proof};
use super::history::{History, Switch};
use super::interrupt::Interrupt;
use super::onlookers::Onlookers;
use super::pair::Pair;
use super::record::Record;
use super::setup::Setup;
use super::sides::Sides;
use super::watch::Watch;
use crate::decide::cutover::World;
use crate::model::clock::Instant;
use crate::model::error::{Error, Result};
use crate::model::phase::{Command, FenceKind};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::task::JoinHandle;

/// What a cutover was given, what its journal says, and what it holds at the moment.
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
    /// The change of the apps' vars, planned before the fence.
    pub(super) planned_switch: Option<Switch>,
    /// The bucket has just confirmed our lock.
    pub(super) just_confirmed: bool,
    /// A look at our own master that began after its promotion.
    pub(super) our_look: Option<JoinHandle<Result<OurLook>>>,
    pub(super) outcome: Outcome,
    /// The kind of fence that the source has, or would get; found before each decision.
    pub(super) fence_kind: FenceKind,
    pub(super) sent: Sent,
    /// What this run found before it decided.
    pub(super) seen: Option<World>,
    /// This run made the proof of the promotion. Nobody was let in before.
    pub(super) proven_here: bool,
    /// Whether this run let the app log in to the master, or may have.
    pub(super) access_opened: bool,
    /// When stopping the app began in this run.
    pub(super) stopped_at: Option<(Instant, jiff::Timestamp)>,
    /// When this run saw every process replaced.
    pub(super) replaced_at: Option<Instant>,
    /// Apps whose vars may still name the endpoint after the way back.
    pub(super) vars_not_back: BTreeSet<String>,
    /// Changes that the platform refused to take back, each with a remedy.
    pub(super) not_put_back: Vec<String>,
    /// Finds the clients that only look at the source while everything is compared.
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
            proven_here: false,
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
}

#[derive(Debug)]
pub(super) enum Flow {
    On,
    /// The platform ended the release badly; the app runs on as before.
    ReleaseFailed(String),
}

/// What one run knows of the changes that it sent.
#[derive(Default)]
pub(super) struct Sent {
    /// Apps with an accepted change, and the release before it; `None` if nothing had to change.
    pub accepted: BTreeMap<String, Option<u64>>,
    /// Apps whose change may or may not have been made.
    pub unclear: BTreeSet<String>,
}

/// What our master shows before the app may log in.
pub(super) struct OurLook {
    /// The master's own stream; `None` if it is watched already or cannot be.
    pub watch: Option<Watch>,
    pub access_is_open: bool,
    pub offset: u64,
}

/// What the source took after the fence.
#[derive(Default)]
pub(super) struct Late {
    pub writes: u64,
    /// The written keys, each once for a command.
    pub lines: Vec<String>,
}

pub(super) fn out_of_order(what: &str) -> Error {
    Error::failed(format!("{what}: the steps are out of order"))
        .hint("this is a defect of the program; nothing was changed by it")
}

pub(super) fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
