//! The role of a host while the app is waiting: one command each, over a session that is already there. What they do stands in `infra-role` on the host.
//!
//! The role is written into the engine's settings file and synced to disk before the running engine is told, so that no restart brings an old role back.
//! Whether a role may change is not decided here: the gate is the cutover's. Every step may be repeated.

use super::settings::Door;
use crate::error::{Error, Result};
use crate::fault;
use crate::remote::Session;
use std::time::Duration;

/// A host that does not answer within this is not answering.
const PATIENCE: Duration = Duration::from_secs(20);

/// The role of a host, as its file says and as it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// `follows-source`, `follows-master` or `master`.
    pub file: String,
    /// Redis's own word: `master` or `slave`.
    pub running: String,
    pub replication_id: String,
    /// The running engine's replication offset, bytes.
    pub offset: u64,
}

impl Observed {
    /// A master in its file and running.
    pub fn is_master(&self) -> bool {
        self.file == "master" && self.running == "master"
    }
}

pub async fn observe(session: &Session) -> Result<Observed> {
    ask(session, "show", "ask for the role of").await
}

/// Writes the settings of a master beside those in force. Changes nothing that runs; makes [`promote`] short.
pub async fn prepare_promotion(session: &Session) -> Result<Observed> {
    ask(session, "prepare", "prepare the promotion of").await
}

/// From here on the host follows nobody, also after a restart.
pub async fn promote(session: &Session) -> Result<Observed> {
    let observed = ask(session, "promote", "promote").await?;
    if observed.is_master() {
        return Ok(observed);
    }
    Err(Error::failed(format!(
        "promote {}: its file says {} and it runs as {}",
        session.label(),
        observed.file,
        observed.running
    )))
}

/// The host follows again whom it followed before its promotion. **What was written to it since is gone**: the caller has to know that nothing was.
pub async fn follow_source(session: &Session) -> Result<Observed> {
    let observed = ask(session, "follow", "make follow its source again").await?;
    if observed.file.starts_with("follows-") && observed.running == "slave" {
        return Ok(observed);
    }
    Err(Error::failed(format!(
        "make {} follow its source again: its file says {} and it runs as {}",
        session.label(),
        observed.file,
        observed.running
    )))
}

/// Lets the app log in, or not; in the file first. Closing also ends the app's connections.
pub async fn set_door(session: &Session, door: Door) -> Result<()> {
    let (word, doing) = match door {
        Door::Open => ("open", "let the app log in to"),
        Door::Closed => ("closed", "keep the app out of"),
    };
    let text = run(session, &format!("door {word}"), doing).await?;
    if text.trim() == format!("door {word}") {
        return Ok(());
    }
    Err(Error::failed(format!(
        "{doing} {}: it answers {:?}",
        session.label(),
        text.trim()
    )))
}

async fn ask(session: &Session, action: &str, doing: &str) -> Result<Observed> {
    let text = run(session, action, doing).await?;
    parse(&text).ok_or_else(|| Error::failed(format!("{doing} {}: it answers {:?}", session.label(), text.trim())))
}

/// One line to the host's role script, which stays open on the session: a single round trip once it has been spoken to.
async fn run(session: &Session, action: &str, doing: &str) -> Result<String> {
    let point = |when: &str| {
        if action != "show" {
            fault::point(format_args!("{when} role {action} on {}", session.label()));
        }
    };
    point("before");
    let answer = session
        .converse("sudo -n /usr/local/sbin/infra-role serve", action, PATIENCE)
        .await;
    point("after");
    let output = answer?.expect_success(&format!("{doing} {}", session.label()))?;
    Ok(output.text())
}

fn parse(text: &str) -> Option<Observed> {
    let mut observed = Observed::default();
    for line in text.lines() {
        match line.split_once(' ')? {
            ("file", role) => observed.file = role.into(),
            ("running", role) => observed.running = role.into(),
            ("replication-id", id) => observed.replication_id = id.into(),
            ("offset", offset) => observed.offset = offset.parse().ok()?,
            _ => return None,
        }
    }
    (!observed.file.is_empty() && !observed.running.is_empty()).then_some(observed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_host_says_harms() {
        let answer = "file master\nrunning master\nreplication-id ab\noffset 42\n";
        crate::garbage::text(&[answer], &["file ", "offset "], |input| drop(parse(input)));
    }

    #[test]
    fn an_answer_is_a_role_or_none() {
        let observed = parse("file master\nrunning master\nreplication-id ab\noffset 42\n").unwrap();
        assert!(observed.is_master());
        assert_eq!(observed.offset, 42);
        assert!(!parse("file master\nrunning slave\noffset 1\n").unwrap().is_master());
        assert_eq!(parse("file master\n"), None);
        assert_eq!(parse("what?\n"), None);
    }
}
