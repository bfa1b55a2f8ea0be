//! Backups as a host makes them: one base at a time, by a timer or on demand. Restoring is the operator's side.

use super::description::{Content, Description, File, Reaction, Unit};
use super::settings::root_file;
use super::templates;
use crate::error::{Doing, Error, Result};
use crate::fault;
use crate::remote::Session;
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The host's own deadline for one base, and a little more.
const RUN: Duration = Duration::from_secs(52 * 60);

/// Where a host's backups go, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The bucket as hosts reach it, without a slash at its end; see [`bucket_url`].
    pub bucket_url: String,
    pub region: String,
    /// `backups/<env>`: the only place where the host's role may put objects.
    pub prefix: String,
    pub period: Duration,
}

/// The address of a bucket: AWS's own, or by path under an emulator's endpoint.
pub fn bucket_url(bucket: &str, region: &str, endpoint: Option<&str>) -> String {
    match endpoint {
        Some(endpoint) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
        None => format!("https://{bucket}.s3.{region}.amazonaws.com"),
    }
}

/// The record of one base: what the bucket's `commit.json` says.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct BackupReport {
    pub schema_version: u32,
    /// Key of the compressed base; `commit.json` lies beside it.
    pub key: String,
    /// `hourly`, `daily` or `monthly`.
    pub class: String,
    pub timeline: String,
    pub generation: String,
    pub host: String,
    /// Redis's own word: `master` or `slave`.
    pub role: String,
    pub version: String,
    pub run_id: String,
    pub replication_id: String,
    /// Replication offset right before the base was begun: the base holds at least this.
    pub offset: u64,
    /// Keys that were read back from the base.
    pub keys: u64,
    /// Keys per database when the base was begun.
    pub keyspace: BTreeMap<String, u64>,
    /// Of the compressed object, hexadecimal.
    pub sha256: String,
    /// Of the compressed object.
    pub bytes: u64,
    pub plain_sha256: String,
    pub plain_bytes: u64,
    /// UTC, RFC 3339.
    pub started: String,
    pub finished: String,
}

/// What a host knows of its backups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backups {
    pub last: Option<BackupReport>,
    /// When the newest attempt failed, and why; nothing where it did not.
    pub failed: Option<Failure>,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Failure {
    pub at: String,
    pub error: String,
}

/// Makes one base now, through the same unit that the timer starts, so that two never run at once. Gives its record.
pub async fn run_now(session: &Session) -> Result<BackupReport> {
    let doing = format!("back up {}", session.label());
    fault::point(format_args!("before back up {}", session.label()));
    let made = session
        .run_within("sudo -n systemctl start infra-backup.service", None, RUN, |_| ())
        .await;
    fault::point(format_args!("after back up {}", session.label()));
    let output = made?;
    let backups = look(session).await?;
    if let Err(error) = output.expect_success(&doing) {
        let error = match backups.failed {
            Some(failure) => Error::failed(doing).because(failure.error),
            None => error,
        };
        return Err(error.hint("`journalctl -u infra-backup` on the host says more"));
    }
    backups
        .last
        .ok_or_else(|| Error::failed(doing).because("the host keeps no record of it"))
}

/// The newest base and the newest failure, as the host remembers them.
pub async fn look(session: &Session) -> Result<Backups> {
    let doing = format!("ask {} for its last backup", session.label());
    let command = "sudo -n sh -c 'cd /var/lib/infra/backup 2>/dev/null || exit 0; for f in last failed; do printf \"%s \" $f; cat $f.json 2>/dev/null | tr -d \
                   \"\\n\"; echo; done'";
    let output = session.run(command, None).await?.expect_success(&doing)?;
    let mut backups = Backups::default();
    for line in output.text().lines() {
        match line.split_once(' ') {
            Some((_, "")) | None => {}
            Some(("last", json)) => backups.last = Some(serde_json::from_str(json).doing(|| doing.clone())?),
            Some((_, json)) => backups.failed = Some(serde_json::from_str(json).doing(|| doing.clone())?),
        }
    }
    Ok(backups)
}

/// Adds the backup job to a host.
pub(super) fn describe(
    settings: &Settings,
    label: &str,
    password: &Secret,
    description: &mut Description,
) -> Result<()> {
    #[derive(Serialize)]
    struct Values<'a> {
        label: &'a str,
        bucket_url: &'a str,
        region: &'a str,
        prefix: &'a str,
    }
    let values = Values {
        label,
        bucket_url: &settings.bucket_url,
        region: &settings.region,
        prefix: &settings.prefix,
    };
    let env = templates::render("backup.env", templates::BACKUP_ENV, &values)?;
    description.files.extend([
        root_file("/etc/infra/backup.env", 0o600, env, None),
        File {
            content: Content::Secret(password.clone()),
            ..root_file("/etc/infra/backup.password", 0o600, String::new(), None)
        },
        root_file("/usr/local/sbin/infra-backup", 0o755, templates::BACKUP.into(), None),
        root_file(
            "/etc/systemd/system/infra-backup.service",
            0o644,
            templates::BACKUP_SERVICE.into(),
            Some(Reaction::ReloadUnits),
        ),
        root_file(
            "/etc/systemd/system/infra-backup.timer",
            0o644,
            timer(settings.period)?,
            Some(Reaction::Restart("infra-backup.timer".into())),
        ),
    ]);
    description.units.push(Unit {
        name: "infra-backup.timer".into(),
        enabled: true,
        active: Some(true),
    });
    Ok(())
}

fn timer(period: Duration) -> Result<String> {
    #[derive(Serialize)]
    struct Values {
        period: String,
        calendar: Option<String>,
        seconds: u64,
    }
    let values = Values {
        period: crate::ui::size::duration(period),
        calendar: calendar(period),
        seconds: period.as_secs(),
    };
    templates::render("infra-backup.timer", templates::BACKUP_TIMER, &values)
}

/// systemd's calendar expression for a period that divides an hour or a day; others count from the last run.
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
    fn periods_that_fit_the_clock_follow_it() {
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
