//! Refuses values of `infra.yml` that cannot be meant. Each refusal names its field.

use super::fields::{App, Backup, Config, Hosts, Monitoring, PlatformKind, Reach, Redis, Source};
use super::values::{is_command, is_domain, is_pattern, is_var};
use crate::model::error::{Error, Result};
use crate::model::values::Cidr;
use std::ops::RangeInclusive;

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

/// Returns true if `redis.app_commands` may name this command or subcommand.
pub fn is_for_apps(command: &str) -> bool {
    !OWN_COMMANDS.contains(&command.split('|').next().unwrap_or_default())
}

pub(super) fn check(config: &Config) -> Result<()> {
    source(&config.source)?;
    app(&config.app)?;
    commands(&config.app, config.region.as_deref())?;
    hosts(&config.hosts)?;
    redis(&config.redis)?;
    app_commands(&config.redis.app_commands)?;
    backup(&config.backup)?;
    monitoring(&config.monitoring)
}

fn wrong(field: &str, found: &str, want: &str) -> Result<()> {
    Err(Error::usage(format!("accept `{field}`: {found:?} is not {want}"))
        .hint(format!("correct `{field}` in infra.yml")))
}

fn within(field: &str, found: u64, range: RangeInclusive<u64>, unit: &str) -> Result<()> {
    if range.contains(&found) {
        return Ok(());
    }
    let want = format!("between {} and {}{unit}", range.start(), range.end());
    wrong(field, &found.to_string(), &want)
}

fn source(source: &Source) -> Result<()> {
    let named = [source.config_var.is_some(), source.url_env.is_some(), source.none];
    if named.iter().filter(|named| **named).count() != 1 {
        return Err(Error::usage(
            "accept `source`: it needs one of `config_var`, `url_env` and `none: true`, and no more",
        )
        .hint("name the app's config var that holds the add-on's URL: `source: {config_var: REDIS_URL}`"));
    }
    let slowest = 64 << 10;
    if source.copy_rate.0 < slowest {
        return wrong(
            "source.copy_rate",
            &source.copy_rate.0.to_string(),
            "at least 64kb a second",
        );
    }
    if source.leave_out.iter().any(String::is_empty) {
        return wrong(
            "source.leave_out",
            "",
            "the beginning of a name: it would leave out every key",
        );
    }
    if source.tls_pin.is_some() && source.tls.is_some() {
        return Err(
            Error::usage("accept `source`: `tls: verify` and `tls_pin` are two ways to trust one certificate")
                .hint("remove one of them from infra.yml; docs/sources.md compares them"),
        );
    }
    Ok(())
}

fn app(app: &App) -> Result<()> {
    if app.also.contains(&app.name) {
        return wrong("app.also", &app.name, "another app than `app.name`");
    }
    if !is_var(&app.config_var) {
        return wrong("app.config_var", &app.config_var, "a config var's name");
    }
    for other in &app.also {
        if other.is_empty() || other.contains(['/', ' ']) {
            return wrong("app.also", other, "the name of another app");
        }
    }
    Ok(())
}

fn commands(app: &App, region: Option<&str>) -> Result<()> {
    match (app.platform, &app.commands) {
        (PlatformKind::Heroku, None) => Ok(()),
        (PlatformKind::Heroku, Some(_)) => Err(Error::usage(
            "accept `app.commands`: they are for `app.platform: command`, and this app runs on heroku",
        )
        .hint("set `app.platform: command`, or remove `app.commands`")),
        (PlatformKind::Command, None) => Err(Error::usage(
            "accept `app.platform: command`: `app.commands` is missing",
        )
        .hint("name the commands `read`, `set` and `verify` under `app.commands`: docs/cutover.md says what each gets and prints")),
        (PlatformKind::Command, Some(_)) if !app.also.is_empty() => Err(Error::usage(
            "accept `app.also`: several apps can move together on heroku only",
        )
        .hint("let the commands of `app.commands` serve all of them")),
        (PlatformKind::Command, Some(_)) if region.is_none() => Err(Error::usage(
            "accept `app.platform: command`: `region` is missing",
        )
        .hint("name the AWS region nearest to the app: no platform tells it here")),
        (PlatformKind::Command, Some(_)) => Ok(()),
    }
}

fn hosts(hosts: &Hosts) -> Result<()> {
    if hosts.reach == Reach::Private {
        return Err(Error::usage(
            "accept `hosts.reach: private`: hosts are reached at their public addresses in this version",
        )
        .hint("leave `hosts.reach` out; `hosts.admin_cidrs` says who gets in there"));
    }
    if let Some(domain) = hosts.domain.as_ref().filter(|domain| !is_domain(domain)) {
        return wrong("hosts.domain", domain, "a domain name such as redis.example.com");
    }
    if !hosts.zones.is_empty() && hosts.zones.len() != 2 {
        let want = "two letters, the master's zone first";
        return wrong("hosts.zones", &hosts.zones.join(", "), want);
    }
    within("hosts.disk_gb", hosts.disk_gb.into(), 8..=16_384, "")
}

fn redis(redis: &Redis) -> Result<()> {
    if let Some(name) = redis.settings.keys().find(|name| OWN_SETTINGS.contains(&name.as_str())) {
        return Err(
            Error::usage(format!("accept `redis.settings.{name}`: the tool sets it itself"))
                .hint(format!("remove `{name}` from `redis.settings`")),
        );
    }
    for (field, patterns) in [
        ("redis.app_keys", &redis.app_keys),
        ("redis.app_channels", &redis.app_channels),
    ] {
        if let Some(pattern) = patterns.iter().find(|pattern| !is_pattern(pattern)) {
            return wrong(field, pattern, "one word without spaces, such as shop:*");
        }
    }
    Ok(())
}

fn app_commands(commands: &[String]) -> Result<()> {
    for command in commands {
        if !is_command(command) {
            return wrong(
                "redis.app_commands",
                command,
                "a command in lower case such as keys or client|list",
            );
        }
        if !is_for_apps(command) {
            return Err(Error::usage(format!(
                "accept `redis.app_commands`: {command} changes who may do what, where data is kept or who follows whom"
            ))
            .hint("an app does not need it; `infra redis-cli` is there for you"));
        }
    }
    Ok(())
}

fn monitoring(monitoring: &Monitoring) -> Result<()> {
    let field = "monitoring.scrape_cidrs";
    match monitoring.scrape_cidrs.first() {
        Some(first) if !monitoring.exporters => {
            wrong(field, &first.to_string(), "of use without `monitoring.exporters: true`")
        }
        _ if monitoring.scrape_cidrs.contains(&Cidr::WORLD) => wrong(
            field,
            &Cidr::WORLD.to_string(),
            "a block of your own: exporters know no login",
        ),
        _ => Ok(()),
    }
}

fn backup(backup: &Backup) -> Result<()> {
    within("backup.every", backup.every.0.as_secs(), 300..=86_400, " seconds")?;
    within("backup.rpo_s", backup.rpo_s, 1..=3600, " seconds")?;
    // S3's own limit is a hundred years, which nobody could undo.
    if let Some(lock) = backup.object_lock {
        within("backup.object_lock.days", lock.days.into(), 1..=3650, " days")?;
    }
    within("backup.backlog_mb", backup.backlog_mb, 16..=65_536, " MiB")
}
