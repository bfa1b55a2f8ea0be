//! The app's processes: how many should run, which do, and if old ones outlive a change.

use super::{Heroku, on_off};
use crate::effects::wait::{Look, Wait};
use crate::model::error::{Error, Result};
use crate::ui::Step;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Quantity by process type.
pub type Formation = BTreeMap<String, u64>;

/// Process types of which every process had crashed before a change. They are not waited for.
pub type Crashed = BTreeSet<String>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dyno {
    /// A name such as `web.1`.
    pub name: String,
    /// The process type; `run` for one-off processes, which a change of config does not restart.
    pub kind: String,
    /// A state such as `starting`, `up`, `crashed`.
    pub state: String,
    pub release: u64,
}

impl Dyno {
    pub fn is_one_off(&self) -> bool {
        matches!(self.kind.as_str(), "run" | "scheduler" | "release")
    }

    /// Returns true if it runs nothing until somebody needs it. It starts with the vars of then.
    fn is_asleep(&self) -> bool {
        self.state == "idle"
    }

    fn has_crashed(&self) -> bool {
        self.state == "crashed"
    }
}

/// Counts what a wait for a release still misses.
#[derive(Debug, Default, PartialEq, Eq)]
struct Missing {
    /// How many processes of a type are not up yet.
    to_come: BTreeMap<String, u64>,
    /// Names of processes that run an older release.
    old: Vec<String>,
    /// Types with a process that crashed with this release.
    crashed: BTreeSet<String>,
}

impl Missing {
    fn of(dynos: &[Dyno], formation: &Formation, release: u64, crashed: &Crashed) -> Self {
        let waited_for = || {
            dynos
                .iter()
                .filter(|dyno| !crashed.contains(&dyno.kind) && !dyno.is_one_off())
        };
        let fresh = |kind: &str| {
            let fresh = |dyno: &&Dyno| dyno.is_asleep() || (dyno.release >= release && dyno.state == "up");
            waited_for().filter(|dyno| dyno.kind == kind).filter(fresh).count() as u64
        };
        let to_come = formation
            .iter()
            .filter(|(kind, _)| !crashed.contains(*kind))
            .map(|(kind, quantity)| (kind.clone(), quantity.saturating_sub(fresh(kind))))
            .filter(|(_, missing)| *missing > 0);
        let old = waited_for().filter(|dyno| dyno.release < release && !dyno.is_asleep());
        let broken = waited_for().filter(|dyno| dyno.release >= release && dyno.has_crashed());
        Missing {
            to_come: to_come.collect(),
            old: old.map(|dyno| dyno.name.clone()).collect(),
            crashed: broken.map(|dyno| dyno.kind.clone()).collect(),
        }
    }

    fn is_nothing(&self) -> bool {
        self.to_come.is_empty() && self.old.is_empty()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |(kind, count): (&String, &u64)| {
            let crashed = if self.crashed.contains(kind) {
                ", which crashed with it"
            } else {
                ""
            };
            format!("{count} {kind} to come up{crashed}")
        };
        let mut parts: Vec<String> = self.to_come.iter().map(named).collect();
        if !self.old.is_empty() {
            parts.push(format!("{} with an older release", self.old.join(", ")));
        }
        f.write_str(&parts.join("; "))
    }
}

#[derive(Deserialize)]
struct DynoReply {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    state: String,
    release: ReleaseReference,
}

#[derive(Deserialize)]
struct ReleaseReference {
    version: u64,
}

#[derive(Deserialize)]
struct FormationReply {
    #[serde(rename = "type")]
    kind: String,
    quantity: u64,
}

impl Heroku {
    pub async fn formation(&self) -> Result<Formation> {
        let doing = format!("read the formation of app {}", self.app);
        let replies: Vec<FormationReply> = self.http.list(&self.path("/formation"), &doing).await?;
        Ok(replies.into_iter().map(|reply| (reply.kind, reply.quantity)).collect())
    }

    /// Sets how many processes of each type there should be.
    pub async fn scale(&self, wanted: &Formation) -> Result<()> {
        let doing = format!("scale app {}", self.app);
        let updates: Vec<Value> = wanted
            .iter()
            .map(|(kind, quantity)| serde_json::json!({ "type": kind, "quantity": quantity }))
            .collect();
        let body = serde_json::json!({ "updates": updates });
        let is_made = || async {
            let there = self.formation().await?;
            Ok(wanted.iter().all(|(kind, quantity)| there.get(kind) == Some(quantity)))
        };
        let path = self.path("/formation");
        self.http.make("PATCH", &path, Some(body), &doing, is_made).await
    }

    /// Returns the shown processes. One that got SIGTERM may live 30 s more unseen.
    pub async fn dynos(&self) -> Result<Vec<Dyno>> {
        let doing = format!("list the processes of app {}", self.app);
        let replies: Vec<DynoReply> = self.http.list(&self.path("/dynos"), &doing).await?;
        Ok(replies
            .into_iter()
            .map(|reply| Dyno {
                name: reply.name,
                kind: reply.kind,
                state: reply.state,
                release: reply.release.version,
            })
            .collect())
    }

    /// Returns the process types of which every process has crashed.
    pub async fn crashed(&self) -> Result<Crashed> {
        let dynos = self.dynos().await?;
        let (broken, others): (Vec<&Dyno>, Vec<&Dyno>) = dynos
            .iter()
            .filter(|dyno| !dyno.is_one_off())
            .partition(|dyno| dyno.has_crashed());
        let has_others = |kind: &str| others.iter().any(|dyno| dyno.kind == kind);
        let broken = broken.into_iter().filter(|dyno| !has_others(&dyno.kind));
        Ok(broken.map(|dyno| dyno.kind.clone()).collect())
    }

    /// Waits until all wanted processes run this release or a later one, and no older one is shown.
    /// Does not wait for types in `crashed`, nor for processes that sleep.
    pub async fn await_processes(
        &self,
        release: u64,
        crashed: &Crashed,
        deadline: Duration,
        step: &Step,
    ) -> Result<()> {
        let what = format!("the processes of app {} to run release v{release}", self.app);
        let wait = Wait::new(
            &what,
            deadline,
            "see the app's logs on the platform, then run the same command again",
        );
        wait.until(step, || async {
            let (dynos, formation, newest) = tokio::try_join!(self.dynos(), self.formation(), self.newest_release())?;
            let missing = Missing::of(&dynos, &formation, release, crashed);
            if missing.is_nothing() {
                return Ok(Look::Ready(()));
            }
            // The platform starts nothing with a release that failed.
            if let Some(newest) = newest.filter(|newest| newest.version == release && newest.status.has_failed()) {
                let doing = format!("wait for {what}: that release {}", newest.status);
                return Err(Error::failed(doing)
                    .because(missing.to_string())
                    .hint("see the release's output on the platform, mend it there, then run the same command again"));
            }
            Ok(Look::NotYet(format!("v{release}: {missing}")))
        })
        .await
    }

    /// Returns true if old web processes serve on for minutes, unseen in the list of processes.
    pub async fn preboot(&self) -> Result<bool> {
        #[derive(Deserialize)]
        struct Feature {
            enabled: bool,
        }
        let doing = format!("read whether app {} has preboot", self.app);
        let feature: Option<Feature> = self.http.find(&self.path("/features/preboot"), &doing).await?;
        Ok(feature.is_some_and(|feature| feature.enabled))
    }

    pub async fn set_preboot(&self, on: bool) -> Result<()> {
        let doing = format!("turn preboot {} for app {}", on_off(on), self.app);
        let (path, body) = (self.path("/features/preboot"), serde_json::json!({ "enabled": on }));
        let is_made = || async { Ok(self.preboot().await? == on) };
        self.http.make("PATCH", &path, Some(body), &doing, is_made).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dyno(name: &str, state: &str, release: u64) -> Dyno {
        Dyno {
            name: name.into(),
            kind: name.split('.').next().unwrap_or_default().into(),
            state: state.into(),
            release,
        }
    }

    fn missing(dynos: &[Dyno], crashed: &[&str]) -> String {
        let formation = dynos.iter().fold(Formation::new(), |mut formation, dyno| {
            *formation.entry(dyno.kind.clone()).or_default() += 1;
            formation
        });
        let crashed = crashed.iter().map(ToString::to_string).collect();
        Missing::of(dynos, &formation, 7, &crashed).to_string()
    }

    #[test]
    fn a_process_that_sleeps_counts_as_fresh_whatever_release_it_had() {
        assert_eq!(missing(&[dyno("web.1", "up", 7), dyno("worker.1", "idle", 3)], &[]), "");
        assert_eq!(
            missing(&[dyno("web.1", "up", 6)], &[]),
            "1 web to come up; web.1 with an older release"
        );
    }

    #[test]
    fn a_type_that_had_crashed_before_is_not_waited_for_and_one_that_crashes_now_is() {
        let dynos = [dyno("web.1", "up", 7), dyno("worker.1", "crashed", 7)];
        assert_eq!(missing(&dynos, &["worker"]), "");
        assert_eq!(missing(&dynos, &[]), "1 worker to come up, which crashed with it");
        // Nor is it asked to run the new release.
        let older = [dyno("web.1", "up", 7), dyno("worker.1", "crashed", 6)];
        assert_eq!(missing(&older, &["worker"]), "");
    }
}
