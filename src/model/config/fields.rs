//! The fields of `infra.yml`. A test makes the table in `docs/configuration.md` from their doc comments and their defaults.
//!
//! A paragraph that begins with `Default:` says a default that the code finds out later.

use crate::model::cloud::ObjectLock;
use crate::model::follow::Follow;
use crate::model::values::{Bytes, Cidr, Name, Pin, Span};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;
use trust::Policy;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Prefix and tag of everything that is made: 1 to 32 lower-case letters, digits and hyphens,
    /// beginning with a letter.
    pub name: Name<32>,
    /// AWS region; must be given with `app.platform: command`.
    ///
    /// Default: the app's.
    pub region: Option<String>,
    pub source: Source,
    pub app: App,
    #[serde(default)]
    pub hosts: Hosts,
    #[serde(default)]
    pub redis: Redis,
    #[serde(default)]
    pub backup: Backup,
    #[serde(default)]
    pub monitoring: Monitoring,
    #[serde(default)]
    pub aws: Aws,
}

impl Config {
    /// Returns the time between two bases, in seconds.
    pub fn backup_period_s(&self) -> u64 {
        self.backup.every.0.as_secs()
    }
}

/// The hosted Redis that the app leaves.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The app's config var that holds the add-on's URL.
    pub config_var: Option<String>,
    /// Instead: the environment variable of `infra` itself that holds the URL.
    pub url_env: Option<String>,
    /// Instead, as `true`: there is nothing to follow; the pair begins empty and gets its data by
    /// `infra restore --from FILE.rdb`.
    #[serde(default)]
    pub none: bool,
    /// How a source that speaks TLS is trusted: as `verify`, an authority of the system's store must vouch for it and
    /// for the URL's host; [see there](sources.md#the-two-policies).
    ///
    /// Default: `verify`, unless `source.tls_pin` is given.
    pub tls: Option<SourceTls>,
    /// Instead: `sha256:` and the 64 hexadecimal digits of the source's certificate, whatever issued it;
    /// `infra check --pin` writes it.
    pub tls_pin: Option<Pin>,
    /// How the source is followed: `replication`, `copy`, or `auto`, which copies only if the source lets
    /// nobody replicate; [see there](sources.md#how-a-source-is-followed).
    ///
    /// Default: `auto`.
    #[serde(default)]
    pub follow: Follow,
    /// How much the copy reads from the source in a second, from `64kb`; inside the fence it reads as fast as it
    /// can.
    ///
    /// Default: `8mb`.
    #[serde(default = "Source::default_copy_rate")]
    pub copy_rate: Bytes,
    /// Beginnings of names of keys that a copy leaves behind, such as `cache:`: these keys are neither copied nor compared
    /// nor deleted. A source that is followed by replication brings all of its keys.
    ///
    /// Default: none.
    #[serde(default)]
    pub leave_out: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceTls {
    Verify,
}

impl Source {
    fn default_copy_rate() -> Bytes {
        Bytes(8 << 20)
    }

    /// Returns how a source that speaks TLS is trusted.
    pub fn policy(&self) -> Policy {
        self.tls_pin.map_or(Policy::Verify, |pin| Policy::Pin(pin.0))
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Where the app runs; `command` for any other platform, by `app.commands`.
    #[serde(default)]
    pub platform: PlatformKind,
    /// The app's name there.
    pub name: String,
    /// The var that the app reads.
    #[serde(default = "App::default_config_var")]
    pub config_var: String,
    /// The var for the certificate of the endpoint's authority, set in the same change.
    ///
    /// Default: `app.config_var` with `_CA` for `_URL`: `REDIS_CA`.
    pub ca_config_var: Option<String>,
    /// With `platform: command`: what is run, each by `sh -c` with the app's name in `INFRA_APP`,
    /// [see there](cutover.md#other-platforms).
    pub commands: Option<AppCommands>,
    /// What a one-off process runs to try the app's way in; it writes and reads a key that begins
    /// with `INFRA_REHEARSAL_PREFIX`.
    pub rehearse: Option<String>,
    /// Other apps that use the same Redis and move in the same cutover; on Heroku only.
    #[serde(default)]
    pub also: Vec<String>,
}

impl App {
    fn default_config_var() -> String {
        "REDIS_URL".into()
    }

    /// Returns the var for the certificate authority: the URL's var with `_CA` in place of `_URL`.
    pub fn ca_config_var(&self) -> String {
        self.ca_config_var.clone().unwrap_or_else(|| {
            let stem = self.config_var.strip_suffix("_URL").unwrap_or(&self.config_var);
            format!("{stem}_CA")
        })
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum PlatformKind {
    #[default]
    Heroku,
    /// Any other platform, by the user's own commands: see `commands`.
    Command,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppCommands {
    /// Prints the app's vars on stdout, as a JSON object of names and values.
    pub read: String,
    /// Gets a JSON object of names and values on stdin and sets them in one change; null removes a var.
    pub set: String,
    /// Ends with 0 when every process of the app runs with the present vars.
    pub verify: String,
    /// Restarts the app's processes with the present vars; optional.
    pub restart: Option<String>,
    /// Stops every process of the app; optional, for a source that cannot be paused.
    pub stop: Option<String>,
    /// Starts the processes again; optional.
    pub start: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hosts {
    /// EC2 instance type.
    pub instance_type: String,
    /// An image's name, or an AMI id.
    pub image: String,
    /// Size of the encrypted gp3 disk in GiB, 8 to 16384.
    pub disk_gb: u32,
    /// Two letters of availability zones, the master's first.
    ///
    /// Default: two different.
    pub zones: Vec<String>,
    /// A subnet's id.
    ///
    /// Default: the default VPC's.
    pub subnet: Option<String>,
    /// How the operator reaches the hosts; this version accepts no other value.
    pub reach: Reach,
    /// Who may use ssh, and Redis for `verify` and `promote`; `[]` is nobody: then ssh must come
    /// another way, such as Session Manager or a VPN.
    ///
    /// Default: your own address, as AWS sees it.
    pub admin_cidrs: Option<Vec<Cidr>>,
    /// Who may reach the Redis TLS port; in Heroku's Common Runtime, and with `app.commands`,
    /// processes have no fixed address.
    ///
    /// Default: the apps' Private Spaces, or `0.0.0.0/0`.
    pub app_cidrs: Option<Vec<Cidr>>,
    /// A domain of your own that points at the endpoint; the certificates name it too.
    pub domain: Option<String>,
}

impl Default for Hosts {
    fn default() -> Self {
        Hosts {
            instance_type: "t3.micro".into(),
            image: "debian-13".into(),
            disk_gb: 16,
            zones: Vec::new(),
            subnet: None,
            reach: Reach::Public,
            admin_cidrs: None,
            app_cidrs: None,
            domain: None,
        }
    }
}

/// How the operator reaches the hosts.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    #[default]
    Public,
    Private,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// The server program: `redis` or `valkey`.
    pub engine: Engine,
    /// Such as `400mb`.
    ///
    /// Default: two fifths of the instance type's memory.
    pub maxmemory: Option<Bytes>,
    /// Further lines of redis.conf; those that `infra` sets itself are refused.
    ///
    /// Default: `maxmemory-policy`, `notify-keyspace-events` and `databases` as on the source.
    pub settings: BTreeMap<String, String>,
    /// Commands that the app may run although Redis calls them dangerous, such as `[keys, flushdb]`.
    pub app_commands: Vec<String>,
    /// Patterns of the keys that the app may use, such as `['shop:*', '%R~shared:*']`; `%R~` is for
    /// keys that it may only read.
    ///
    /// Default: all.
    pub app_keys: Vec<String>,
    /// Patterns of the channels that the app may use.
    ///
    /// Default: all.
    pub app_channels: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    #[default]
    Redis,
    Valkey,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backup {
    /// Time between two bases, from `5m` to `24h`.
    ///
    /// Default: `1h`.
    pub every: Span,
    /// Longest time in seconds that a write may be on the master alone, 1 to 3600.
    pub rpo_s: u64,
    /// How much of the log in MiB may wait on the master's disk while S3 does not take it, 16 to 65536.
    pub backlog_mb: u64,
    pub keep: Keep,
    /// How long nothing in the bucket can be removed, such as `{mode: governance, days: 30}`, or
    /// `compliance`, for 1 to 3650 days, [see there](backups.md#retention).
    ///
    /// Default: none.
    pub object_lock: Option<ObjectLock>,
}

impl Default for Backup {
    fn default() -> Self {
        Backup {
            every: Span(Duration::from_secs(3600)),
            rpo_s: 10,
            backlog_mb: 512,
            keep: Keep::default(),
            object_lock: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// How many hours the log and all bases stay.
    pub hourly: u32,
    /// How many days a day's first base stays.
    pub daily: u32,
    /// How many months a month's first base stays.
    pub monthly: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Keep {
            hourly: 48,
            daily: 35,
            monthly: 12,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Monitoring {
    /// As `true`: the distribution's exporters for Prometheus run on both hosts,
    /// [see there](monitoring.md#exporters-on-the-hosts).
    pub exporters: bool,
    /// Addresses that may ask them; they speak plain HTTP without a login.
    ///
    /// Default: nobody; `infra ssh --exporters` reaches them.
    pub scrape_cidrs: Vec<Cidr>,
}

/// Only for emulators; the usual AWS variables have precedence.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aws {
    /// For emulators: where requests to AWS go.
    ///
    /// Default: AWS's own.
    pub endpoint: Option<String>,
    /// For emulators: where the hosts reach S3.
    ///
    /// Default: the operator's.
    pub host_s3_endpoint: Option<String>,
    /// Where your own address is asked.
    ///
    /// Default: AWS's own; none with `aws.endpoint`.
    pub checkip: Option<String>,
}
