//! The role of a host while the app is waiting: one command each, over a session that is already there. What they do stands in `infra-role` on the host.
//!
//! The role is written into the engine's settings file and synced to disk before the running engine is told, so that no restart brings an old role back.
//! Whether a role may change is not decided here: the gate is the cutover's. Every step may be repeated.

use super::settings::AppAccess;
use crate::effects::fault;
use crate::effects::remote::Session;
use crate::model::error::{Error, Kind, Result};
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
    ask(session, &Action::plain("show"), "ask for the role of").await
}

/// Writes the settings of a master beside those in force. Changes nothing that runs; makes [`promote`] short.
pub async fn prepare_promotion(session: &Session, epoch: Option<u64>) -> Result<Observed> {
    ask(session, &Action::under("prepare", epoch), "prepare the promotion of").await
}

/// Has the host refuse whatever is sent under an older lock from here on. Hosts whose script is older than epochs refuse nobody.
pub async fn raise_epoch(session: &Session, epoch: u64) -> Result<()> {
    let action = Action::under("epoch", Some(epoch));
    match run(session, &action, "tell the epoch of the lock to").await {
        Err(error) if !said(&error, "unknown action") => Err(error),
        _ => Ok(()),
    }
}

/// From here on the host follows nobody, also after a restart.
pub async fn promote(session: &Session, epoch: Option<u64>) -> Result<Observed> {
    let observed = ask(session, &Action::under("promote", epoch), "promote").await?;
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

/// Returns whether the host's append-only log is in force: not waiting for the rewrite that follows a full copy. A host
/// whose script is older than this question is taken for one whose log is not.
pub async fn log_is_in_force(session: &Session) -> Result<bool> {
    match run(session, &Action::plain("log"), "ask for the append-only log of").await {
        Ok(answer) => Ok(answer.trim() == "log in-force"),
        Err(error) if said(&error, "unknown action") => Ok(false),
        Err(error) => Err(error),
    }
}

/// The host follows again whom it followed before its promotion. **What was written to it since is gone**: the caller has to know that nothing was.
pub async fn follow_source(session: &Session, epoch: Option<u64>) -> Result<Observed> {
    let action = Action::under("follow", epoch);
    let observed = ask(session, &action, "make follow its source again").await?;
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
pub async fn set_app_access(session: &Session, access: AppAccess, epoch: Option<u64>) -> Result<()> {
    let (word, doing) = match access {
        AppAccess::Open => ("open", "let the app log in to"),
        AppAccess::Closed => ("closed", "keep the app out of"),
    };
    let action = |epoch| Action {
        name: "door",
        argument: Some(word),
        epoch,
    };
    let text = match run(session, &action(epoch), doing).await {
        // A script that knows no epochs takes the number for a part of the word, and has done nothing.
        Err(error) if epoch.is_some() && said(&error, "door open or door closed") => {
            run(session, &action(None), doing).await?
        }
        answer => answer?,
    };
    if text.trim() == format!("door {word}") {
        return Ok(());
    }
    Err(Error::failed(format!(
        "{doing} {}: it answers {:?}",
        session.label(),
        text.trim()
    )))
}

/// One line for the host's role script.
struct Action {
    name: &'static str,
    argument: Option<&'static str>,
    /// The epoch of the lock under which it is sent. The host refuses it once it has seen a higher one.
    epoch: Option<u64>,
}

impl Action {
    fn plain(name: &'static str) -> Action {
        Action::under(name, None)
    }

    fn under(name: &'static str, epoch: Option<u64>) -> Action {
        Action {
            name,
            argument: None,
            epoch,
        }
    }

    /// Only the actions that change something are fault points.
    fn changes(&self) -> bool {
        !matches!(self.name, "show" | "log" | "epoch")
    }

    /// The name that a fault point has for it.
    fn words(&self) -> String {
        match self.argument {
            Some(argument) => format!("{} {argument}", self.name),
            None => self.name.into(),
        }
    }

    fn line(&self) -> String {
        match self.epoch {
            Some(epoch) => format!("{} {} {epoch}", self.name, self.argument.unwrap_or("-")),
            None => self.words(),
        }
    }
}

fn said(error: &Error, words: &str) -> bool {
    error.chain().iter().any(|line| line.contains(words))
}

async fn ask(session: &Session, action: &Action, doing: &str) -> Result<Observed> {
    let text = run(session, action, doing).await?;
    parse(&text).ok_or_else(|| Error::failed(format!("{doing} {}: it answers {:?}", session.label(), text.trim())))
}

/// One line to the host's role script, which stays open on the session: a single round trip once it has been spoken to.
async fn run(session: &Session, action: &Action, doing: &str) -> Result<String> {
    let point = |when: &str| {
        if action.changes() {
            fault::point(format_args!("{when} role {} on {}", action.words(), session.label()));
        }
    };
    point("before");
    let answer = session
        .converse("sudo -n /usr/local/sbin/infra-role serve", &action.line(), PATIENCE)
        .await;
    point("after");
    match answer?.expect_success(&format!("{doing} {}", session.label())) {
        Ok(output) => Ok(output.text()),
        Err(error) if said(&error, "another command took over the lock") => Err(error
            .with_kind(Kind::Locked)
            .hint("see what the other command did with `infra status`, then run this one again")),
        Err(error) => Err(error),
    }
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
        crate::fuzz::text(&[answer], &["file ", "offset "], |input| drop(parse(input)));
    }

    #[test]
    fn a_line_names_action_argument_and_epoch_as_scripts_of_before_read_them() {
        let access = |epoch| Action {
            name: "door",
            argument: Some("open"),
            epoch,
        };
        assert_eq!(access(None).line(), "door open");
        assert_eq!(access(Some(17)).line(), "door open 17");
        assert_eq!(Action::under("promote", Some(17)).line(), "promote - 17");
        assert_eq!(Action::plain("show").line(), "show");
        assert_eq!(access(Some(17)).words(), "door open");
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
