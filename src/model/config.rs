//! `infra.yml`, the user's settings. Only `name`, `source` and `app` have no default.
//!
//! Unknown fields are errors, since an ignored misspelling gives a wrong cloud.

use crate::model::cloud::ObjectLock;
use crate::model::error::{Doing, Error, Result};
use crate::model::files;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// More than any person writes. It also bounds YAML aliases, which can repeat content.
const MAX_BYTES: u64 = 32 * 1024;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Prefix and tag of every resource.
    pub name: String,
    /// Default: the app's own region.
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
    pub aws: Aws,
}

/// The hosted Redis that the app leaves.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The app's config var with the add-on's URL.
    pub config_var: Option<String>,
    /// The environment variable of this process with the URL, if no platform provides it.
    pub url_env: Option<String>,
    /// True if there is no source: the pair begins empty, and gets data by `infra restore --from`.
    #[serde(default)]
    pub none: bool,
    /// `sha256:` and the digest of the source's certificate; `infra check --pin` writes it.
    pub tls_pin: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    #[serde(default)]
    pub platform: PlatformKind,
    pub name: String,
    #[serde(default = "App::default_config_var")]
    pub config_var: String,
    /// Further apps that use the same Redis and move in the same cutover, by the same key.
    #[serde(default)]
    pub also: Vec<String>,
    /// With `platform: command`: the commands that read, set and verify the app's vars.
    pub commands: Option<AppCommands>,
    /// The var for the endpoint's certificate authority. Default: `REDIS_CA` for `REDIS_URL`.
    pub ca_config_var: Option<String>,
    /// The command of a rehearsal on the app's new Redis: `infra switch-app --rehearse`.
    #[serde(default)]
    pub rehearse: Option<String>,
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
#[serde(deny_unknown_fields, default)]
pub struct Hosts {
    pub instance_type: String,
    /// The name of a known image (`debian-13`) or an AMI id.
    pub image: String,
    pub disk_gb: u32,
    /// Letters of availability zones, the master's first. Default: two different zones.
    pub zones: Vec<String>,
    /// Default: the default VPC's subnet in each zone.
    pub subnet: Option<String>,
    pub reach: Reach,
    /// Blocks of operators, for ssh and Redis. Default: the caller's address. Empty: nobody.
    pub admin_cidrs: Option<Vec<String>>,
    /// The user's own domain that points at the endpoint; certificates name it.
    pub domain: Option<String>,
    /// Blocks of the app, for Redis. Default: the app's Private Space, or everybody without one.
    pub app_cidrs: Option<Vec<String>>,
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
            domain: None,
            app_cidrs: None,
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
    pub engine: Engine,
    /// For example `400mb`. Default: from the instance type.
    pub maxmemory: Option<String>,
    /// Further lines of redis.conf.
    pub settings: BTreeMap<String, String>,
    /// Commands that the app may run though they are dangerous on a shared server, such as `keys`.
    pub app_commands: Vec<String>,
    /// Patterns of keys for the app, such as `shop:*`; `%R~shared:*` allows only reads. Empty: all.
    pub app_keys: Vec<String>,
    /// Patterns of channels for the app. Empty: all.
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
    pub every: String,
    /// Longest time, in seconds, that a write may be on the master alone before the bucket has it.
    pub rpo_s: u64,
    /// How many MiB of the log may wait on the master's disk while S3 is unavailable.
    pub backlog_mb: u64,
    pub keep: Keep,
    /// A retention of everything in the bucket. Default: none.
    pub object_lock: Option<ObjectLock>,
}

impl Default for Backup {
    fn default() -> Self {
        Backup {
            every: "1h".into(),
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
    pub hourly: u32,
    pub daily: u32,
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

/// Only for emulators; the usual AWS variables have precedence.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aws {
    pub endpoint: Option<String>,
    /// The address of S3 for the hosts, if it is not the operator's.
    pub host_s3_endpoint: Option<String>,
    /// The service that returns this computer's address, as the emulator sees it.
    pub checkip: Option<String>,
}

impl Config {
    /// Reads and checks `infra.yml`.
    pub fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = files::read_text(path, MAX_BYTES).map_err(|error| {
            Error::usage(format!("read {shown}"))
                .because(error)
                .hint("name the file with --config, or write one: the README shows the smallest that works")
        })?;
        Self::parse(&text).map_err(|error| error.while_doing(format!("read {shown}")))
    }

    pub fn parse(text: &str) -> Result<Self> {
        if text.len() as u64 > MAX_BYTES {
            return Err(Error::usage(format!(
                "understand it: it has more than {MAX_BYTES} bytes"
            )));
        }
        let config: Config = serde_yaml::from_str(text).map_err(|error| {
            Error::usage(format!("understand it: {error}")).hint("the README lists every field of infra.yml")
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let wrong = |field: &str, found: &str, want: &str| {
            Err(Error::usage(format!("accept `{field}`: {found:?} is not {want}"))
                .hint(format!("correct `{field}` in infra.yml")))
        };
        if !is_name(&self.name, 32) {
            return wrong(
                "name",
                &self.name,
                "1 to 32 lower-case letters, digits and hyphens that begin with a letter",
            );
        }
        let named = [
            self.source.config_var.is_some(),
            self.source.url_env.is_some(),
            self.source.none,
        ];
        if named.iter().filter(|named| **named).count() != 1 {
            return Err(Error::usage(
                "accept `source`: it needs one of `config_var`, `url_env` and `none: true`, and no more",
            )
            .hint("name the app's config var that holds the add-on's URL: `source: {config_var: REDIS_URL}`"));
        }
        if let Some(pin) = &self.source.tls_pin {
            let digest = pin.strip_prefix("sha256:").unwrap_or("");
            if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
                return wrong("source.tls_pin", pin, "`sha256:` and 64 hexadecimal digits");
            }
        }
        if self.hosts.reach == Reach::Private {
            return Err(Error::usage(
                "accept `hosts.reach: private`: hosts are reached at their public addresses in this version",
            )
            .hint("leave `hosts.reach` out; `hosts.admin_cidrs` says who gets in there"));
        }
        match (self.app.platform, &self.app.commands) {
            (PlatformKind::Heroku, Some(_)) => {
                return Err(Error::usage(
                    "accept `app.commands`: they are for `app.platform: command`, and this app runs on heroku",
                )
                .hint("set `app.platform: command`, or remove `app.commands`"));
            }
            (PlatformKind::Command, None) => {
                return Err(Error::usage("accept `app.platform: command`: `app.commands` is missing")
                    .hint("name the commands `read`, `set` and `verify` under `app.commands`: the README says what each gets and prints"));
            }
            (PlatformKind::Command, Some(_)) if !self.app.also.is_empty() => {
                return Err(
                    Error::usage("accept `app.also`: several apps can move together on heroku only")
                        .hint("let the commands of `app.commands` serve all of them"),
                );
            }
            (PlatformKind::Command, Some(_)) if self.region.is_none() => {
                return Err(Error::usage("accept `app.platform: command`: `region` is missing")
                    .hint("name the AWS region nearest to the app: no platform tells it here"));
            }
            _ => {}
        }
        if self.app.also.contains(&self.app.name) {
            return wrong("app.also", &self.app.name, "another app than `app.name`");
        }
        if !is_var(&self.app.config_var) {
            return wrong("app.config_var", &self.app.config_var, "a config var's name");
        }
        for (field, cidrs) in [
            ("hosts.admin_cidrs", &self.hosts.admin_cidrs),
            ("hosts.app_cidrs", &self.hosts.app_cidrs),
        ] {
            if let Some(cidr) = cidrs.iter().flatten().find(|cidr| !is_cidr(cidr)) {
                return wrong(field, cidr, "an IPv4 block such as 203.0.113.7/32");
            }
        }
        if let Some(domain) = &self.hosts.domain
            && !is_domain(domain)
        {
            return wrong("hosts.domain", domain, "a domain name such as redis.example.com");
        }
        if !(8..=16_384).contains(&self.hosts.disk_gb) {
            return wrong("hosts.disk_gb", &self.hosts.disk_gb.to_string(), "between 8 and 16384");
        }
        if !self.hosts.zones.is_empty() && self.hosts.zones.len() != 2 {
            return wrong(
                "hosts.zones",
                &self.hosts.zones.join(", "),
                "two letters, the master's zone first",
            );
        }
        if let Some(maxmemory) = &self.redis.maxmemory
            && parse_memory(maxmemory).is_none()
        {
            return wrong("redis.maxmemory", maxmemory, "an amount such as 400mb");
        }
        if let Some(name) = self
            .redis
            .settings
            .keys()
            .find(|name| OWN_SETTINGS.contains(&name.as_str()))
        {
            return Err(
                Error::usage(format!("accept `redis.settings.{name}`: the tool sets it itself"))
                    .hint(format!("remove `{name}` from `redis.settings`")),
            );
        }
        for command in &self.redis.app_commands {
            if !is_command(command) {
                return wrong(
                    "redis.app_commands",
                    command,
                    "a command in lower case such as keys or client|list",
                );
            }
            if OWN_COMMANDS.contains(&command.split('|').next().unwrap_or_default()) {
                return Err(Error::usage(format!(
                    "accept `redis.app_commands`: {command} changes who may do what, where data is kept or who follows whom"
                ))
                .hint("an app does not need it; `infra redis-cli` is there for you"));
            }
        }
        for (field, patterns) in [
            ("redis.app_keys", &self.redis.app_keys),
            ("redis.app_channels", &self.redis.app_channels),
        ] {
            if let Some(pattern) = patterns.iter().find(|pattern| !is_pattern(pattern)) {
                return wrong(field, pattern, "one word without spaces, such as shop:*");
            }
        }
        for app in &self.app.also {
            if app.is_empty() || app.contains(['/', ' ']) {
                return wrong("app.also", app, "the name of another app");
            }
        }
        if parse_period(&self.backup.every).is_none() {
            return wrong("backup.every", &self.backup.every, "a period such as 1h or 30m");
        }
        if !(1..=3600).contains(&self.backup.rpo_s) {
            return wrong(
                "backup.rpo_s",
                &self.backup.rpo_s.to_string(),
                "between 1 and 3600 seconds",
            );
        }
        // S3's own limit is a hundred years, which nobody could undo.
        if let Some(lock) = self.backup.object_lock.filter(|lock| !(1..=3650).contains(&lock.days)) {
            return wrong(
                "backup.object_lock.days",
                &lock.days.to_string(),
                "between 1 and 3650 days",
            );
        }
        if !(16..=65_536).contains(&self.backup.backlog_mb) {
            return wrong(
                "backup.backlog_mb",
                &self.backup.backlog_mb.to_string(),
                "between 16 and 65536 MiB",
            );
        }
        Ok(())
    }

    /// Returns the time between two bases, in seconds.
    pub fn backup_period_s(&self) -> u64 {
        parse_period(&self.backup.every).unwrap_or(3600)
    }
}

/// Writes the source's pin into the file and keeps the rest, comments too. Returns false if
/// `source` has a form that no line can be added to.
pub fn write_pin(path: &Path, pin: &str) -> Result<bool> {
    let text = std::fs::read_to_string(path).doing(|| format!("read {}", path.display()))?;
    let Some(pinned) = with_pin(&text, pin) else {
        return Ok(false);
    };
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).doing(|| format!("write {}", path.display()))?;
    std::io::Write::write_all(&mut file, pinned.as_bytes()).doing(|| format!("write {}", path.display()))?;
    if let Ok(there) = std::fs::metadata(path) {
        file.as_file()
            .set_permissions(there.permissions())
            .doing(|| format!("write {}", path.display()))?;
    }
    file.persist(path)
        .map_err(|error| error.error)
        .doing(|| format!("write {}", path.display()))?;
    Ok(true)
}

/// Returns the text with the pin, if it parses with that pin.
fn with_pin(text: &str, pin: &str) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    if let Some(line) = lines.iter_mut().find(|line| line.trim_start().starts_with("tls_pin:")) {
        let indent = line.len() - line.trim_start().len();
        *line = format!("{}tls_pin: {pin}", " ".repeat(indent));
    } else {
        let at = lines.iter().position(|line| line.starts_with("source:"))?;
        if let Some(close) = lines[at].rfind('}') {
            lines[at].insert_str(close, &format!(", tls_pin: \"{pin}\""));
        } else {
            lines.insert(at + 1, format!("  tls_pin: {pin}"));
        }
    }
    let pinned = lines.join("\n") + "\n";
    let read = Config::parse(&pinned).ok()?;
    (read.source.tls_pin.as_deref() == Some(pin)).then_some(pinned)
}

/// Settings of redis.conf that belong to the tool, since its promises depend on them.
const OWN_SETTINGS: [&str; 16] = [
    "replicaof",
    "slaveof",
    "masterauth",
    "masteruser",
    "requirepass",
    "aclfile",
    "port",
    "tls-port",
    "tls-replication",
    "tls-cert-file",
    "tls-key-file",
    "tls-ca-cert-file",
    "dir",
    "appendonly",
    "appenddirname",
    "replica-read-only",
];

/// The commands of a platform. `sh -c` runs each, with the app's name in INFRA_APP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppCommands {
    /// Prints the app's vars on stdout, as a JSON object of names and values.
    pub read: String,
    /// Gets a JSON object of names and values on stdin and sets all in one change; null removes.
    pub set: String,
    /// Ends with 0 when every process of the app runs with the present vars.
    pub verify: String,
    /// Restarts the app's processes with the present vars.
    pub restart: Option<String>,
    /// Stops every process of the app; only for a source that cannot be paused.
    pub stop: Option<String>,
    /// Starts the processes again.
    pub start: Option<String>,
}

/// Commands that no app may have, since the promises of the pair depend on them.
const OWN_COMMANDS: [&str; 16] = [
    "acl",
    "bgrewriteaof",
    "bgsave",
    "cluster",
    "config",
    "debug",
    "failover",
    "module",
    "psync",
    "replconf",
    "replicaof",
    "restore-asking",
    "save",
    "shutdown",
    "slaveof",
    "sync",
];

/// Returns the bytes of an amount in redis.conf's form: `400mb`, `1gb`, `1048576`.
pub fn parse_memory(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: u64 = match unit {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)
        .filter(|bytes| *bytes > 0)
}

fn parse_period(text: &str) -> Option<u64> {
    let (digits, factor) = match text.chars().last()? {
        'h' => (&text[..text.len() - 1], 3600),
        'm' => (&text[..text.len() - 1], 60),
        _ => return None,
    };
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)
        .filter(|seconds| (300..=86_400).contains(seconds))
}

/// Returns true if the text fits into names of buckets, roles and tags.
pub fn is_name(text: &str, longest: usize) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    first
        && text.len() <= longest
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_var(text: &str) -> bool {
    !text.is_empty()
        && !text.as_bytes()[0].is_ascii_digit()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Returns true if the pattern is one word of users.acl.
fn is_pattern(pattern: &str) -> bool {
    let rule = pattern.strip_prefix("%R~").or(pattern.strip_prefix("%W~"));
    let rule = rule.unwrap_or(pattern);
    !rule.is_empty() && rule.len() <= 512 && rule.chars().all(|c| !c.is_whitespace() && !c.is_control())
}

/// Returns true for a name of several labels, as certificates have it; no address, no wildcard.
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = text.len() <= 253 && text.contains('.') && text.split('.').all(label);
    is_name && text.parse::<std::net::IpAddr>().is_err()
}

fn is_command(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'|' | b'-' | b'_' | b'.'))
}

fn is_cidr(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, bits)| {
        address.parse::<std::net::Ipv4Addr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= 32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = "name: demo\nsource: {config_var: REDIS_URL}\napp: {name: demo}\n";

    #[test]
    fn the_smallest_file_gets_the_documented_defaults() {
        let config = Config::parse(SMALLEST).unwrap();
        assert_eq!(config.hosts.instance_type, "t3.micro");
        assert_eq!(config.hosts.image, "debian-13");
        assert_eq!(config.app.ca_config_var(), "REDIS_CA");
        assert_eq!(config.backup_period_s(), 3600);
        assert_eq!(config.hosts.admin_cidrs, None);
    }

    #[test]
    fn an_empty_list_and_a_missing_one_differ() {
        let config = Config::parse(&format!("{SMALLEST}hosts: {{admin_cidrs: []}}\n")).unwrap();
        assert_eq!(config.hosts.admin_cidrs, Some(Vec::new()));
        assert_eq!(config.hosts.app_cidrs, None);
    }

    #[test]
    fn the_error_for_a_wrong_field_names_it_and_its_value() {
        for (extra, field) in [
            ("hosts: {disk_gb: 2}", "hosts.disk_gb"),
            ("hosts: {admin_cidrs: [everyone]}", "hosts.admin_cidrs"),
            ("redis: {maxmemory: lots}", "redis.maxmemory"),
            ("redis: {settings: {replicaof: 'a 1'}}", "replicaof"),
            ("redis: {app_commands: [KEYS]}", "redis.app_commands"),
            ("redis: {app_keys: ['shop:* +@all']}", "redis.app_keys"),
            ("redis: {app_channels: ['']}", "redis.app_channels"),
            ("hosts: {domain: 10.77.0.1}", "hosts.domain"),
            ("hosts: {domain: '*.example.com'}", "hosts.domain"),
            ("redis: {app_commands: [keys, config|set]}", "config|set"),
            ("backup: {every: 3 days}", "backup.every"),
            ("backup: {rpo_s: 0}", "backup.rpo_s"),
            ("backup: {backlog_mb: 1}", "backup.backlog_mb"),
            (
                "backup: {object_lock: {mode: compliance, days: 0}}",
                "backup.object_lock.days",
            ),
            ("backup: {object_lock: {mode: strict, days: 3}}", "strict"),
            ("hosts: {instance_typ: t3.micro}", "instance_typ"),
        ] {
            let error = Config::parse(&format!("{SMALLEST}{extra}\n")).unwrap_err();
            assert_eq!(error.kind(), crate::model::error::Kind::Usage);
            assert!(error.to_string().contains(field), "{error} should name {field}");
        }
    }

    #[test]
    fn a_pin_is_added_or_replaced_and_the_rest_stays() {
        let pin = format!("sha256:{}", "ab".repeat(32));
        let block = "# ours\nname: demo\nsource:\n  config_var: REDIS_URL # theirs\napp: {name: demo}\n";
        for text in [SMALLEST, block] {
            let pinned = with_pin(text, &pin).unwrap();
            assert_eq!(Config::parse(&pinned).unwrap().source.tls_pin, Some(pin.clone()));
            let again = format!("sha256:{}", "cd".repeat(32));
            if text == block {
                assert!(pinned.contains("# theirs") && pinned.starts_with("# ours"));
                let replaced = with_pin(&pinned, &again).unwrap();
                assert_eq!(Config::parse(&replaced).unwrap().source.tls_pin, Some(again));
            }
        }
        assert_eq!(with_pin("source: &anchor\n", &pin), None);
    }

    #[test]
    fn amounts_of_memory_are_read_as_redis_reads_them() {
        assert_eq!(parse_memory("400mb"), Some(400 << 20));
        assert_eq!(parse_memory("1GB"), Some(1 << 30));
        assert_eq!(parse_memory("10k"), Some(10_000));
        assert_eq!(parse_memory("mb"), None);
        assert_eq!(parse_memory("99999999999999999999gb"), None);
    }
}
