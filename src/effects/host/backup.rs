//! The agent on a host: its files, its status and its bases. It ships the log and makes bases; on a
//! replica it only keeps the data that a full copy replaces. Operators restore.

use super::description::{Description, File, Reaction, Unit, root_file};
use super::engine::Layout;
use super::programs::Binary;
use super::templates;
use crate::effects::fault;
use crate::effects::remote::Session;
use crate::model::error::{Doing, Result};
use crate::model::secret::Secret;
use infra_agent::record::{AgentStatus, Commit};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Time limit of one base: the host's own, and a little more.
const RUN: Duration = Duration::from_secs(52 * 60);

/// Says where a host's backups go, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// True if this host's data goes to the bucket; false for a replica.
    pub ships: bool,
    /// The URL of the bucket for hosts, without a slash at its end; see [`bucket_url`].
    pub bucket_url: String,
    pub region: String,
    /// `backups/<env>`, the only place where the host's IAM role may put objects.
    pub prefix: String,
    pub period: Duration,
    /// Longest time that a write may be on the host alone.
    pub rpo_s: u64,
    /// How much of the log may wait on the disk while S3 is unreachable.
    pub backlog_mb: u64,
    pub agent: Binary,
}

/// Returns the URL of a bucket: AWS's own, or a path under an emulator's endpoint.
pub fn bucket_url(bucket: &str, region: &str, endpoint: Option<&str>) -> String {
    match endpoint {
        Some(endpoint) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
        None => format!("https://{bucket}.s3.{region}.amazonaws.com"),
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backups {
    pub agent: Option<AgentStatus>,
    /// The newest failure to make a base; `None` if the newest attempt succeeded.
    pub failed: Option<Failure>,
    /// The reason why the host refused to start its engine, if it did.
    pub refused: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Failure {
    pub at: String,
    pub error: String,
}

/// Makes the host's agent take one base now. Returns its record.
pub async fn run_now(session: &Session) -> Result<Commit> {
    let doing = format!("back up {}", session.label());
    let making = session.run_within("sudo -n /usr/local/sbin/infra-agent base", None, RUN, |_| ());
    let output = fault::around(&doing, making)
        .await?
        .expect_success(&doing)
        .map_err(|error| error.hint("`journalctl -u infra-agent` on the host says more"))?;
    serde_json::from_str(output.text().trim()).doing(|| doing)
}

/// Returns the agent's status, and the newest failure to make a base.
pub async fn look(session: &Session) -> Result<Backups> {
    let doing = format!("ask {} for its backups", session.label());
    let command = "sudo -n sh -c 'for f in agent/status.json agent/failed.json refused; do printf \"%s \" $f; cat /var/lib/infra/$f 2>/dev/null | tr -d \
                   \"\\n\"; echo; done'";
    let output = session.run(command, None).await?.expect_success(&doing)?;
    let mut backups = Backups::default();
    for line in output.text().lines() {
        match line.split_once(' ') {
            Some((_, "")) | None => {}
            Some(("refused", why)) => backups.refused = Some(why.into()),
            Some(("agent/status.json", json)) => {
                backups.agent = Some(serde_json::from_str(json).doing(|| doing.clone())?)
            }
            Some((_, json)) => backups.failed = Some(serde_json::from_str(json).doing(|| doing.clone())?),
        }
    }
    Ok(backups)
}

/// Adds the agent to a host, and the timer of its bases if the host ships.
pub(super) fn describe(
    settings: &Settings,
    label: &str,
    layout: &Layout,
    password: &Secret,
    description: &mut Description,
) -> Result<()> {
    #[derive(Serialize)]
    struct Values<'a> {
        ships: bool,
        label: &'a str,
        bucket_url: &'a str,
        region: &'a str,
        prefix: &'a str,
        rpo_s: u64,
        backlog_kb: u64,
        #[serde(flatten)]
        layout: &'a Layout,
    }
    let values = Values {
        ships: settings.ships,
        label,
        bucket_url: &settings.bucket_url,
        region: &settings.region,
        prefix: &settings.prefix,
        rpo_s: settings.rpo_s,
        backlog_kb: settings.backlog_mb << 10,
        layout,
    };
    let restart = || Some(Reaction::Restart(AGENT.into()));
    let env = templates::render("agent.env", templates::AGENT_ENV, &values)?;
    let service = templates::render(AGENT, templates::AGENT_SERVICE, &values)?;
    description.files.extend([
        root_file("/etc/infra/agent.env", 0o600, env, restart()),
        root_file("/etc/infra/backup.password", 0o600, password.clone(), restart()),
        root_file("/etc/infra/nsswitch.conf", 0o644, "hosts: files dns\n", restart()),
        root_file("/etc/systemd/system/infra-agent.service", 0o644, service, restart()),
    ]);
    description.files.extend(restoring(&settings.agent, restart()));
    description.units.push(Unit::running(AGENT));
    if !settings.ships {
        return Ok(());
    }
    description.files.extend([
        root_file(
            "/etc/systemd/system/infra-backup.service",
            0o644,
            templates::BACKUP_SERVICE,
            Some(Reaction::ReloadUnits),
        ),
        root_file(
            "/etc/systemd/system/infra-backup.timer",
            0o644,
            timer(settings.period)?,
            Some(Reaction::Restart("infra-backup.timer".into())),
        ),
    ]);
    description.units.push(Unit::running("infra-backup.timer"));
    Ok(())
}

/// Returns the files that a restore needs on a host.
pub(super) fn restoring(agent: &Binary, on_change: Option<Reaction>) -> [File; 2] {
    [
        root_file(AGENT_PROGRAM, 0o755, agent.clone(), on_change),
        root_file("/usr/local/sbin/infra-restore", 0o755, templates::RESTORE, None),
    ]
}

const AGENT: &str = "infra-agent.service";
pub(super) const AGENT_PROGRAM: &str = "/usr/local/sbin/infra-agent";

fn timer(period: Duration) -> Result<String> {
    #[derive(Serialize)]
    struct Values {
        period: String,
        calendar: Option<String>,
        seconds: u64,
    }
    let values = Values {
        period: crate::model::size::duration(period),
        calendar: calendar(period),
        seconds: period.as_secs(),
    };
    templates::render("infra-backup.timer", templates::BACKUP_TIMER, &values)
}

/// Returns systemd's expression for a period that divides an hour or a day; else `None`.
fn calendar(period: Duration) -> Option<String> {
    let minutes = period.as_secs() / 60;
    match minutes {
        0 => None,
        1..60 if 60 % minutes == 0 => Some(format!("*:0/{minutes}:00")),
        60 => Some("*:00:00".into()),
        1440 => Some("00:00:00".into()),
        61..1440 if minutes.is_multiple_of(60) && 24 % (minutes / 60) == 0 => Some(format!("0/{}:00:00", minutes / 60)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_that_divide_an_hour_or_a_day_follow_the_clock() {
        for (minutes, expression) in [
            (5, Some("*:0/5:00")),
            (30, Some("*:0/30:00")),
            (60, Some("*:00:00")),
            (120, Some("0/2:00:00")),
            (1440, Some("00:00:00")),
            (7, None),
            (90, None),
        ] {
            assert_eq!(
                calendar(Duration::from_secs(minutes * 60)).as_deref(),
                expression,
                "{minutes} min"
            );
        }
    }

    #[test]
    fn a_bucket_is_reached_by_name_on_aws_and_by_path_elsewhere() {
        assert_eq!(
            bucket_url("b", "eu-west-1", None),
            "https://b.s3.eu-west-1.amazonaws.com"
        );
        assert_eq!(
            bucket_url("b", "eu-west-1", Some("http://192.0.2.1:4566/")),
            "http://192.0.2.1:4566/b"
        );
    }
}
