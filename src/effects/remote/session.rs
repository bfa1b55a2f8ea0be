//! A logged-in session to one host, for commands and files, with deadlines.

use super::attempt::{Attempt, attempt};
use super::channel::{self, Connection};
use super::conversation;
use super::key::HostKey;
use super::target::{Output, Target};
use crate::model::clock::Instant;
use crate::model::error::{Doing, Error, Result};
use crate::ui::{Step, Ui};
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// Default time limit of a command.
const COMMAND: Duration = Duration::from_secs(60);
/// How often a refused login is repeated. The key may come late, but many attempts are punished.
const LOGINS: u32 = 4;

/// One TCP connection to a host with a pinned key. Clones share it; its commands run one by one.
#[derive(Clone)]
pub struct Session {
    label: Arc<str>,
    host_key: Arc<HostKey>,
    connection: Arc<Mutex<Connection>>,
}

/// A booting host restarts its sshd once or twice; more broken key exchanges are no restart.
const CUTS: u32 = 5;

impl Session {
    /// Logs in. Waits up to `deadline` for a host that does not answer yet.
    pub async fn connect(target: &Target, deadline: Duration) -> Result<Self> {
        Self::connect_watched(target, deadline, &Ui::silent().step("")).await
    }

    /// As [`Session::connect`], and shows on `step` what is seen meanwhile.
    pub async fn connect_watched(target: &Target, deadline: Duration, step: &Step) -> Result<Self> {
        let begun = Instant::now();
        let end = begun.after(deadline);
        let mut absent_pause = Duration::from_millis(100);
        let mut refused_pause = Duration::from_secs(3);
        let mut logins = 0;
        let mut cuts = 0;
        loop {
            let trying = target.clone();
            let (pause, seen) = match blocking(move || attempt(&trying, end)).await? {
                Attempt::LoggedIn(session, socket) => return Self::new(target, session, socket),
                Attempt::Wrong(error) => return Err(error),
                Attempt::Cut(error) => {
                    cuts += 1;
                    if cuts >= CUTS {
                        return Err(error);
                    }
                    (Duration::from_secs(1), "the key exchange broke".to_string())
                }
                Attempt::Absent(seen) => {
                    absent_pause = (absent_pause * 3 / 2).min(Duration::from_secs(2));
                    (absent_pause, seen)
                }
                Attempt::TurnedAway(seen) => {
                    logins += 1;
                    refused_pause = (refused_pause * 2).min(Duration::from_secs(30));
                    (refused_pause, seen)
                }
            };
            if end.remaining() <= pause || logins >= LOGINS {
                return Err(Self::unreachable(target, begun.elapsed(), logins, &seen));
            }
            step.update(format!("waiting for ssh: {seen}"));
            tokio::time::sleep(pause).await;
        }
    }

    fn new(target: &Target, session: ssh2::Session, socket: std::net::TcpStream) -> Result<Self> {
        let host_key = session
            .host_key()
            .and_then(|(blob, _)| HostKey::from_blob(blob))
            .ok_or_else(|| Error::failed(format!("read the host key of {}", target.label)))?;
        Ok(Session {
            label: target.label.as_str().into(),
            host_key: Arc::new(host_key),
            connection: Arc::new(Mutex::new(Connection {
                session,
                socket,
                broken: false,
                conversations: HashMap::new(),
            })),
        })
    }

    fn unreachable(target: &Target, waited: Duration, logins: u32, seen: &str) -> Error {
        // More logins would only lengthen the host's penalty.
        let refused = if logins >= LOGINS {
            format!(" and {logins} refusals")
        } else {
            String::new()
        };
        Error::failed(format!(
            "log in to {} as {} at {}:{}, tried for {} s{refused}; last seen: {seen}",
            target.label,
            target.user,
            target.address,
            target.port,
            waited.as_secs()
        ))
        .hint(
            "see that the instance runs and that you come from where ssh is let in: hosts.admin_cidrs in infra.yml, or where that is left out the address from which \
             `infra up` was last run (run it again if yours has changed); where it is empty, ssh has to come another way, such as Session Manager or a VPN",
        )
    }

    /// Returns the host's name in messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns the pinned key that the host showed.
    pub fn host_key(&self) -> &HostKey {
        &self.host_key
    }

    /// Runs one command, within a minute. Secrets go through `stdin`, never into `command`.
    pub async fn run(&self, command: &str, stdin: Option<&[u8]>) -> Result<Output> {
        self.run_within(command, stdin, COMMAND, |_| ()).await
    }

    /// As [`Session::run`] with another deadline; `on_line` gets each line of output at once.
    pub async fn run_within(
        &self,
        command: &str,
        stdin: Option<&[u8]>,
        deadline: Duration,
        on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<Output> {
        let input = Zeroizing::new(stdin.unwrap_or_default().to_vec());
        self.exchange(command, Cursor::new(input), deadline, on_line).await
    }

    /// As [`Session::run_within`], with input of any length, which is never in memory as a whole.
    pub async fn run_reading(
        &self,
        command: &str,
        stdin: impl Read + Send + 'static,
        deadline: Duration,
    ) -> Result<Output> {
        self.exchange(command, stdin, deadline, |_| ()).await
    }

    async fn exchange(
        &self,
        command: &str,
        mut stdin: impl Read + Send + 'static,
        deadline: Duration,
        mut on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<Output> {
        // Commands are safe to show, since secrets go through standard input.
        tracing::info!("{}: {command}", self.label);
        let connection = self.connection.clone();
        let end = Instant::now().after(deadline);
        let asked = command.to_string();
        blocking(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            channel::run(&mut connection, &asked, &mut stdin, end, &mut on_line)
        })
        .await?
        .doing(|| format!("run `{}` on {}", shorten(command), self.label))
    }

    /// Sends one line to `command`, which stays open: one round trip. The line `= STATUS` ends an
    /// answer. A command that has ended is restarted, so lines must be repeatable.
    pub async fn converse(&self, command: &str, line: &str, deadline: Duration) -> Result<Output> {
        let connection = self.connection.clone();
        let end = Instant::now().after(deadline);
        let (asked, said) = (command.to_string(), line.to_string());
        blocking(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            conversation::ask(&mut connection, &asked, &said, end)
        })
        .await?
        .doing(|| format!("say `{}` to `{}` on {}", shorten(line), shorten(command), self.label))
    }

    /// Writes `bytes` to `path` through a temporary file beside it: whole or not at all, and never
    /// readable by others. `owner` is `user:group`, `mode` is octal.
    pub async fn upload(&self, path: &str, mode: u32, owner: &str, bytes: &[u8]) -> Result<()> {
        let quoted = quote(path);
        let command = format!(
            "sudo -n sh -c 'set -eu; umask 077; t=$(mktemp \"$1.XXXXXX\"); trap \"rm -f \\\"$t\\\"\" EXIT; chown \"$2\" \"$t\"; chmod \"$3\" \"$t\"; \
             cat >\"$t\"; sync \"$t\"; mv -f \"$t\" \"$1\"; trap - EXIT; sync \"$(dirname \"$1\")\"' sh {quoted} {} {mode:04o}",
            quote(owner)
        );
        self.run(&command, Some(bytes))
            .await?
            .expect_success(&format!("write {path} on {}", self.label))
            .map(drop)
    }

    /// Returns the content of a file, read as root.
    pub async fn download(&self, path: &str) -> Result<Vec<u8>> {
        let output = self.run(&format!("sudo -n cat {}", quote(path)), None).await?;
        Ok(output.expect_success(&format!("read {path} on {}", self.label))?.stdout)
    }
}

/// Quotes any text as one word for a POSIX shell.
pub fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn shorten(command: &str) -> String {
    let line = command.lines().next().unwrap_or_default();
    match line.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_string(),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .doing(|| "finish work over ssh".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_died_of_a_signal_has_not_succeeded() {
        let output = Output {
            signal: Some("KILL".into()),
            ..Output::default()
        };
        let error = output.expect_success("count").unwrap_err();
        assert_eq!(error.chain(), ["count", "it died of SIGKILL"]);
    }

    #[test]
    fn a_failure_ends_with_the_last_lines_of_the_command() {
        let output = Output {
            status: 3,
            stderr: b"one\n\ntwo\n".to_vec(),
            ..Output::default()
        };
        let error = output.expect_success("count").unwrap_err();
        assert_eq!(error.chain(), ["count", "it ended with status 3: one; two"]);
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
