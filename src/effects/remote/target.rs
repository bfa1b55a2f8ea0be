//! The host to log in to, and the result of a command there, as values.

use super::key::HostKey;
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;

/// A host to log in to, the user, and the keys that the host may show.
#[derive(Clone, Debug)]
pub struct Target {
    /// The host's name in messages, for example `master`.
    pub label: String,
    pub address: String,
    pub port: u16,
    pub user: String,
    /// In OpenSSH's PEM form, without a passphrase.
    pub private_key: Secret,
    /// Any of these is accepted: there are two while a host's key is replaced.
    pub pinned: Vec<HostKey>,
}

/// The result of a remote command.
#[derive(Clone, Debug, Default)]
pub struct Output {
    pub status: i32,
    /// Name without `SIG`. `status` is then 0, so use [`Output::succeeded`].
    pub signal: Option<String>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn succeeded(&self) -> bool {
        self.status == 0 && self.signal.is_none()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Returns this output, or an error if the command failed; `what` fits after "cannot".
    pub fn expect_success(self, what: &str) -> Result<Self> {
        if self.succeeded() {
            return Ok(self);
        }
        let end = match &self.signal {
            Some(signal) => format!("it died of SIG{signal}"),
            None => format!("it ended with status {}", self.status),
        };
        let stderr = String::from_utf8_lossy(&self.stderr);
        let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
        let said = lines[lines.len().saturating_sub(6)..].join("; ");
        Err(Error::failed(what).because(if said.is_empty() { end } else { format!("{end}: {said}") }))
    }
}
