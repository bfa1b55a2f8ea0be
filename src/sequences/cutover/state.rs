//! The value that the steps of a running cutover share.

use super::figures::Outcome;
use super::history::{History, Switch};
use super::interrupt::Interrupt;
use super::look;
use super::pair::Pair;
use super::reached::Reached;
use super::record::Record;
use super::setup::Setup;
use super::watch::Watch;
use crate::decide::cutover::World;
use crate::effects::platform::Crashed;
use crate::effects::redis::Connection;
use crate::model::clock::Instant;
use crate::model::error::Result;
use crate::model::follow::Follower;
use crate::model::phase::Command;
use std::collections::{BTreeMap, BTreeSet};
use tokio::task::JoinHandle;

/// The state of a running cutover: its input, its journal, and what the run holds at the moment.
pub struct Cutover<R: Record, P: Pair> {
    pub(super) setup: Setup<R, P>,
    pub(super) command: Command,
    pub(super) history: History,
    /// The look at the world that the last decision rests on.
    pub(super) seen: World,
    /// How the master gets, or got, the source's data.
    pub(super) follower: Follower,
    pub(super) reached: Reached,
    /// The source's stream since the promotion's point.
    pub(super) source_watch: Option<Watch>,
    /// Our own master's stream since its promotion.
    pub(super) our_watch: Option<Watch>,
    /// The change of the apps' vars, planned before the fence.
    pub(super) planned_switch: Option<Switch>,
    /// Process types that had crashed before this run restarted the app, by app.
    pub(super) crashed: BTreeMap<String, Crashed>,
    /// The bucket has just confirmed our lock.
    pub(super) just_confirmed: bool,
    /// A look at our own master that began after its promotion.
    pub(super) our_look: Option<JoinHandle<Result<OurLook>>>,
    pub(super) outcome: Outcome,
    pub(super) sent: Sent,
    /// This run made the proof of the promotion. Nobody was let in before.
    pub(super) proven_here: bool,
    /// True if this run let the app log in to the master, or may have.
    pub(super) access_opened: bool,
    /// True if this run asked the copy to write nothing for a while.
    pub(super) copy_holds: bool,
    /// When stopping the app began in this run.
    pub(super) stopped_at: Option<(Instant, jiff::Timestamp)>,
    /// When this run saw every process replaced.
    pub(super) replaced_at: Option<Instant>,
    /// Apps whose vars may still name the endpoint after the way back.
    pub(super) vars_not_back: BTreeSet<String>,
    /// Changes that the platform refused to take back, each with a remedy.
    pub(super) not_put_back: Vec<String>,
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
    pub(super) async fn new(mut setup: Setup<R, P>, command: Command) -> Result<Self> {
        let history = setup.record.history()?;
        let seen = look::world(&mut setup, command, &history).await?;
        let (_, follower) = look::role(&mut setup.master.connect(0).await?, &history).await?;
        Ok(Cutover {
            interrupt: Interrupt::new(setup.interrupt.clone(), command),
            history,
            setup,
            command,
            seen,
            follower,
            reached: Reached::default(),
            source_watch: None,
            our_watch: None,
            planned_switch: None,
            crashed: BTreeMap::new(),
            just_confirmed: false,
            our_look: None,
            outcome: Outcome::default(),
            sent: Sent::default(),
            access_opened: false,
            proven_here: false,
            copy_holds: false,
            stopped_at: None,
            replaced_at: None,
            vars_not_back: BTreeSet::new(),
            not_put_back: Vec::new(),
            expired_before: None,
            why_back: String::new(),
            #[cfg(test)]
            dies_after: None,
        })
    }
}

impl<R: Record, P: Pair> Cutover<R, P> {
    /// Returns a connection to the source: the one that is open, if it still answers. A source on a
    /// small plan may have no room for another.
    pub(super) async fn at_source(&self) -> Result<Connection> {
        if let Some(mut open) = self.reached.at_source()
            && open.answers().await
        {
            return Ok(open);
        }
        self.setup.source.connect(0).await
    }
}

/// The changes of vars that this run sent, and how they ended.
#[derive(Default)]
pub(super) struct Sent {
    /// Apps with an accepted change, and the release before it; `None` if nothing had to change.
    pub accepted: BTreeMap<String, Option<u64>>,
    /// Apps whose change may or may not have been made.
    pub unclear: BTreeSet<String>,
}

/// A look at our master before the app may log in.
pub(super) struct OurLook {
    /// The master's own stream; `None` if it cannot be watched.
    pub watch: Option<Watch>,
    pub access_is_open: bool,
    pub offset: u64,
}
