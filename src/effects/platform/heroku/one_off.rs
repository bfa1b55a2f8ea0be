//! One-off processes: each runs one command with its own environment, beside the formation.

use super::http::{Changed, not_taken};
use super::{Dyno, Heroku};
use crate::effects::wait::{Look, Wait};
use crate::model::error::{Doing, Error, Result};
use crate::model::secret;
use crate::model::secret::Secret;
use crate::ui::Step;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The platform's log says this of a process that has ended, before its exit status.
pub const ENDED: &str = "exited with status ";

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

    /// Returns log lines of a process that has ended, oldest first. Waits for the line that says how
    /// it ended, since lines come late; without it after `deadline`. Fails at once if the platform
    /// refuses to give logs.
    pub async fn log_of_ended(&self, name: &str, deadline: Duration, step: &Step) -> Result<Vec<String>> {
        let last = Mutex::new(Vec::new());
        let what = format!("the log to say how {name} ended");
        let wait = Wait::new(&what, deadline, "");
        let waited = wait
            .until(step, || async {
                let lines = self.log_of(name).await?;
                let seen = format!("{} lines of its log", lines.len());
                let is_whole = lines.iter().any(|line| line.contains(ENDED));
                *last.lock().unwrap_or_else(PoisonError::into_inner) = lines;
                Ok(if is_whole { Look::Ready(()) } else { Look::NotYet(seen) })
            })
            .await;
        match waited {
            Err(error) if error.nothing_changed() => return Err(error),
            Err(error) => tracing::debug!("{error}"),
            Ok(()) => {}
        }
        Ok(last.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the log lines that there are of a process; an error if the platform refuses to give
    /// logs.
    pub(super) async fn log_of(&self, name: &str) -> Result<Vec<String>> {
        let path = self.path("/log-sessions");
        let some = serde_json::json!({ "dyno": name, "lines": 100, "tail": false });
        let session = match self.http.change("POST", &path, Some(some)).await {
            Changed::Done(session) => session,
            // Logs of apps of another kind cannot be asked for a number of lines.
            Changed::Refused(_) => match self
                .http
                .change("POST", &path, Some(serde_json::json!({ "dyno": name })))
                .await
            {
                Changed::Done(session) => session,
                Changed::Refused(refusal) => {
                    let error = refusal.error(&format!("read the log of {name}"));
                    return Err(error.with_nothing_changed());
                }
                Changed::Unclear(_) => return Ok(Vec::new()),
            },
            Changed::Unclear(_) => return Ok(Vec::new()),
        };
        let Some(url) = session["logplex_url"].as_str() else {
            return Ok(Vec::new());
        };
        let text = self.http.text_at(url, |text| text.contains(ENDED)).await;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        Ok(lines.map(str::to_string).collect())
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
        let lines = log(&stand, &name, 20).await;
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        assert!(has("out of paper") && has("exited with status 3"), "{lines:?}");
    }

    async fn log(stand: &Stand, name: &str, seconds: u64) -> Vec<String> {
        let step = crate::ui::Ui::silent().step("test");
        let deadline = Duration::from_secs(seconds);
        stand.heroku.log_of_ended(name, deadline, &step).await.unwrap()
    }

    #[tokio::test]
    async fn a_log_that_the_platform_refuses_is_not_waited_for() {
        let stand = Stand::new().await;
        let refused = json!({"status": 403, "count": 100, "method": "POST", "path": "/log-sessions"});
        let knobs = json!({"boot_seconds": 0, "api_failures": refused});
        stand.admin("apps/demo/behaviour", knobs).await;
        let step = crate::ui::Ui::silent().step("test");
        let begun = std::time::Instant::now();
        let log = stand.heroku.log_of_ended("run.1", Duration::from_secs(60), &step);
        let error = log.await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert!(error.to_string().contains("read the log of run.1"), "{error}");
    }

    #[tokio::test]
    async fn a_log_that_comes_late_and_never_ends_still_says_how_a_one_off_ended() {
        for logs in [
            json!({"late_seconds": 3}),
            json!({"endless": true}),
            json!({"late_seconds": 3, "endless": true}),
        ] {
            let stand = Stand::new().await;
            let knobs = json!({"boot_seconds": 0, "logs": logs});
            stand.admin("apps/demo/behaviour", knobs).await;
            let name = stand
                .heroku
                .run_one_off("echo out of paper; exit 3", &BTreeMap::new(), Duration::from_secs(60))
                .await
                .unwrap();
            let lines = log(&stand, &name, 30).await;
            assert!(lines.iter().any(|line| line.contains("status 3")), "{logs}: {lines:?}");
        }
    }

    #[tokio::test]
    async fn a_log_that_does_not_come_in_time_is_given_as_far_as_it_came() {
        let stand = Stand::new().await;
        let knobs = json!({"boot_seconds": 0, "logs": {"late_seconds": 600}});
        stand.admin("apps/demo/behaviour", knobs).await;
        let name = stand
            .heroku
            .run_one_off("echo out of paper", &BTreeMap::new(), Duration::from_secs(60))
            .await
            .unwrap();
        assert_eq!(log(&stand, &name, 1).await, Vec::<String>::new());
    }
}
