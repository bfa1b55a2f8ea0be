//! The copy on the master host: the agent's unit that copies a source which lets nobody replicate.
//!
//! The master is a master of its own meanwhile, with app access closed. The unit writes to it as the
//! user `copy`, and a promotion shuts that user out.

use super::backup::AGENT_PROGRAM;
use super::description::{Description, Reaction, Unit, root_file};
use super::engine::Layout;
use super::programs::Binary;
use super::reach::Reach;
use super::settings::{Copied, Passwords, Position};
use super::{status_file, templates, tunnel};
use crate::effects::remote::Session;
use crate::model::error::{Doing, Result};
use crate::model::secret::Secret;
use infra_agent::copy::Wish;
use infra_agent::record::{CopyStatus, SweepReport};
use serde::Serialize;
use std::time::Duration;

pub const UNIT: &str = "infra-copy.service";
/// The name of the user that the copy logs in as.
pub const USER: &str = "copy";
const STATUS: &str = "/run/infra-copy/status.json";
const CONTROL: &str = "/run/infra-copy/control";

/// Adds the copy to a master that copies a source, and ends it on one that follows by replication.
pub(super) fn describe(
    position: &Position,
    passwords: &Passwords,
    maxmemory: u64,
    agent: &Binary,
    layout: &Layout,
    description: &mut Description,
) -> Result<()> {
    let unit = |runs| Unit {
        name: UNIT.into(),
        enabled: runs,
        active: Some(runs),
    };
    match position {
        Position::CopiesSource(copied) => {
            let restart = || Some(Reaction::Restart(UNIT.into()));
            let upstream = &copied.upstream;
            let source = login(upstream.user.as_deref(), upstream.password.as_ref());
            let master = login(Some(USER), Some(&passwords.copy().used));
            let service = render(copied, [&source, &master], maxmemory, agent, layout)?;
            description.files.extend([
                root_file("/etc/infra/copy-source.login", 0o600, source, None),
                root_file("/etc/infra/copy-master.login", 0o600, master, None),
                root_file(&format!("/etc/systemd/system/{UNIT}"), 0o644, service, restart()),
            ]);
            description.units.push(unit(true));
        }
        Position::FollowsSource(_) => description.units.push(unit(false)),
        // A promoted master may be made to copy again. Until then the unit's own condition stops it.
        Position::Master | Position::FollowsMaster { .. } => {}
    }
    Ok(())
}

/// Returns the file of a login: the user on the first line, the password behind it. Either may be empty.
fn login(user: Option<&str>, password: Option<&Secret>) -> Secret {
    let password = password.map_or("", Secret::expose);
    Secret::new(format!("{}\n{password}", user.unwrap_or_default()))
}

fn render(copied: &Copied, logins: [&Secret; 2], maxmemory: u64, agent: &Binary, layout: &Layout) -> Result<String> {
    #[derive(Serialize)]
    struct Values<'a> {
        #[serde(flatten)]
        layout: &'a Layout,
        host: &'a str,
        port: u16,
        rate: u64,
        memory: u64,
        /// In hexadecimal: a name may hold anything.
        leave_out: Vec<String>,
        agent: &'a str,
        logins: String,
    }
    let upstream = &copied.upstream;
    let reach = Reach::new(&upstream.host, upstream.port, upstream.trust, None)?;
    let (host, port) = match reach.trust {
        Some(_) => (tunnel::HOST, tunnel::PORT),
        None => (reach.host.as_str(), reach.port),
    };
    let both = logins.map(Secret::expose).join("\n");
    let values = Values {
        layout,
        host,
        port,
        rate: copied.rate,
        memory: maxmemory,
        leave_out: copied.leave_out.iter().map(hex::encode).collect(),
        agent: agent.sha256(),
        logins: infra_agent::digest::of(both.as_bytes()),
    };
    templates::render(UNIT, templates::COPY_SERVICE, &values)
}

/// Returns the copy's report; `None` if there is no copy, or none that has run.
pub async fn look(session: &Session) -> Result<Option<CopyStatus>> {
    status_file::read(session, STATUS, "copy").await
}

/// A request to the copy.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub wish: Wish,
    /// The copy notes down which keys are written from now on.
    pub record: bool,
    /// How long the copy writes nothing after it.
    pub hold: Duration,
    /// Deletions apply also if they are more than a tenth of the keys.
    pub accept_deletions: bool,
    pub deadline: Duration,
}

impl Asked {
    /// Asks for a whole sweep that begins now.
    pub fn within(deadline: Duration) -> Self {
        Asked {
            wish: Wish::Sweep,
            record: false,
            hold: Duration::ZERO,
            accept_deletions: false,
            deadline,
        }
    }
}

/// Makes the copy do what is asked, and returns what it found.
pub async fn sweep(session: &Session, asked: Asked) -> Result<SweepReport> {
    let doing = format!("have {} copy the source once more", session.label());
    let accept = if asked.accept_deletions {
        " --accept-deletions"
    } else {
        ""
    };
    let wish = match asked.wish {
        Wish::Sweep => "",
        Wish::Marked => " --marked",
        Wish::Look => " --look",
    };
    let record = if asked.record { " --record" } else { "" };
    let command = format!(
        "sudo -n {AGENT_PROGRAM} sweep --control {CONTROL} --hold {}{accept}{wish}{record}",
        asked.hold.as_secs()
    );
    let output = session.run_within(&command, None, asked.deadline, |_| ()).await?;
    let output = output
        .expect_success(&doing)
        .map_err(|error| error.hint("`infra status` and `journalctl -u infra-copy` on the master say why"))?;
    serde_json::from_str(output.text().trim()).doing(|| doing)
}
