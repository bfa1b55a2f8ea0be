//! Reads `infra.yml`.

use super::check;
use super::fields::Config;
use crate::model::error::{Error, Result};
use crate::model::files;
use std::path::Path;

/// More than any person writes. It also bounds YAML aliases, which can repeat content.
const MAX_BYTES: u64 = 32 * 1024;

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
            return Err(Error::usage(format!("it has more than {MAX_BYTES} bytes")));
        }
        let config: Config = serde_yaml::from_str(text).map_err(|error| {
            Error::usage(error.to_string()).hint("docs/configuration.md lists every field of infra.yml")
        })?;
        check::check(&config)?;
        Ok(config)
    }
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
            ("backup: {every: 25h}", "backup.every"),
            ("backup: {rpo_s: 0}", "backup.rpo_s"),
            ("backup: {backlog_mb: 1}", "backup.backlog_mb"),
            (
                "backup: {object_lock: {mode: compliance, days: 0}}",
                "backup.object_lock.days",
            ),
            ("backup: {object_lock: {mode: strict, days: 3}}", "strict"),
            ("monitoring: {scrape_cidrs: [192.0.2.5/32]}", "monitoring.exporters"),
            (
                "monitoring: {exporters: true, scrape_cidrs: [0.0.0.0/0]}",
                "monitoring.scrape_cidrs",
            ),
            ("hosts: {instance_typ: t3.micro}", "instance_typ"),
        ] {
            let error = Config::parse(&format!("{SMALLEST}{extra}\n")).unwrap_err();
            assert_eq!(error.kind(), crate::model::error::Kind::Usage);
            assert!(error.to_string().contains(field), "{error} should name {field}");
        }
    }

    #[test]
    fn a_source_is_verified_unless_it_is_pinned() {
        let with = |fields: &str| {
            Config::parse(&SMALLEST.replace("REDIS_URL", &format!("REDIS_URL, {fields}")))
                .map(|config| config.source.policy())
        };
        let pin = format!("sha256:{}", "ab".repeat(32));
        for verified in ["none: false", "tls: verify"] {
            assert_eq!(with(verified).unwrap(), trust::Policy::Verify);
        }
        assert_eq!(with(&format!("tls_pin: '{pin}'")).unwrap().to_string(), pin);
        let both = format!("tls: verify, tls_pin: '{pin}'");
        for (wrong, named) in [
            (both.as_str(), "tls_pin"),
            ("tls: any", "any"),
            ("tls_pin: sha256:ab", "source.tls_pin"),
        ] {
            let error = with(wrong).unwrap_err();
            assert_eq!(error.kind(), crate::model::error::Kind::Usage);
            assert!(error.to_string().contains(named), "{error} should name {named}");
        }
    }
}
