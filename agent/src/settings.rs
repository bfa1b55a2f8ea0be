//! The agent's settings: lines `NAME=value` of a file that `infra up` writes.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Settings {
    /// The host's name in messages and keys.
    pub label: String,
    /// True if the log and bases go to the bucket; otherwise the agent only keeps the last AOF set.
    pub ships: bool,
    /// The URL has no slash at its end.
    pub bucket_url: String,
    pub region: String,
    /// `backups/<env>`: the only place where the host's role may put objects.
    pub prefix: String,
    /// Longest time that a write may be on this host alone.
    pub rpo: Duration,
    /// Bytes of log that may wait on the disk while S3 is away.
    pub backlog: u64,
    /// The engine's data folder.
    pub data: PathBuf,
    pub socket: PathBuf,
    pub user: String,
    pub password_file: PathBuf,
    pub config_file: PathBuf,
    pub users_file: PathBuf,
    /// The program that reads a base from end to end.
    pub rdb_check: String,
    /// The agent's own folder; best on the same file system as the data.
    pub home: PathBuf,
    /// The share of the disk that must be free for the last AOF set to be kept.
    pub keep_free_percent: u64,
    pub metadata: String,
}

impl Settings {
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("understand {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let values: BTreeMap<&str, &str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .collect();
        let get = |name: &str| {
            values
                .get(name)
                .map(|value| value.trim())
                .filter(|value| !value.is_empty())
        };
        let need = |name: &str| {
            get(name)
                .with_context(|| format!("{name} is missing"))
                .map(String::from)
        };
        let number = |name: &str, default: u64| match get(name) {
            Some(text) => text.parse().with_context(|| format!("{name} is no number")),
            None => Ok(default),
        };
        let rpo = number("INFRA_RPO_S", 10)?;
        if !(1..=3600).contains(&rpo) {
            bail!("INFRA_RPO_S is {rpo}: from 1 to 3600 seconds can be asked for");
        }
        let file = |name: &str, default: &str| PathBuf::from(get(name).unwrap_or(default));
        Ok(Settings {
            label: need("INFRA_LABEL")?,
            ships: get("INFRA_SHIPS") != Some("no"),
            bucket_url: need("INFRA_BUCKET_URL")?,
            region: need("INFRA_REGION")?,
            prefix: need("INFRA_PREFIX")?,
            rpo: Duration::from_secs(rpo),
            backlog: number("INFRA_BACKLOG_KB", 512 << 10)? << 10,
            data: need("INFRA_DATA")?.into(),
            socket: need("INFRA_SOCKET")?.into(),
            user: get("INFRA_USER").unwrap_or("backup").into(),
            password_file: file("INFRA_PASSWORD_FILE", "/etc/infra/backup.password"),
            config_file: need("INFRA_CONFIG")?.into(),
            users_file: need("INFRA_USERS")?.into(),
            rdb_check: need("INFRA_RDB_CHECK")?,
            home: file("INFRA_AGENT_HOME", "/var/lib/infra/agent"),
            keep_free_percent: number("INFRA_KEEP_FREE_PERCENT", 10)?,
            metadata: get("INFRA_METADATA").unwrap_or("http://169.254.169.254").into(),
        })
    }

    /// Returns how old the first waiting byte of the log may become. The rest of the objective is
    /// for reading to the end, signing and sending.
    pub fn cut_age(&self) -> Duration {
        match self.rpo.as_secs() {
            8.. => self.rpo - Duration::from_secs(5),
            seconds => Duration::from_millis(seconds * 300),
        }
    }

    pub fn control(&self) -> PathBuf {
        self.home.join("control")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "# written by infra\nINFRA_LABEL=master\nINFRA_BUCKET_URL=http://x/b\nINFRA_REGION=eu-west-1\nINFRA_PREFIX=backups/production\nINFRA_DATA=/d\n\
                        INFRA_SOCKET=/s\nINFRA_CONFIG=/c\nINFRA_USERS=/u\nINFRA_RDB_CHECK=redis-check-rdb\n";

    #[test]
    fn a_missing_setting_is_named() {
        assert_eq!(Settings::parse(FULL).unwrap().rpo, Duration::from_secs(10));
        let error = format!("{:#}", Settings::parse(&FULL.replace("INFRA_REGION", "X")).unwrap_err());
        assert!(error.contains("INFRA_REGION is missing"), "{error}");
        assert!(Settings::parse(FULL).unwrap().ships);
        assert!(!Settings::parse(&format!("{FULL}INFRA_SHIPS=no\n")).unwrap().ships);
    }

    #[test]
    fn a_segment_leaves_time_for_its_upload() {
        for (rpo, cut) in [(1, 300), (4, 1200), (10, 5000), (60, 55_000)] {
            let settings = Settings::parse(&format!("{FULL}INFRA_RPO_S={rpo}\n")).unwrap();
            assert_eq!(settings.cut_age(), Duration::from_millis(cut), "rpo {rpo}");
        }
        for wrong in ["0", "x", "4000"] {
            assert!(Settings::parse(&format!("{FULL}INFRA_RPO_S={wrong}\n")).is_err());
        }
    }
}
