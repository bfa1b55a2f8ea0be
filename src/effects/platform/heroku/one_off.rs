//! One-off processes: each runs one command with its own environment, beside the formation.

use super::http::{Changed, not_taken};
use super::{Dyno, Heroku};
use crate::model::error::{Doing, Error, Result};
use crate::model::secret;
use crate::model::secret::Secret;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The body of the request.
#[derive(Serialize)]
struct Process<'a> {
    command: &'a str,
    env: BTreeMap<&'a str, &'a str>,
    attach: bool,
    #[serde(rename = "type")]
    kind: &'a str,
    time_to_live: u64,
}

impl Heroku {
    /// Starts a one-off with these vars over the app's, for `lifetime` at most. Returns its name.
    pub async fn run_one_off(
        &self,
        command: &str,
        environment: &BTreeMap<String, Secret>,
        lifetime: Duration,
    ) -> Result<String> {
        #[derive(Deserialize)]
        struct Started {
            name: String,
        }
        let doing = format!("start a one-off process of app {}", self.app);
        let before = self.one_offs().await?;
        let mut lost = None;
        for _ in 0..3 {
            let body = secret::json(&Process {
                command,
                env: environment
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.expose()))
                    .collect(),
                attach: false,
                kind: "run",
                time_to_live: lifetime.as_secs(),
            })
            .doing(|| doing.clone())?;
            match self.http.change_secretly("POST", &self.path("/dynos"), body).await {
                Changed::Done(reply) => {
                    return serde_json::from_value::<Started>(reply)
                        .map(|started| started.name)
                        .map_err(|_| Error::failed(format!("{doing}: the platform does not say its name")));
                }
                Changed::Refused(refusal) => return Err(refusal.error(&doing)),
                Changed::Unclear(cause) => {
                    lost = Some(cause);
                    // It may run all the same; then it is the new one in the list.
                    if let Some(name) = self.one_offs().await?.difference(&before).next() {
                        return Ok(name.clone());
                    }
                }
            }
        }
        Err(not_taken(&doing, lost))
    }

    /// Returns the state of one process; `None` once the platform does not show it any more.
    pub async fn dyno_state(&self, name: &str) -> Result<Option<String>> {
        #[derive(Deserialize)]
        struct Reply {
            state: String,
        }
        let doing = format!("look after {name} of app {}", self.app);
        let reply: Option<Reply> = self.http.find(&self.path(&format!("/dynos/{name}")), &doing).await?;
        Ok(reply.map(|reply| reply.state))
    }

    /// Ends a process. Does nothing if it is gone already.
    pub async fn stop_dyno(&self, name: &str) -> Result<()> {
        let doing = format!("stop {name} of app {}", self.app);
        let path = self.path(&format!("/dynos/{name}/actions/stop"));
        let mut lost = None;
        for _ in 0..3 {
            match self.http.change("POST", &path, None).await {
                Changed::Done(_) => return Ok(()),
                Changed::Refused(refusal) if refusal.status.as_u16() == 404 => return Ok(()),
                Changed::Refused(refusal) => return Err(refusal.error(&doing)),
                Changed::Unclear(cause) => lost = Some(cause),
            }
        }
        Err(not_taken(&doing, lost))
    }

    /// Returns log lines of a process to show, oldest first; empty if the platform gives none.
    pub async fn log_of(&self, name: &str) -> Vec<String> {
        let body = serde_json::json!({ "dyno": name, "lines": 100, "tail": false });
        let Changed::Done(session) = self.http.change("POST", &self.path("/log-sessions"), Some(body)).await else {
            return Vec::new();
        };
        match session["logplex_url"].as_str() {
            Some(url) => self.http.text_at(url).await.lines().map(str::to_string).collect(),
            None => Vec::new(),
        }
    }

    async fn one_offs(&self) -> Result<BTreeSet<String>> {
        let dynos = self.dynos().await?;
        Ok(dynos
            .into_iter()
            .filter(Dyno::is_one_off)
            .map(|dyno| dyno.name)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Stand;
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn a_one_off_has_its_own_environment_and_is_started_once_also_when_the_answer_is_lost() {
        let stand = Stand::new().await;
        let folder = tempfile::tempdir().unwrap();
        let environment = BTreeMap::from([
            ("COLOUR".to_string(), Secret::new("green")),
            ("FOLDER".to_string(), Secret::new(folder.path().display().to_string())),
        ]);
        stand
            .admin(
                "apps/demo/behaviour",
                json!({"boot_seconds": 0, "drop_after_commit": 1}),
            )
            .await;
        let command = "echo $COLOUR >>$FOLDER/seen; sleep 600";
        let name = stand
            .heroku
            .run_one_off(command, &environment, Duration::from_secs(600))
            .await
            .unwrap();
        let begun = std::time::Instant::now();
        let seen = || std::fs::read_to_string(folder.path().join("seen")).unwrap_or_default();
        while seen().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(seen(), "green\n");
        assert!(stand.heroku.dyno_state(&name).await.unwrap().is_some());
        stand.heroku.stop_dyno(&name).await.unwrap();
        while stand.heroku.dyno_state(&name).await.unwrap().is_some() {
            assert!(begun.elapsed() < Duration::from_secs(40));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stand.heroku.stop_dyno(&name).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_one_off_printed_and_how_it_ended_can_be_read() {
        let stand = Stand::new().await;
        stand.admin("apps/demo/behaviour", json!({"boot_seconds": 0})).await;
        let name = stand
            .heroku
            .run_one_off("echo out of paper; exit 3", &BTreeMap::new(), Duration::from_secs(60))
            .await
            .unwrap();
        let begun = std::time::Instant::now();
        loop {
            let lines = stand.heroku.log_of(&name).await;
            let has = |text: &str| lines.iter().any(|line| line.contains(text));
            if has("out of paper") && has("exited with status 3") {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{lines:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
