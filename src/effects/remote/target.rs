//! Whom to log in to, and what a command there leaves behind, as values.

use super::key::HostKey;
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;

/// Whom to log in to, as whom, and which keys the host may show.
#[derive(Clone, Debug)]
pub struct Target {
    /// What messages call the host, for example `master`.
    pub label: String,
    pub address: String,
    pub port: u16,
    pub user: String,
    /// OpenSSH's PEM, without a passphrase.
    pub private_key: Secret,
    /// Any of these is accepted: two while a host's key is being exchanged.
    pub pinned: Vec<HostKey>,
}

/// What a remote command left behind.
#[derive(Clone, Debug, Default)]
pub struct Output {
    pub status: i32,
    /// Name without `SIG`. A command that died of a signal has a `status` of 0, so ask [`Output::succeeded`].
    pub signal: Option<String>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn succeeded(&self) -> bool {
        self.status == 0 && self.signal.is_none()
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// This output, or an error where the command failed; `what` fits after "failed to".
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
