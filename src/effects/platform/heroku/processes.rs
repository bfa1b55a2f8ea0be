//! The app's processes: how many should run, which do, and if old ones outlive a change.

use super::http::{Changed, not_taken, refused};
use super::{Heroku, on_off};
use crate::effects::wait::{Look, Wait};
use crate::model::error::Result;
use crate::ui::Step;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Quantity by process type.
pub type Formation = BTreeMap<String, u64>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dyno {
    /// A name such as `web.1`.
    pub name: String,
    /// The process type; `run` for one-off processes, which a change of config does not restart.
    pub kind: String,
    /// A state such as `starting`, `up`, `crashed`.
    pub state: String,
    /// The number of the release that it runs.
    pub release: u64,
}

impl Dyno {
    pub fn is_one_off(&self) -> bool {
        matches!(self.kind.as_str(), "run" | "scheduler" | "release")
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
        let mut lost = None;
        for _ in 0..3 {
            let updates: Vec<Value> = wanted
                .iter()
                .map(|(kind, quantity)| serde_json::json!({ "type": kind, "quantity": quantity }))
                .collect();
            let body = serde_json::json!({ "updates": updates });
            match self.http.change("PATCH", &self.path("/formation"), Some(body)).await {
                Changed::Done(_) => return Ok(()),
                Changed::Refused(refusal) => return Err(refused(&refusal, &doing, lost)),
                Changed::Unclear(cause) => {
                    lost = Some(cause);
                    let there = self.formation().await?;
                    if wanted.iter().all(|(kind, quantity)| there.get(kind) == Some(quantity)) {
                        return Ok(());
                    }
                }
            }
        }
        Err(not_taken(&doing, lost))
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

    /// Waits until all wanted processes run this release or a later one, and no older one is shown.
    pub async fn await_processes(&self, release: u64, deadline: Duration, step: &Step) -> Result<()> {
        let what = format!("the processes of app {} to run release v{release}", self.app);
        let wait = Wait::new(
            &what,
            deadline,
            "see the app's logs on the platform, then run the same command again",
        );
        wait.until(step, || async {
            let (dynos, formation) = tokio::try_join!(self.dynos(), self.formation())?;
            let running = |kind: &str| {
                dynos
                    .iter()
                    .filter(|dyno| dyno.kind == kind && dyno.release >= release && dyno.state == "up")
                    .count() as u64
            };
            let old = dynos
                .iter()
                .filter(|dyno| !dyno.is_one_off() && dyno.release < release)
                .count();
            let missing: u64 = formation
                .iter()
                .map(|(kind, quantity)| quantity.saturating_sub(running(kind)))
                .fold(0, u64::saturating_add);
            Ok(if old == 0 && missing == 0 {
                Look::Ready(())
            } else {
                Look::NotYet(format!("v{release}: {missing} processes to come up, {old} old ones"))
            })
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
        let mut lost = None;
        for _ in 0..3 {
            let body = serde_json::json!({ "enabled": on });
            match self
                .http
                .change("PATCH", &self.path("/features/preboot"), Some(body))
                .await
            {
                Changed::Done(_) => return Ok(()),
                Changed::Refused(refusal) => return Err(refused(&refusal, &doing, lost)),
                Changed::Unclear(_) if self.preboot().await? == on => return Ok(()),
                Changed::Unclear(cause) => lost = Some(cause),
            }
        }
        Err(not_taken(&doing, lost))
    }
}
