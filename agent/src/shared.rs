//! The state that the agent's threads share.

use infra_agent::record::{Gap, Kept, Position};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Default)]
pub struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub struct State {
    /// The timeline that is being written; empty before the first.
    pub timeline: String,
    /// How each of the newest increments began.
    pub starts: BTreeMap<u64, Start>,
    /// Pairs of increments where the second was seen to continue the first.
    pub joints: BTreeSet<(u64, u64)>,
    /// Timelines whose base is in the bucket.
    pub based: BTreeSet<String>,
    /// The base of a timeline that begins with what the engine had on its disk.
    pub base_wanted: Option<Wanted>,
    /// The timeline has no base, and what it began with is gone: a new one is needed.
    pub base_needed: bool,
    pub shipped_until: i64,
    pub shipped: Position,
    pub gap: Option<Gap>,
    /// The AOF set that the newest full copy replaced.
    pub kept: Option<Kept>,
    /// The present troubles, by the part of the agent.
    pub troubles: BTreeMap<&'static str, String>,
}

/// The beginning of an increment. The timeline may have ended since, by a change of role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The timeline that has the increment's first byte.
    pub timeline: String,
    /// The engine's run that opened the increment, or loaded it.
    pub run_id: String,
    /// The second that was last annotated there.
    pub second: Option<i64>,
}

/// A base that the log needs, as it lies on the disk.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub timeline: String,
    pub start: Position,
    /// The second in which the timeline began, since 1970.
    pub began: i64,
    /// A second name of the base's file.
    pub file: std::path::PathBuf,
}

impl State {
    /// Returns where a base belongs that this increment follows; `None` if another run opened it.
    pub fn start(&self, increment: u64, run_id: &str) -> Option<Start> {
        self.starts
            .get(&increment)
            .filter(|start| start.run_id == run_id)
            .cloned()
    }
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes all that wait for a change.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until `look` returns a value; `None` after `patience`.
    pub fn wait<T>(&self, patience: Duration, mut look: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let mut found = None;
        let waiting = |state: &mut State| {
            found = look(state);
            found.is_none()
        };
        drop(
            self.changed
                .wait_timeout_while(self.lock(), patience, waiting)
                .unwrap_or_else(PoisonError::into_inner),
        );
        found
    }

    pub fn trouble(&self, part: &'static str, what: Option<String>) {
        let mut state = self.lock();
        let before = match &what {
            Some(what) => state.troubles.insert(part, what.clone()),
            None => state.troubles.remove(part),
        };
        // The trouble is logged once, and not at every attempt.
        match what {
            Some(what) if before.as_ref() != Some(&what) => eprintln!("infra-agent: {part}: {what}"),
            None if before.is_some() => eprintln!("infra-agent: {part}: all is well again"),
            _ => {}
        }
    }
}
