//! Decides which dynos there should be, and what follows when one ends.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{Platform, Refusal};

/// Something to be done outside of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Boot it and run its command.
    Start { dyno: Uuid },
    /// SIGTERM, and SIGKILL if it takes too long; with `serve_on`, three minutes later.
    Stop { dyno: Uuid, serve_on: bool },
    /// Carry out the release phases that wait.
    RunReleasePhase { app: Uuid },
    /// Replace the app's stale dynos, a few at a time.
    Roll { app: Uuid },
}

/// A process of an app, running or ended.
#[derive(Clone, Debug)]
pub struct Dyno {
    pub id: Uuid,
    pub app: Uuid,
    /// `web.1`, `run.4242`.
    pub name: String,
    pub process_type: String,
    pub command: Vec<String>,
    pub size: String,
    /// Started beside the formation, by hand or by a scheduler.
    pub one_off: Option<OneOff>,
    /// In a Private Space: to be replaced when its turn comes.
    pub stale: bool,
    pub release: u64,
    /// The config vars as they were when it was made.
    pub vars: BTreeMap<String, String>,
    pub state: DynoState,
    pub pid: Option<u32>,
    pub crashes: u32,
    pub timing: Timing,
    pub updated_at: Timestamp,
}

/// The properties of a dyno that is not part of the formation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneOff {
    /// In seconds, before scaling. The dyno is ended then.
    pub time_to_live: f64,
    /// True if a client is attached to its terminal.
    pub attached: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DynoState {
    Starting,
    Up,
    Crashed,
    /// Asleep until somebody needs it.
    Idle,
    /// Replaced or scaled away: no longer listed, perhaps still running.
    Retiring,
    Ended,
}

/// When things happened to a dyno, for the report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timing {
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    /// When it was replaced or scaled away.
    pub retired_at: Option<Timestamp>,
    pub signalled_at: Option<Timestamp>,
    pub killed_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub exit: Option<String>,
}

/// The consequence of the end of a process that was not asked to end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AfterExit {
    Gone,
    /// In seconds, before scaling.
    RestartAfter(f64),
}

/// A process that ran for this many seconds counts as healthy.
const PROVEN_SECONDS: f64 = 60.0;
const LONGEST_RESTART_DELAY: f64 = 60.0;

impl Platform {
    /// Replaces all dynos but one-off ones. Old ones are stopped first, and new ones do not wait
    /// for that. In a Private Space this only begins it.
    pub fn restart_all(&mut self, app: Uuid, now: Timestamp) -> Vec<Action> {
        if self.app_of(app).is_some_and(|app| app.space.is_some()) {
            return self.begin_to_roll(app);
        }
        let awake = self
            .listed_dynos(app)
            .into_iter()
            .filter(|dyno| dyno.state != DynoState::Idle);
        let names: Vec<String> = awake.map(|dyno| dyno.name.clone()).collect();
        let mut actions = Vec::new();
        for name in &names {
            actions.extend(self.retire(app, name, now));
        }
        actions.extend(self.reconcile(app, now));
        actions
    }

    /// Replaces one dyno, or ends it if it is a one-off.
    pub fn restart_one(&mut self, app: Uuid, name: &str, now: Timestamp) -> Result<Vec<Action>, Refusal> {
        let dyno = self.listed_dynos(app).into_iter().find(|dyno| dyno.is(name));
        let dyno = dyno.ok_or_else(|| Refusal::not_found("dyno"))?;
        let (id, name, one_off) = (dyno.id, dyno.name.clone(), dyno.is_one_off());
        if one_off {
            return Ok(vec![Action::Stop {
                dyno: id,
                serve_on: false,
            }]);
        }
        let mut actions = self.retire(app, &name, now);
        actions.extend(self.reconcile(app, now));
        Ok(actions)
    }

    pub fn scale(
        &mut self,
        app: &str,
        updates: &[(String, Option<u32>, Option<String>)],
        now: Timestamp,
    ) -> Result<Vec<Action>, Refusal> {
        let app = self.app_mut(app)?;
        for (kind, _, _) in updates {
            if !app.formation.contains_key(kind) {
                return Err(Refusal::new(
                    404,
                    "not_found",
                    format!("Couldn't find that process type ({kind})."),
                ));
            }
        }
        for (kind, quantity, size) in updates {
            let Some(line) = app.formation.get_mut(kind) else {
                continue;
            };
            line.quantity = quantity.unwrap_or(line.quantity);
            line.size = size.clone().unwrap_or_else(|| line.size.clone());
            line.updated_at = now;
        }
        let id = app.id;
        Ok(self.reconcile(id, now))
    }

    /// Starts what is missing in the formation and ends what is too much.
    pub(super) fn reconcile(&mut self, app: Uuid, now: Timestamp) -> Vec<Action> {
        let Some(found) = self.app_of(app) else {
            return Vec::new();
        };
        let (formation, behaviour) = (found.formation.clone(), found.behaviour.clone());
        let mut actions = Vec::new();
        for (kind, line) in formation.iter().filter(|(kind, _)| *kind != "release") {
            let wanted: Vec<String> = (1..=line.quantity).map(|number| format!("{kind}.{number}")).collect();
            let present: Vec<String> = self
                .listed_dynos(app)
                .into_iter()
                .filter(|dyno| dyno.process_type == *kind && dyno.one_off.is_none())
                .map(|dyno| dyno.name.clone())
                .collect();
            for name in present.iter().filter(|name| !wanted.contains(name)) {
                actions.extend(self.retire(app, name, now));
            }
            for name in wanted.into_iter().filter(|name| !present.contains(name)) {
                let added = self.add_dyno(app, name, kind, line.command.clone(), None, BTreeMap::new(), now);
                if behaviour.asleep.contains(kind) {
                    self.note(added, now, |dyno| dyno.state = DynoState::Idle);
                } else if behaviour.crashing.contains(kind) {
                    self.note(added, now, |dyno| dyno.state = DynoState::Crashed);
                } else {
                    actions.push(Action::Start { dyno: added });
                }
            }
        }
        actions
    }

    /// Returns the new dyno's id. `environment` comes on top of the config vars of this moment.
    #[expect(clippy::too_many_arguments, reason = "each is one thing that a dyno is made of")]
    pub(super) fn add_dyno(
        &mut self,
        app: Uuid,
        name: String,
        kind: &str,
        command: Vec<String>,
        one_off: Option<OneOff>,
        environment: BTreeMap<String, String>,
        now: Timestamp,
    ) -> Uuid {
        let id = self.next_id();
        let Some(found) = self.apps.iter().find(|item| item.id == app) else {
            return id;
        };
        let mut vars = self.config_vars(found);
        vars.extend(environment);
        let release = found.current_release().map_or(0, |release| release.version);
        let size = found
            .formation
            .get(kind)
            .map_or_else(|| "Basic".to_owned(), |line| line.size.clone());
        let timing = Timing {
            created_at: now,
            ..Timing::default()
        };
        self.dynos.push(Dyno {
            id,
            app,
            name,
            process_type: kind.to_owned(),
            command,
            size,
            one_off,
            stale: false,
            release,
            vars,
            state: DynoState::Starting,
            pid: None,
            crashes: 0,
            timing,
            updated_at: now,
        });
        id
    }

    pub(super) fn retire(&mut self, app: Uuid, name: &str, now: Timestamp) -> Vec<Action> {
        let preboot = self.app_of(app).is_some_and(|app| app.behaviour.preboot);
        let mut actions = Vec::new();
        let listed = self
            .dynos
            .iter_mut()
            .filter(|dyno| dyno.app == app && dyno.is_listed() && dyno.name == name);
        for dyno in listed.filter(|dyno| !dyno.is_one_off()) {
            dyno.state = DynoState::Retiring;
            dyno.timing.retired_at = Some(now);
            dyno.updated_at = now;
            actions.push(Action::Stop {
                dyno: dyno.id,
                serve_on: preboot && dyno.process_type == "web",
            });
        }
        actions
    }

    /// Returns the dynos that the API shows, without replaced ones that may still run.
    pub fn listed_dynos(&self, app: Uuid) -> Vec<&Dyno> {
        self.dynos
            .iter()
            .filter(|dyno| dyno.app == app && dyno.is_listed())
            .collect()
    }

    pub fn note(&mut self, id: Uuid, now: Timestamp, change: impl FnOnce(&mut Dyno)) {
        if let Some(dyno) = self.dynos.iter_mut().find(|dyno| dyno.id == id) {
            change(dyno);
            dyno.updated_at = now;
        }
    }

    /// Notes that a process began to run.
    pub fn started(&mut self, id: Uuid, pid: Option<u32>, now: Timestamp) {
        self.note(id, now, |dyno| {
            dyno.pid = pid;
            dyno.timing.started_at = Some(now);
            if dyno.state != DynoState::Retiring {
                dyno.state = DynoState::Up;
            }
        });
    }

    /// Notes that a process ended by itself or did not start, after this many unscaled seconds.
    pub fn exited(&mut self, id: Uuid, exit: &str, ran_seconds: f64, now: Timestamp) -> AfterExit {
        let mut after = AfterExit::Gone;
        self.note(id, now, |dyno| {
            dyno.pid = None;
            dyno.timing.exit = Some(exit.to_owned());
            if dyno.is_one_off() || dyno.state == DynoState::Retiring {
                return;
            }
            dyno.state = DynoState::Crashed;
            dyno.crashes = if ran_seconds >= PROVEN_SECONDS {
                1
            } else {
                dyno.crashes + 1
            };
            let exponent = i32::try_from(dyno.crashes).unwrap_or(i32::MAX) - 1;
            after = AfterExit::RestartAfter(2f64.powi(exponent).min(LONGEST_RESTART_DELAY));
        });
        if after == AfterExit::Gone {
            self.ended(id, exit, now);
        }
        after
    }

    pub fn ended(&mut self, id: Uuid, exit: &str, now: Timestamp) {
        self.note(id, now, |dyno| {
            dyno.pid = None;
            dyno.state = DynoState::Ended;
            dyno.timing.ended_at = Some(now);
            dyno.timing.exit = Some(exit.to_owned());
            dyno.vars.clear();
        });
    }
}

impl Dyno {
    /// Returns whether the dyno is not part of the formation.
    pub fn is_one_off(&self) -> bool {
        self.one_off.is_some()
    }

    /// Returns its command as it was asked for: of one-off dynos without the shell around it.
    pub fn shown_command(&self) -> String {
        match (&self.one_off, self.command.last()) {
            (Some(_), Some(line)) => line.clone(),
            _ => self.command.join(" "),
        }
    }

    pub(super) fn is_listed(&self) -> bool {
        !matches!(self.state, DynoState::Retiring | DynoState::Ended)
    }
}

#[cfg(test)]
mod tests;
