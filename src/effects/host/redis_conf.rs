//! Renders redis.conf, and finds what a change of it needs. Pure.

use super::engine::Layout;
use super::settings::{MODULE_FILE, Position, Settings, Upstream};
use super::{templates, tunnel};
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use serde::Serialize;
use std::collections::BTreeMap;

/// Returns the whole file. It holds the upstream's password, so it is never shown.
pub fn render(settings: &Settings) -> Result<Secret> {
    for (name, value) in &settings.settings {
        let well_formed = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !well_formed || value.contains(['\n', '\r', '\0']) {
            return Err(Error::usage(format!(
                "accept `redis.settings.{name}`: a setting is one word and a value on one line"
            )));
        }
    }
    let (role, upstream, tls_replication) = match &settings.position {
        // Redis speaks plainly to the tunnel, and to a source without TLS.
        Position::FollowsSource(source) => {
            let mut upstream = RenderedUpstream::of(source)?;
            if source.trust.is_some() {
                (upstream.host, upstream.port) = (tunnel::HOST.into(), tunnel::PORT);
            }
            ("follows-source", Some(upstream), false)
        }
        Position::FollowsMaster { address } => {
            let master = Upstream::master(address, &settings.passwords.replication.used);
            ("follows-master", Some(RenderedUpstream::of(&master)?), true)
        }
        Position::CopiesSource(_) => ("copies-source", None, true),
        Position::Master => ("master", None, true),
    };
    let values = Values {
        layout: settings.layout(),
        module_file: MODULE_FILE,
        replicas: settings
            .replicas
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" "),
        maxmemory: settings.maxmemory,
        settings: settings
            .settings
            .iter()
            .map(|(name, value)| Setting {
                name: name.clone(),
                value: if value.is_empty() { "\"\"".into() } else { value.clone() },
            })
            .collect(),
        copies: role == "copies-source",
        role,
        upstream,
        tls_replication: if tls_replication { "yes" } else { "no" },
    };
    templates::render("redis.conf", templates::REDIS_CONF, &values).map(Secret::new)
}

/// Returns the role section of a replica of the master at `address`, up to its end.
pub fn follower_section(address: &str, password: &Secret) -> Result<Secret> {
    let upstream = RenderedUpstream::of(&Upstream::master(address, password))?;
    let words = [upstream.user, upstream.password].map(Option::unwrap_or_default);
    let [user, password] = &words;
    Ok(Secret::new(format!(
        "# role: follows-master\nreplicaof {} {}\nmasteruser {user}\nmasterauth {password}\ntls-replication yes\n",
        upstream.host, upstream.port
    )))
}

#[derive(Serialize)]
struct Values {
    #[serde(flatten)]
    layout: Layout,
    module_file: &'static str,
    replicas: String,
    maxmemory: u64,
    settings: Vec<Setting>,
    copies: bool,
    role: &'static str,
    upstream: Option<RenderedUpstream>,
    tls_replication: &'static str,
}

#[derive(Serialize)]
struct Setting {
    name: String,
    value: String,
}

#[derive(Serialize)]
struct RenderedUpstream {
    host: String,
    port: u16,
    user: Option<String>,
    password: Option<String>,
}

impl RenderedUpstream {
    fn of(upstream: &Upstream) -> Result<Self> {
        if upstream.host.is_empty() || upstream.host.bytes().any(|b| b.is_ascii_whitespace() || b == b'"') {
            return Err(Error::usage(format!(
                "replicate from {:?}: it is no host name",
                upstream.host
            )));
        }
        Ok(RenderedUpstream {
            host: upstream.host.clone(),
            port: upstream.port,
            user: upstream.user.as_deref().map(quote),
            password: upstream.password.as_ref().map(|password| quote(password.expose())),
        })
    }
}

/// Quotes any bytes as one word for redis.conf and redis-cli.
pub fn quote(word: &str) -> String {
    use std::fmt::Write;
    let mut quoted = String::with_capacity(word.len() + 2);
    quoted.push('"');
    for byte in word.bytes() {
        match byte {
            b'"' | b'\\' => {
                quoted.push('\\');
                quoted.push(byte as char);
            }
            0x20..0x7f => quoted.push(byte as char),
            _ => {
                let _ = write!(quoted, "\\x{byte:02x}");
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Holds the actions that a change of redis.conf needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consequence {
    /// Names of changed settings that Redis reads only at its start.
    pub restart_for: Vec<String>,
    /// `CONFIG SET` of the others: name, and value as in the file.
    pub live: Vec<(String, Secret)>,
    /// True if the role section changed.
    pub role: bool,
}

impl Consequence {
    /// Returns the names of changed settings in brackets; empty for the whole file or none.
    pub fn names(&self) -> String {
        let mut names: Vec<&str> = self.live.iter().map(|(name, _)| name.as_str()).collect();
        names.extend(self.restart_for.iter().map(String::as_str));
        if self.role {
            names.push("role");
        }
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            String::new()
        } else {
            format!(" ({})", names.join(", "))
        }
    }
}

/// Settings that Redis reads only at its start. Newer versions may take some of them live.
const AT_START: [&str; 29] = [
    "aclfile",
    "always-show-logo",
    "appenddirname",
    "appendfilename",
    "cluster-enabled",
    "daemonize",
    "databases",
    "dbfilename",
    "dir",
    "disable-thp",
    "enable-debug-command",
    "enable-module-command",
    "enable-protected-configs",
    "include",
    "io-threads",
    "io-threads-do-reads",
    "loadmodule",
    "logfile",
    "pidfile",
    "port",
    "rdbchecksum",
    "rename-command",
    "set-proc-title",
    "supervised",
    "tcp-backlog",
    "unixsocket",
    "unixsocketperm",
    "syslog-enabled",
    "bind",
];

/// Settings of the role, which `infra-role` applies in the right order.
const ROLE: [&str; 4] = ["replicaof", "masteruser", "masterauth", "tls-replication"];

/// Compares the file on the host with the wanted one. Without a file the engine has not run yet.
pub fn consequence(found: Option<&str>, wanted: &str) -> Consequence {
    let Some(found) = found else {
        return Consequence::default();
    };
    differences(&directives(found), &directives(wanted))
}

/// Returns every live setting, to bring a running engine to its file after a run that broke off.
pub fn everything(wanted: &str) -> Consequence {
    let mut consequence = differences(&BTreeMap::new(), &directives(wanted));
    consequence.restart_for.clear();
    consequence.role = true;
    consequence
}

/// Returns true if the file lets the engine follow a source directly, and by TLS.
pub fn follows_directly_by_tls(text: &str) -> bool {
    role_of(text) == Some("follows-source") && text.lines().any(|line| line == "tls-replication yes")
}

/// Returns the file's role, such as `follows-source` or `master`; `None` if not ours.
pub fn role_of(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("# role: "))
}

fn differences(found: &BTreeMap<String, Vec<String>>, wanted: &BTreeMap<String, Vec<String>>) -> Consequence {
    let mut consequence = Consequence::default();
    for (name, values) in wanted {
        if found.get(name) == Some(values) {
        } else if ROLE.contains(&name.as_str()) {
            consequence.role = true;
        } else if AT_START.contains(&name.as_str()) {
            consequence.restart_for.push(name.clone());
        } else {
            consequence.live.extend(
                values
                    .iter()
                    .map(|value| (name.clone(), Secret::new(live_value(name, value)))),
            );
        }
    }
    for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
        if ROLE.contains(&name.as_str()) {
            consequence.role = true;
        } else {
            // Only a start brings back Redis's own default.
            consequence.restart_for.push(name.clone());
        }
    }
    consequence
}

/// Returns a value as `CONFIG SET` takes it: one word, even if the file has several.
fn live_value(name: &str, value: &str) -> String {
    let several = matches!(
        name,
        "client-output-buffer-limit" | "save" | "bind" | "oom-score-adj-values"
    );
    if several && value.contains(' ') && !value.starts_with('"') {
        quote(value)
    } else {
        value.to_string()
    }
}

/// Returns settings by name, with every value of the few that may repeat.
fn directives(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut directives: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        directives
            .entry(name.to_ascii_lowercase())
            .or_default()
            .push(value.trim().to_string());
    }
    directives
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "maxmemory 100\nmaxmemory-policy noeviction\nport 0\nclient-output-buffer-limit replica 128mb 64mb 60\n# role: master\ntls-replication yes\n";

    #[test]
    fn an_equal_file_has_no_consequence() {
        assert_eq!(consequence(Some(BEFORE), BEFORE), Consequence::default());
        assert_eq!(consequence(None, BEFORE), Consequence::default());
    }

    #[test]
    fn memory_and_limits_are_set_live_and_a_port_is_not() {
        let after = BEFORE
            .replace("maxmemory 100", "maxmemory 200")
            .replace("128mb 64mb 60", "256mb 64mb 60")
            .replace("port 0", "port 1");
        let got = consequence(Some(BEFORE), &after);
        let live: Vec<_> = got
            .live
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()))
            .collect();
        assert_eq!(
            live,
            [
                ("client-output-buffer-limit", "\"replica 256mb 64mb 60\""),
                ("maxmemory", "200")
            ]
        );
        assert_eq!(got.restart_for, ["port"]);
        assert!(!got.role);
    }

    #[test]
    fn another_upstream_changes_the_role_and_needs_no_restart() {
        let after = BEFORE.to_string() + "replicaof 192.0.2.1 6379\n";
        let got = consequence(Some(BEFORE), &after);
        assert!(got.role && got.restart_for.is_empty() && got.live.is_empty());
        assert!(consequence(Some(&after), BEFORE).role);
    }

    #[test]
    fn a_removed_setting_needs_a_start() {
        let got = consequence(Some(&(BEFORE.to_string() + "hz 50\n")), BEFORE);
        assert_eq!(got.restart_for, ["hz"]);
    }

    #[test]
    fn passwords_of_any_bytes_stay_one_word() {
        assert_eq!(quote("a b\"c\\d\n#é"), r#""a b\"c\\d\x0a#\xc3\xa9""#);
    }
}
