//! Releases: each change of vars or attachments makes one, in force only if it succeeds.

use super::Heroku;
use crate::effects::wait::{Look, Wait};
use crate::model::error::Result;
use crate::ui::Step;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use strum::Display;

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Release {
    pub version: u64,
    pub status: ReleaseStatus,
    #[serde(default)]
    pub description: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Display, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum ReleaseStatus {
    Pending,
    Succeeded,
    Failed,
    Expired,
}

impl ReleaseStatus {
    pub fn is_terminal(self) -> bool {
        self != ReleaseStatus::Pending
    }

    /// Returns true if the release will never be in force.
    pub fn has_failed(self) -> bool {
        matches!(self, ReleaseStatus::Failed | ReleaseStatus::Expired)
    }
}

impl Heroku {
    /// Returns the release with the highest number; `None` if the app never had one.
    pub async fn newest_release(&self) -> Result<Option<Release>> {
        let doing = format!("list the releases of app {}", self.app);
        let newest_first =
            |page: &[Release]| page.len() > 1 && page.windows(2).all(|pair| pair[0].version > pair[1].version);
        let releases = self
            .http
            .newest(
                &self.path("/releases"),
                "version ..; max=10, order=desc",
                newest_first,
                &doing,
            )
            .await?;
        Ok(releases.into_iter().max_by_key(|release| release.version))
    }

    /// Waits until a release after number `after` has ended, which a release phase may delay.
    pub async fn terminal_release(&self, after: u64, deadline: Duration, step: &Step) -> Result<Release> {
        let what = format!("a release of app {} after v{after} to end", self.app);
        Wait::new(
            &what,
            deadline,
            "look at the app's activity on the platform, then run the same command again",
        )
        .until(step, || async {
            Ok(match self.newest_release().await? {
                Some(release) if release.version > after && release.status.is_terminal() => Look::Ready(release),
                Some(release) => Look::NotYet(format!("release v{} {}", release.version, release.status)),
                None => Look::NotYet("no release".into()),
            })
        })
        .await
    }
}
