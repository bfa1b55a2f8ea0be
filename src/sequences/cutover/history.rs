//! The entries that a cutover writes to the journal, and what they mean when they are read again.
//!
//! They hold no secret: vars by name, the source by ids and offsets, old values by the vars' names.

use crate::decide::vars::{DetachVars, Moved};
use crate::effects::platform::{Crashed, Standing};
use crate::effects::redis::clients::Baseline as ClientBaseline;
use crate::model::error::{Error, Result};
use crate::model::follow::Follower;
use crate::model::phase::{Command, FenceKind, Phase};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use wire::info::{Info, OwnRemovals};

/// One entry of the journal, written before its effect.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Entry {
    /// A run of a command took up the cutover.
    Begun {
        command: Command,
    },
    /// The vars of an attachment become plain: attach under another name, detach, set.
    #[serde(rename = "flattening")]
    Detaching {
        app: String,
        plan: DetachVars,
        maintenance_was_on: bool,
    },
    #[serde(rename = "flattened")]
    Detached {
        app: String,
    },
    /// Preboot is turned off for the cutover; it was on.
    PrebootOff {
        app: String,
    },
    PrebootOn {
        app: String,
    },
    /// The apps are stopped; holds how each stood before.
    Stopping {
        apps: BTreeMap<String, Standing>,
    },
    Started,
    Following {
        /// The source when a cutover was begun; `None` on the way back.
        #[serde(default)]
        source: Option<Known>,
    },
    Returning {
        why: String,
    },
    Fenced {
        fence: FenceKind,
        /// The change of vars that is the fence itself; `None` for a pause.
        switch: Option<Switch>,
        /// The clients of the source that only looked.
        #[serde(default)]
        clients: ClientBaseline,
    },
    Promoted(Promotion),
    Switching(Switch),
    Switched {
        release: Option<u64>,
    },
    Settled {
        late_writes: Option<u64>,
    },
}

/// A promotion, and the point of the source's stream at which it happened.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Promotion {
    pub source_run_id: String,
    pub source_replid: String,
    /// Nothing was written to the source from here on.
    pub offset: u64,
    pub fenced_at: Timestamp,
    /// When the last write before the fence was seen; `None` if the watched stream showed none.
    pub last_write_at: Option<Timestamp>,
    /// How many keys the source had, over all databases.
    #[serde(default)]
    pub source_keys: u64,
    /// Removals that the source made by itself, up to that point; `None` in older journals.
    #[serde(default)]
    pub source_removals: Option<OwnRemovals>,
    /// The source's own count of writes at the fence, if it counts any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
    pub keys_compared: u64,
    /// How the master got the data. A copy has no stream of the source: replication id and offset
    /// are then the master's own.
    #[serde(default, skip_serializing_if = "Follower::is_replication")]
    pub follower: Follower,
    /// The watch by MONITOR that saw no write between fence and proof; `None` if the source has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitored: Option<Monitored>,
    /// The end of the pause of `promote`; `None` if the switch follows at once.
    pub hold_until: Option<Timestamp>,
}

/// A watch by MONITOR, and how many requests that write it had seen at the proof.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Monitored {
    pub id: String,
    pub writes: u64,
}

/// A server's count of changes since it last saved, and when that save was, in seconds since 1970.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Counted {
    pub changes: u64,
    pub last_save: i64,
}

impl Counted {
    /// Returns `None` also for a count of zero: some hosts show that all the time.
    pub fn by(info: &Info) -> Option<Self> {
        let changes = info.persistence.unsaved_changes.filter(|changes| *changes > 0)?;
        Some(Counted {
            changes,
            last_save: info.persistence.last_save?,
        })
    }
}

/// A process of the source, and how many keys it had over all databases.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Known {
    pub run_id: String,
    pub keys: u64,
}

/// The one change of config vars of each app.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Switch {
    pub apps: BTreeMap<String, AppSwitch>,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct AppSwitch {
    pub moved: Vec<Moved>,
    /// The var that receives the certificate authority.
    pub ca_var: String,
    /// The plain var that keeps the source's URL if no attachment keeps it.
    pub keep_in: Option<String>,
    /// The newest release before the change.
    pub release_before: u64,
    /// Process types that had crashed before the change, and are not waited for after it.
    #[serde(default, skip_serializing_if = "Crashed::is_empty")]
    pub crashed: Crashed,
}

impl Entry {
    /// Returns the phase that this entry begins; `None` for a step within one.
    pub fn phase(&self) -> Option<Phase> {
        match self {
            Entry::Begun { .. }
            | Entry::Detaching { .. }
            | Entry::Detached { .. }
            | Entry::PrebootOff { .. }
            | Entry::PrebootOn { .. }
            | Entry::Stopping { .. }
            | Entry::Started => None,
            Entry::Following { .. } => Some(Phase::Following),
            Entry::Returning { .. } => Some(Phase::Returning),
            Entry::Fenced { .. } => Some(Phase::Fenced),
            Entry::Promoted(_) => Some(Phase::Promoted),
            Entry::Switching(_) => Some(Phase::Switching),
            Entry::Switched { .. } => Some(Phase::Switched),
            Entry::Settled { .. } => Some(Phase::Settled),
        }
    }

    /// Returns the word for the journal's column of steps.
    pub fn step(&self) -> &'static str {
        match self {
            Entry::Begun { command } => command.name(),
            Entry::Detaching { .. } => "flattening",
            Entry::Detached { .. } => "flattened",
            Entry::PrebootOff { .. } => "preboot-off",
            Entry::PrebootOn { .. } => "preboot-on",
            Entry::Stopping { .. } => "stopping",
            Entry::Started => "started",
            _ => self.phase().map_or("", Phase::name),
        }
    }
}

/// The journal's entries, folded into what a decision needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The phase that was journaled last.
    pub phase: Option<Phase>,
    /// The kind of fence; `None` before the fence.
    pub fence: Option<FenceKind>,
    /// The source as it was when the last cutover was begun, in whichever attempt.
    pub source: Option<Known>,
    /// The clients that never leave the source.
    pub clients: ClientBaseline,
    /// The last promotion, if nothing after it took it back.
    pub promotion: Option<Promotion>,
    pub switch: Option<Switch>,
    pub release: Option<u64>,
    /// The apps ran on the endpoint, and nothing since took that back.
    pub was_switched: bool,
    /// Detachments that were begun and not finished, by app; true if maintenance was on before.
    pub detaching: BTreeMap<String, (DetachVars, bool)>,
    /// Apps whose preboot was on.
    pub preboot_to_restore: BTreeSet<String>,
    /// How the stopped apps stood before; `None` once they were started.
    pub stopped: Option<BTreeMap<String, Standing>>,
    pub late_writes: Option<u64>,
}

impl History {
    pub fn of(entries: &[Entry]) -> Self {
        let mut history = History::default();
        for entry in entries {
            history.add(entry);
        }
        history
    }

    /// Returns true if an app waits for the command to be run again: from the promotion on, on the way
    /// back, while it is stopped, and while its add-ons are detached. A check that refuses would leave it there.
    pub fn keeps_an_app_waiting(&self) -> bool {
        let halfway = |phase| phase == Phase::Returning || phase >= Phase::Promoted;
        self.phase.is_some_and(halfway) || self.stopped.is_some() || !self.detaching.is_empty()
    }

    pub fn add(&mut self, entry: &Entry) {
        self.phase = entry.phase().or(self.phase);
        match entry {
            Entry::Begun { .. } | Entry::Returning { .. } => {}
            Entry::Detaching {
                app,
                plan,
                maintenance_was_on,
            } => {
                self.detaching.insert(app.clone(), (plan.clone(), *maintenance_was_on));
            }
            Entry::Detached { app } => {
                self.detaching.remove(app);
            }
            Entry::PrebootOff { app } => {
                self.preboot_to_restore.insert(app.clone());
            }
            Entry::PrebootOn { app } => {
                self.preboot_to_restore.remove(app);
            }
            // The first note counts, since a rerun finds the apps stopped.
            Entry::Stopping { apps } => {
                let stopped = self.stopped.get_or_insert_default();
                for (app, standing) in apps {
                    stopped.entry(app.clone()).or_insert_with(|| standing.clone());
                }
            }
            Entry::Started => self.stopped = None,
            Entry::Following { source } => {
                if source.is_some() {
                    self.source = source.clone();
                }
                self.fence = None;
                self.promotion = None;
                self.switch = None;
                self.release = None;
                self.was_switched = false;
            }
            // A new fence needs a new promotion.
            Entry::Fenced { fence, switch, clients } => {
                self.clients = clients.clone();
                self.fence = Some(*fence);
                self.promotion = None;
                if switch.is_some() {
                    self.switch = switch.clone();
                }
            }
            Entry::Promoted(promotion) => self.promotion = Some(promotion.clone()),
            Entry::Switching(switch) => self.switch = Some(switch.clone()),
            Entry::Switched { release } => {
                self.release = *release;
                self.was_switched = true;
            }
            Entry::Settled { late_writes } => self.late_writes = *late_writes,
        }
    }

    /// Returns the promotion, for steps that come after one.
    pub(super) fn promoted(&self) -> Result<&Promotion> {
        self.promotion.as_ref().ok_or_else(|| out_of_order("a promotion"))
    }

    /// Returns the switch, for steps that come after its entry.
    pub(super) fn announced(&self) -> Result<&Switch> {
        self.switch.as_ref().ok_or_else(|| out_of_order("a switch"))
    }

    /// Returns what is half done and which command to run; `None` between two cutovers.
    pub fn unfinished(&self, now: Timestamp) -> Option<String> {
        if self.stopped.is_some() {
            return Some(
                "the app is stopped in the middle of a cutover: `infra switch-app` goes on with it, `infra switch-app --back` starts the app on the source".into(),
            );
        }
        if let Some(app) = self.detaching.keys().next() {
            return Some(format!(
                "the app {app} is under maintenance, and its Redis URL may be gone, until a var of its own holds it: run the same command again"
            ));
        }
        if let Some(app) = self
            .preboot_to_restore
            .first()
            .filter(|_| self.phase.is_none_or(|phase| phase == Phase::Following))
        {
            return Some(format!(
                "preboot of the app {app} is off: the next `infra switch-app` turns it on again when it is done"
            ));
        }
        match (self.phase?, &self.promotion) {
            (Phase::Promoted, Some(promotion)) => Some(match promotion.hold_until {
                Some(until) if until > now => format!(
                    "writes of the app wait until {} for `infra switch-app`; `infra switch-app --back` gives the promotion up at once",
                    until.strftime("%H:%M:%S UTC")
                ),
                _ => "the master was promoted and the app is on the source: `infra switch-app` follows the source again and repeats it".into(),
            }),
            (Phase::Returning, _) => Some("a way back is half done: run the same command again".into()),
            (Phase::Switching | Phase::Switched, _) => {
                Some("a switch is half done, and the source may be paused until it is finished: run `infra switch-app`".into())
            }
            _ => None,
        }
    }
}

/// Returns the error for a step that came too early.
pub(super) fn out_of_order(missing: &str) -> Error {
    Error::failed(format!("go on without {missing}: the steps are out of order"))
        .hint("this is a defect of the program; nothing was changed by it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_back_as_it_was_written() {
        let entry = Entry::Promoted(Promotion {
            source_run_id: "a".into(),
            source_replid: "b".into(),
            offset: 7,
            fenced_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            last_write_at: None,
            source_keys: 3,
            source_removals: Some(OwnRemovals {
                expired_keys: 4,
                evicted_keys: 5,
                expired_fields: 6,
            }),
            counted: Some(Counted {
                changes: 9,
                last_save: 10,
            }),
            keys_compared: 3,
            monitored: Some(Monitored {
                id: "c".into(),
                writes: 8,
            }),
            follower: Follower::Copy,
            hold_until: None,
        });
        let text = serde_json::to_value(&entry).unwrap();
        assert_eq!(serde_json::from_value::<Entry>(text).unwrap(), entry);
    }

    #[test]
    fn no_content_of_a_journal_makes_reading_panic() {
        let at = r#""fenced_at":"2026-01-01T00:00:00Z","last_write_at":null,"keys_compared":3,"hold_until":"2026-01-01T00:00:00Z""#;
        let journal = format!(
            r#"[{{"at":"2026-01-01T00:00:00Z","phase":"fenced","step":"fenced","detail":{{"what":"fenced","fence":"pause","switch":null,"clients":{{"groups":[{{"address":"a","count":2}}]}}}}}},{{"at":"2026-01-01T00:00:00Z","phase":"","step":"stopping","detail":{{"what":"stopping","apps":{{"a":{{"formation":{{"web":2}},"maintenance":false}}}}}}}},{{"at":"2026-01-01T00:00:00Z","phase":"promoted","step":"promoted","detail":{{"what":"promoted","source_run_id":"a","source_replid":"b","offset":7,{at}}}}}]"#
        );
        let words = [
            r#""what":"switching","#,
            r#""what":"started""#,
            r#""apps":{"#,
            "9999-12-31T23:59:59Z",
            "-009999-01-01T00:00:00Z",
        ];
        crate::fuzz::bytes(&[&journal], &words, |input| {
            if let Ok(entries) = serde_json::from_slice::<Vec<crate::effects::state::Entry>>(input)
                && let Ok(history) = super::super::record::read_entries(&entries)
            {
                let _ = (history.unfinished(Timestamp::now()), history.clients.len());
            }
        });
    }

    #[test]
    fn steps_within_a_phase_do_not_end_it() {
        let history = History::of(&[
            Entry::Following { source: None },
            Entry::Fenced {
                fence: FenceKind::Pause,
                switch: None,
                clients: ClientBaseline::default(),
            },
            Entry::PrebootOff { app: "demo".into() },
            Entry::Begun {
                command: Command::Promote,
            },
        ]);
        assert_eq!(history.phase, Some(Phase::Fenced));
        assert!(history.preboot_to_restore.contains("demo"));
    }

    #[test]
    fn apps_that_were_stopped_twice_are_started_as_they_stood_first() {
        let standing = |web: u64| Standing {
            formation: [("web".to_string(), web)].into(),
            maintenance: web == 0,
            crashed: Default::default(),
        };
        let stopping = |web| Entry::Stopping {
            apps: [("demo".to_string(), standing(web))].into(),
        };
        let mut history = History::of(&[stopping(2), stopping(0)]);
        assert_eq!(history.stopped.as_ref().unwrap()["demo"], standing(2));
        history.add(&Entry::Started);
        assert_eq!(history.stopped, None);
    }

    #[test]
    fn an_app_waits_while_it_is_detached_or_stopped_and_not_behind_a_pause() {
        let waits = |entries: &[Entry]| History::of(entries).keeps_an_app_waiting();
        let detaching = Entry::Detaching {
            app: "demo".into(),
            plan: DetachVars {
                attachment: "REDIS".into(),
                addon: "redis-oval-1".into(),
                hosted: "HOSTED_REDIS".into(),
                vars: vec!["REDIS_URL".into()],
            },
            maintenance_was_on: false,
        };
        let detached = Entry::Detached { app: "demo".into() };
        assert!(waits(std::slice::from_ref(&detaching)));
        assert!(!waits(&[detaching, detached]));
        let stopping = Entry::Stopping { apps: BTreeMap::new() };
        assert!(waits(std::slice::from_ref(&stopping)));
        assert!(!waits(&[stopping, Entry::Started]));
        let fenced = Entry::Fenced {
            fence: FenceKind::Pause,
            switch: None,
            clients: ClientBaseline::default(),
        };
        assert!(!waits(&[fenced]));
        assert!(waits(&[Entry::Returning { why: String::new() }]));
    }

    #[test]
    fn a_half_done_cutover_is_reported_with_the_command_that_ends_it() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let told = |entries: &[Entry]| History::of(entries).unfinished(now);
        assert_eq!(told(&[Entry::Following { source: None }]), None);
        assert_eq!(told(&[Entry::Settled { late_writes: None }]), None);
        let stopping = Entry::Stopping { apps: BTreeMap::new() };
        assert!(
            told(&[Entry::Following { source: None }, stopping])
                .unwrap()
                .contains("--back")
        );
        assert!(
            told(&[Entry::Switching(Switch::default())])
                .unwrap()
                .contains("infra switch-app")
        );
    }

    #[test]
    fn following_again_forgets_the_promotion() {
        let history = History::of(&[Entry::Switching(Switch::default()), Entry::Following { source: None }]);
        assert_eq!((history.switch, history.promotion), (None, None));
    }
}
