//! Reads and changes the role of a host, by one command each over an open session, while the app
//! waits. The host's script `infra-role` does the work.
//!
//! The role goes into the settings file, synced to disk, before the engine gets it. So no restart
//! brings an old role back. The cutover decides on changes. Steps can repeat.

use super::settings::AppAccess;
use crate::effects::fault;
use crate::effects::remote::Session;
use crate::model::error::{Error, Kind, Result};
use std::time::Duration;

/// Time limit of an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The role of a host, in its file and as it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// `follows-source`, `copies-source`, `follows-master` or `master`.
    pub file: String,
    /// Redis's own word: `master` or `slave`.
    pub running: String,
    pub replication_id: String,
    /// The running engine's replication offset in bytes.
    pub offset: u64,
}

impl Observed {
    /// Returns true if the host is a master in its file and runs as one.
    pub fn is_master(&self) -> bool {
        self.file == "master" && self.running == "master"
    }
}

pub async fn observe(session: &Session) -> Result<Observed> {
    ask(session, &Action::plain("show"), "ask for the role of").await
}

/// Writes a master's settings beside those in force, to make [`promote`] short.
pub async fn prepare_promotion(session: &Session, epoch: Option<u64>) -> Result<Observed> {
    ask(session, &Action::under("prepare", epoch), "prepare the promotion of").await
}

/// Makes the host refuse commands of older locks. A host with a script without epochs refuses none.
pub async fn raise_epoch(session: &Session, epoch: u64) -> Result<()> {
    let action = Action::under("epoch", Some(epoch));
    match run(session, &action, "tell the epoch of the lock to").await {
        Err(error) if !said(&error, "unknown action") => Err(error),
        _ => Ok(()),
    }
}

/// The data that a promotion was proven with, by the source's replication id and offset.
pub struct Proven<'a> {
    pub replication_id: &'a str,
    pub offset: u64,
}

/// Makes the host follow nobody from here on, also after a restart. The host refuses if its data is
/// not what was proven; one with an older script does not look.
pub async fn promote(session: &Session, proven: &Proven<'_>, epoch: Option<u64>) -> Result<Observed> {
    expect_master(
        session,
        ask(session, &Action::promotion(proven, epoch), "promote").await?,
    )
}

/// Makes the host a master in its file and its engine, with the data that it has.
pub async fn take_over(session: &Session, epoch: Option<u64>) -> Result<Observed> {
    expect_master(
        session,
        ask(session, &Action::under("promote", epoch), "promote").await?,
    )
}

fn expect_master(session: &Session, observed: Observed) -> Result<Observed> {
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

/// Writes a replica's settings beside those in force, to make [`yield_role`] short. The role
/// section was sent to [`section_file`] before: it holds a password.
pub async fn prepare_demotion(session: &Session, epoch: Option<u64>) -> Result<Observed> {
    ask(session, &Action::under("stage", epoch), "prepare the demotion of").await
}

/// Returns the place of the role section for [`prepare_demotion`].
pub fn section_file(config_file: &str) -> String {
    format!("{config_file}.upstream")
}

/// Puts a master's settings in force for the next start. The engine goes on as it is. The host
/// refuses while the app may log in.
pub async fn arm(session: &Session, epoch: Option<u64>) -> Result<Observed> {
    ask(session, &Action::under("arm", epoch), "prepare the next start of").await
}

/// A role that was given away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Yielded {
    pub observed: Observed,
    /// How long writes were paused on the host; `None` if it had given its role away before.
    pub paused_ms: Option<u64>,
    /// How many connections of the app were closed.
    pub closed: Option<u64>,
}

/// Gives the role of master to the replica at an address. The host does all of it by itself, and
/// stays the master if a part of it fails.
pub async fn yield_role(session: &Session, replica: &str, epoch: Option<u64>) -> Result<Yielded> {
    let action = Action {
        proof: Some(replica.into()),
        ..Action::under("yield", epoch)
    };
    let doing = "give the role away on";
    let text = run(session, &action, doing).await?;
    parse_yielded(&text)
        .filter(|yielded| yielded.observed.file == "follows-master" && yielded.observed.running == "slave")
        .ok_or_else(|| Error::failed(format!("{doing} {}: it answers {:?}", session.label(), text.trim())))
}

/// Lets new connections to the engine in again, after [`yield_role`].
pub async fn open_gate(session: &Session, epoch: Option<u64>) -> Result<()> {
    let action = Action {
        word: Some("open"),
        ..Action::under("gate", epoch)
    };
    run(session, &action, "let new connections in on").await.map(drop)
}

/// Returns true if the app may log in, by the host's file.
pub async fn access_is_open(session: &Session) -> Result<bool> {
    let text = run(session, &Action::plain("access"), "ask for app access on").await?;
    Ok(text.trim() == "access open")
}

/// Returns true if the host's append-only log is in force, and not waiting for the rewrite after a
/// full copy. Returns false for an old script that does not know the question.
pub async fn log_is_in_force(session: &Session) -> Result<bool> {
    match run(session, &Action::plain("log"), "ask for the append-only log of").await {
        Ok(answer) => Ok(answer.trim() == "log in-force"),
        Err(error) if said(&error, "unknown action") => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the host follow its old source. **Writes since then are lost**: callers rule them out.
pub async fn follow_source(session: &Session, epoch: Option<u64>) -> Result<Observed> {
    let action = Action::under("follow", epoch);
    let observed = ask(session, &action, "have the engine follow its source again on").await?;
    if observed.file.starts_with("follows-") && observed.running == "slave" {
        return Ok(observed);
    }
    // A master that copies is one of its own, and takes the writes of the copy alone.
    if observed.file == "copies-source" && observed.running == "master" {
        return Ok(observed);
    }
    Err(Error::failed(format!(
        "make {} follow its source again: its file says {} and it runs as {}",
        session.label(),
        observed.file,
        observed.running
    )))
}

/// Ends the copy of the source on a promoted master.
pub async fn end_copy(session: &Session, epoch: Option<u64>) -> Result<()> {
    ask(
        session,
        &Action::under("end-copy", epoch),
        "end the copy of the source on",
    )
    .await
    .map(drop)
}

/// Opens or closes app access, in the file first. Closing also disconnects the app.
pub async fn set_app_access(session: &Session, access: AppAccess, epoch: Option<u64>) -> Result<()> {
    let (word, doing) = match access {
        AppAccess::Open => ("open", "let the app log in to"),
        AppAccess::Closed => ("closed", "keep the app out of"),
    };
    let action = |epoch| Action {
        word: Some(word),
        ..Action::under("door", epoch)
    };
    let text = match run(session, &action(epoch), doing).await {
        // An old script without epochs refuses the number, and has done nothing.
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
    /// The argument that is a part of the name of the fault point.
    word: Option<&'static str>,
    /// The argument of a promotion, as `ID:OFFSET`. Older scripts ignore it.
    proof: Option<String>,
    /// The epoch of the lock of this command. The host refuses it once it has seen a higher one.
    epoch: Option<u64>,
}

impl Action {
    fn plain(name: &'static str) -> Action {
        Action::under(name, None)
    }

    fn under(name: &'static str, epoch: Option<u64>) -> Action {
        Action {
            name,
            word: None,
            proof: None,
            epoch,
        }
    }

    fn promotion(proven: &Proven<'_>, epoch: Option<u64>) -> Action {
        Action {
            proof: Some(format!("{}:{}", proven.replication_id, proven.offset)),
            ..Action::under("promote", epoch)
        }
    }

    /// Returns true for actions that change something; only those are fault points.
    fn changes(&self) -> bool {
        !matches!(self.name, "show" | "log" | "epoch" | "access")
    }

    /// Returns the name of the action in a fault point.
    fn words(&self) -> String {
        match self.word {
            Some(word) => format!("{} {word}", self.name),
            None => self.name.into(),
        }
    }

    fn line(&self) -> String {
        match (self.proof.as_deref().or(self.word), self.epoch) {
            (argument, Some(epoch)) => format!("{} {} {epoch}", self.name, argument.unwrap_or("-")),
            (Some(argument), None) => format!("{} {argument}", self.name),
            (None, None) => self.name.into(),
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

/// Sends one line to the host's role script, which stays open: one round trip after the first line.
async fn run(session: &Session, action: &Action, doing: &str) -> Result<String> {
    let line = action.line();
    let asking = session.converse("sudo -n /usr/local/sbin/infra-role serve", &line, PATIENCE);
    let answer = if action.changes() {
        fault::around(&format!("role {} on {}", action.words(), session.label()), asking).await
    } else {
        asking.await
    };
    match answer?.expect_success(&format!("{doing} {}", session.label())) {
        Ok(output) => Ok(output.text()),
        Err(error) if said(&error, "another command took over the lock") => Err(error
            .with_kind(Kind::Locked)
            .hint("see what the other command did with `infra status`, then run this one again")),
        Err(error) => Err(error),
    }
}

fn parse_yielded(text: &str) -> Option<Yielded> {
    let (mut roles, mut yielded) = (String::new(), Yielded::default());
    for line in text.lines() {
        match line.split_once(' ')? {
            ("paused-ms", number) => yielded.paused_ms = Some(number.parse().ok()?),
            ("closed", number) => yielded.closed = Some(number.parse().ok()?),
            _ => roles.extend([line, "\n"]),
        }
    }
    yielded.observed = parse(&roles)?;
    Some(yielded)
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
    fn no_answer_of_a_host_does_harm() {
        let answer = "file master\nrunning master\nreplication-id ab\noffset 42\n";
        crate::fuzz::text(&[answer], &["file ", "offset "], |input| drop(parse(input)));
        crate::fuzz::text(&[answer], &["closed ", "paused-ms "], |input| {
            drop(parse_yielded(input))
        });
    }

    #[test]
    fn a_line_has_the_form_that_older_scripts_read() {
        let access = |epoch| Action {
            word: Some("open"),
            ..Action::under("door", epoch)
        };
        let proven = Proven {
            replication_id: "ab",
            offset: 42,
        };
        let promotion = |epoch| Action::promotion(&proven, epoch);
        assert_eq!(access(None).line(), "door open");
        assert_eq!(access(Some(17)).line(), "door open 17");
        assert_eq!(Action::under("prepare", Some(17)).line(), "prepare - 17");
        assert_eq!(promotion(Some(17)).line(), "promote ab:42 17");
        assert_eq!(promotion(None).line(), "promote ab:42");
        assert_eq!(promotion(Some(17)).words(), "promote");
        assert_eq!(Action::plain("show").line(), "show");
        assert_eq!(access(Some(17)).words(), "door open");
    }

    #[test]
    fn a_role_that_was_given_away_comes_with_its_pause() {
        let answer = "file follows-master\nrunning slave\nreplication-id ab\noffset 42\n";
        let first = parse_yielded(&format!("{answer}paused-ms 47\nclosed 3\n")).unwrap();
        assert_eq!((first.paused_ms, first.closed), (Some(47), Some(3)));
        assert_eq!(first.observed, parse(answer).unwrap());
        let again = parse_yielded(answer).unwrap();
        assert_eq!((again.paused_ms, again.closed), (None, None));
        assert_eq!(parse_yielded("paused-ms x\n"), None);
    }

    #[test]
    fn an_answer_is_a_role_or_nothing() {
        let observed = parse("file master\nrunning master\nreplication-id ab\noffset 42\n").unwrap();
        assert!(observed.is_master());
        assert_eq!(observed.offset, 42);
        assert!(!parse("file master\nrunning slave\noffset 1\n").unwrap().is_master());
        assert_eq!(parse("file master\n"), None);
        assert_eq!(parse("what?\n"), None);
    }
}
