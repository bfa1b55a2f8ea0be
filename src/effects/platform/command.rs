//! A platform behind the user's own commands, which read and set vars, and restart the app.
//!
//! Secrets go to a command by stdin and come back by stdout, never by arguments. Its stderr may be
//! shown, without the values that it was given.

use super::ConfigVars;
use crate::effects::wait::{Look, Wait};
use crate::model::config::AppCommands;
use crate::model::error::{Doing, Error, Result};
use crate::model::secret;
use crate::model::secret::{Secret, Shown};
use crate::ui::Step;
use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

/// Time limit of one command. Waiting for processes repeats a command instead.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// The vars of a platform take some kilobytes.
const MOST_PRINTED: usize = 1 << 20;

/// An app behind such commands.
#[derive(Clone)]
pub struct Hook {
    app: String,
    commands: Arc<AppCommands>,
}

impl Hook {
    pub fn new(app: &str, commands: AppCommands) -> Self {
        Hook {
            app: app.into(),
            commands: Arc::new(commands),
        }
    }

    pub fn app_name(&self) -> &str {
        &self.app
    }

    pub async fn config_vars(&self) -> Result<ConfigVars> {
        let doing = || format!("read the vars of app {}", self.app);
        let printed = self
            .run("read", &self.commands.read, &BTreeMap::new())
            .await
            .doing(doing)?;
        // Masks are not recognised here: a command prints the real values.
        let reply: BTreeMap<String, Shown> = serde_json::from_slice(printed.expose().as_bytes()).map_err(|error| {
            // The parser's text could quote the output.
            Error::failed(doing())
                .because(format!(
                    "what app.commands.read printed is no JSON object (line {}, column {})",
                    error.line(),
                    error.column()
                ))
                .hint("it must print one object of names and values on stdout, and nothing else there")
        })?;
        Ok(ConfigVars::new(reply.into_iter().map(|(name, shown)| (name, shown.0))))
    }

    pub async fn set_config_vars(&self, wanted: &BTreeMap<String, Option<Secret>>) -> Result<Option<u64>> {
        let before = self.config_vars().await.map_err(Error::with_nothing_changed)?;
        if before.agrees_with(wanted) {
            return Ok(None);
        }
        let names = wanted.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let doing = || format!("set {names} of app {}", self.app);
        if let Err(error) = self.run("set", &self.commands.set, wanted).await.doing(doing) {
            // A command that failed may have changed something, so the vars are read again.
            let now = self.config_vars().await?;
            return match (now.agrees_with(wanted), now.same_as(&before, wanted.keys())) {
                (true, _) => Ok(Some(0)),
                (false, true) => Err(error.with_nothing_changed()),
                (false, false) => {
                    Err(error
                        .hint("app.commands.set failed half way: see the app's vars, then run the same command again"))
                }
            };
        }
        if self.config_vars().await?.agrees_with(wanted) {
            Ok(Some(0))
        } else {
            Err(Error::failed(doing())
                .because("app.commands.set ended well, and app.commands.read still prints other values")
                .hint("run both by hand, and then the same command again"))
        }
    }

    /// Repeats the verify command until it succeeds. Restarts first if it fails, in case an earlier
    /// run died before its restart.
    pub async fn await_processes(&self, deadline: Duration, step: &Step) -> Result<()> {
        let none = BTreeMap::new();
        if self.verified().await?.is_ok() {
            return Ok(());
        }
        if let Some(restart) = &self.commands.restart {
            step.update("restarting");
            let doing = || format!("restart app {}", self.app);
            self.run("restart", restart, &none).await.doing(doing)?;
        }
        let what = format!("the processes of app {} to run with the vars as they are set", self.app);
        let wait = Wait::new(
            &what,
            deadline,
            "run app.commands.verify by hand to see what it wants, then run the same command again",
        );
        wait.until(step, || async {
            Ok(match self.verified().await? {
                Ok(()) => Look::Ready(()),
                Err(error) => Look::NotYet(error.to_string()),
            })
        })
        .await
    }

    /// Returns the outcome of the verify command; an error if it cannot be run, which no wait mends.
    async fn verified(&self) -> Result<Result<()>> {
        let ended = self.output("verify", &self.commands.verify, &BTreeMap::new()).await;
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => return Ok(Err(error)),
        };
        let outcome = ended.success("verify", &BTreeMap::new());
        match ended.status.code() {
            Some(CANNOT_BE_RUN | NOT_FOUND) => outcome.map(|()| Ok(())),
            _ => Ok(outcome),
        }
    }

    pub fn may_stop(&self) -> Result<()> {
        match (&self.commands.stop, &self.commands.start) {
            (Some(_), Some(_)) => Ok(()),
            _ => Err(Error::usage(format!(
                "stop app {}: infra.yml names no command for it",
                self.app
            ))
            .hint("this source cannot be paused, so the app is stopped while it moves: set app.commands.stop and app.commands.start")),
        }
    }

    pub async fn stop(&self) -> Result<()> {
        self.told("stop", self.commands.stop.as_ref()).await
    }

    pub async fn start(&self) -> Result<()> {
        self.told("start", self.commands.start.as_ref()).await
    }

    async fn told(&self, name: &str, command: Option<&String>) -> Result<()> {
        self.may_stop()?;
        match command {
            Some(command) => self
                .run(name, command, &BTreeMap::new())
                .await
                .map(drop)
                .doing(|| format!("{name} app {}", self.app)),
            None => Ok(()),
        }
    }

    /// Returns the whole output. The error of a failed command has its last line on stderr.
    async fn run(&self, name: &str, command: &str, given: &BTreeMap<String, Option<Secret>>) -> Result<Secret> {
        let ended = self.output(name, command, given).await?;
        ended.success(name, given)?;
        let text = std::str::from_utf8(&ended.printed)
            .map_err(|_| Error::failed(doing(name)).because("what it printed is no text"))?;
        Ok(Secret::new(text))
    }

    async fn output(&self, name: &str, command: &str, given: &BTreeMap<String, Option<Secret>>) -> Result<Ended> {
        let doing = || doing(name);
        let mut child = tokio::process::Command::new("sh")
            .args(["-c", command])
            .env("INFRA_APP", &self.app)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .doing(doing)?;
        let stdin = child.stdin.take();
        let body: BTreeMap<&str, Option<&str>> = given
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_ref().map(Secret::expose)))
            .collect();
        let body = (!body.is_empty()).then(|| secret::json(&body).doing(doing));
        let body = body.transpose()?;
        let told = async move {
            if let (Some(mut stdin), Some(body)) = (stdin, body) {
                // A command that reads nothing ends before all is written; its own status decides.
                let _ = stdin.write_all(&body).await;
            }
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let heard = async {
            // Both are read together, so that neither pipe fills up.
            let (printed, said) = tokio::try_join!(printed(stdout, MOST_PRINTED), printed(stderr, MOST_PRINTED))?;
            Ok::<_, std::io::Error>((child.wait().await?, printed, said))
        };
        let (status, printed, said) = tokio::time::timeout(PATIENCE, async { tokio::join!(told, heard).1 })
            .await
            .map_err(|_| {
                Error::failed(doing())
                    .because(format!("it did not end within {} s", PATIENCE.as_secs()))
                    .hint("run it by hand to see what it waits for")
            })?
            .doing(doing)?;
        Ok(Ended { status, printed, said })
    }
}

/// The exit codes of a shell for a command that it finds and cannot run, or does not find.
const CANNOT_BE_RUN: i32 = 126;
const NOT_FOUND: i32 = 127;

/// A command that has ended.
struct Ended {
    status: ExitStatus,
    printed: Zeroizing<Vec<u8>>,
    said: Zeroizing<Vec<u8>>,
}

impl Ended {
    /// Returns the last line on stderr as the reason if it failed.
    fn success(&self, name: &str, given: &BTreeMap<String, Option<Secret>>) -> Result<()> {
        if self.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&self.said);
        let last = said
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default();
        Err(Error::failed(doing(name))
            .because(format!("{}: {}", self.status, without(last, given)))
            .hint("run it by hand to see why"))
    }
}

fn doing(name: &str) -> String {
    format!("run app.commands.{name}")
}

/// Reads a pipe to its end. Endless output is an error, and dropping the pipe ends the command.
async fn printed(pipe: Option<impl AsyncRead + Unpin>, most: usize) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // Full size from the start, so that growing leaves no copies of secrets. Unused pages are free.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 1));
    if let Some(pipe) = pipe {
        pipe.take(most as u64 + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() > most {
        return Err(std::io::Error::other(format!("it printed more than {most} bytes")));
    }
    Ok(bytes)
}

/// Returns a line without the values that its command was given.
fn without(line: &str, given: &BTreeMap<String, Option<Secret>>) -> String {
    let mut line = line.to_string();
    for value in given.values().flatten() {
        for part in [value.expose(), password(value.expose())] {
            if !part.is_empty() {
                line = line.replace(part, "***");
            }
        }
    }
    line
}

/// Returns the password of a URL; empty if the text is no URL.
fn password(url: &str) -> &str {
    let Some((_, rest)) = url.split_once("://") else {
        return "";
    };
    let Some((login, _)) = rest.split_once('@') else {
        return "";
    };
    login.split_once(':').map_or("", |(_, password)| password)
}

#[cfg(test)]
mod tests;
