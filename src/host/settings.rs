//! The values that a host depends on, and the description they make.

use super::description::{Content, Description, Directory, File, Reaction, Sysctl, Unit};
use super::engine::Layout;
use super::programs::Binary;
use super::{backup, lockdown, redis_conf, templates, users};
use crate::config::Engine;
use crate::error::Result;
use crate::secret::Secret;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Where the engine may load programs from beside the distribution's own folders.
const MODULE_FOLDER: &str = "/usr/local/lib/infra";
/// The module that the engine loads.
pub const MODULE_FILE: &str = "/usr/local/lib/infra/infra-module.so";

/// Everything that makes one host differ from another.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What messages call the host: `master` or `replica`.
    pub label: String,
    pub engine: Engine,
    pub position: Position,
    pub door: Door,
    /// Bytes.
    pub maxmemory: u64,
    /// Further lines of redis.conf: what the source has (`maxmemory-policy`, `notify-keyspace-events`, `databases`) under what `infra.yml` says.
    pub settings: BTreeMap<String, String>,
    /// The environment's own authority, PEM.
    pub authority: String,
    /// The source's certificate, PEM, where the source speaks TLS; trusted beside the authority for as long as the environment knows a source.
    pub source_certificate: Option<String>,
    /// This host's certificate, PEM, and its key.
    pub certificate: String,
    pub certificate_key: Secret,
    pub passwords: Passwords,
    pub app: AppRights,
    /// Nothing: this host has no agent.
    pub backup: Option<backup::Settings>,
    /// For a host beside the pair, which gets its data by a restore: the agent that builds it. Its engine starts once there is data.
    pub restored_by: Option<Binary>,
    /// The module that asks from where a user logs in.
    pub module: Binary,
    /// Private addresses of the hosts that may replicate from this one.
    pub replicas: Vec<IpAddr>,
}

/// Passwords of the users of Redis on the pair; the same on both hosts.
#[derive(Clone, Debug)]
pub struct Passwords {
    pub app: Password,
    pub replication: Password,
    pub backup: Password,
    pub monitoring: Password,
    pub admin: Password,
}

/// What one user logs in with.
#[derive(Clone, Debug)]
pub struct Password {
    /// The one that the host itself uses.
    pub used: Secret,
    /// Another that is accepted too, while one takes the other's place.
    pub also: Option<Secret>,
}

impl Password {
    pub fn only(secret: Secret) -> Self {
        Password {
            used: secret,
            also: None,
        }
    }

    /// All that are accepted, in an order that does not depend on which is used: the file with them stays the same when that changes.
    pub fn accepted(&self) -> Vec<&Secret> {
        let mut all: Vec<&Secret> = [Some(&self.used), self.also.as_ref()].into_iter().flatten().collect();
        all.sort_unstable_by(|one, other| one.expose().cmp(other.expose()));
        // The one in use is the new one already, where a rotation died between the two places that say so.
        all.dedup();
        all
    }
}

/// What the app may do beyond what every app may, and where.
#[derive(Clone, Debug, Default)]
pub struct AppRights {
    /// Commands beyond the usual ones: `redis.app_commands` of infra.yml.
    pub commands: Vec<String>,
    /// Patterns of the keys that it may use; empty: all. `redis.app_keys`.
    pub keys: Vec<String>,
    /// Patterns of the channels that it may use; empty: all. `redis.app_channels`.
    pub channels: Vec<String>,
}

/// Whom a host replicates from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// Before the cutover: the master follows the hosted Redis.
    FollowsSource(Upstream),
    /// After it: nobody.
    Master,
    /// The replica follows the master, over TLS as the user `replication`.
    FollowsMaster { address: String },
}

/// The source as something to replicate from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub host: String,
    pub port: u16,
    /// Nothing where the source knows only a password.
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub tls: bool,
}

/// What Redis may use of a machine where nobody says otherwise: two fifths, since a fork for a backup may have to copy as much again. Bytes, in steps of
/// 50 MiB where that leaves anything.
pub fn default_maxmemory(machine: u64) -> u64 {
    const STEP: u64 = 50 << 20;
    let share = machine / 5 * 2;
    if share < STEP { share } else { share / STEP * STEP }
}

/// Whether the app may log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Open,
    Closed,
}

impl Settings {
    pub fn layout(&self) -> Layout {
        Layout::of(self.engine)
    }

    /// The host as one value.
    pub fn describe(&self) -> Result<Description> {
        let layout = self.layout();
        let mut description = Description {
            label: self.label.clone(),
            engine: layout,
            packages: [layout.server_package, layout.tools_package].map(String::from).to_vec(),
            directories: self.directories(&layout),
            files: self.files(&layout)?,
            sysctls: sysctls(),
            units: vec![
                Unit {
                    name: layout.unit.into(),
                    enabled: self.restored_by.is_none(),
                    active: Some(self.restored_by.is_none()),
                },
                Unit {
                    name: "infra-huge-pages.service".into(),
                    enabled: true,
                    active: None,
                },
            ],
        };
        lockdown::describe(&mut description);
        if let Some(settings) = &self.backup {
            backup::describe(
                settings,
                &self.label,
                &layout,
                &self.passwords.backup.used,
                &mut description,
            )?;
        }
        if let Some(agent) = &self.restored_by {
            description.files.extend(backup::restoring(agent, None));
        }
        Ok(description)
    }

    fn directories(&self, layout: &Layout) -> Vec<Directory> {
        let directory = |path: &str, group: &str, mode| Directory {
            path: path.into(),
            owner: "root".into(),
            group: group.into(),
            mode,
        };
        vec![
            directory("/etc/infra", "root", 0o700),
            // The engine reads its settings and cannot alter them: a role that Redis rewrites by itself is a role that nobody wrote down.
            directory(layout.config_folder, layout.user, 0o750),
            directory(&format!("{}/tls", layout.config_folder), layout.user, 0o750),
            directory(&format!("/etc/systemd/system/{}.d", layout.unit), "root", 0o755),
            directory(MODULE_FOLDER, "root", 0o755),
        ]
    }

    fn files(&self, layout: &Layout) -> Result<Vec<File>> {
        let engine_file = |path: String, content, on_change| File {
            path,
            owner: "root".into(),
            group: layout.user.into(),
            mode: 0o640,
            content,
            on_change: Some(on_change),
        };
        let mut authorities = self.authority.trim_end().to_string() + "\n";
        if let Some(source) = &self.source_certificate {
            authorities += source.trim_end();
            authorities.push('\n');
        }
        Ok(vec![
            root_file("/etc/infra/host.env", 0o600, self.host_env(layout)?, None),
            File {
                content: Content::Secret(self.passwords.admin.used.clone()),
                ..root_file("/etc/infra/admin.password", 0o600, String::new(), None)
            },
            root_file(
                "/etc/sysctl.d/60-infra.conf",
                0o644,
                templates::SYSCTL.into(),
                Some(Reaction::LoadSysctls),
            ),
            root_file(
                "/etc/systemd/system/infra-huge-pages.service",
                0o644,
                templates::HUGE_PAGES_UNIT.into(),
                Some(Reaction::ReloadUnits),
            ),
            File {
                content: Content::Program(self.module.clone()),
                // The engine that runs keeps the one that it has: `upkeep` tells that a restart is wanted.
                ..root_file(MODULE_FILE, 0o755, String::new(), None)
            },
            root_file("/usr/local/sbin/infra-guard", 0o755, templates::GUARD.into(), None),
            root_file("/usr/local/sbin/infra-role", 0o755, templates::ROLE.into(), None),
            root_file(
                &format!("/etc/systemd/system/{}.d/infra.conf", layout.unit),
                0o644,
                templates::render("the engine's unit", templates::ENGINE_DROP_IN, &Names::of(layout))?,
                // systemd needs a restart of the engine for limits; they are set before its first start and hardly ever change.
                Some(Reaction::RestartEngine),
            ),
            engine_file(
                layout.authorities_file(),
                Content::Plain(authorities),
                Reaction::LoadCertificates,
            ),
            engine_file(
                layout.certificate_file(),
                Content::Plain(self.certificate.clone()),
                Reaction::LoadCertificates,
            ),
            engine_file(
                layout.key_file(),
                Content::Secret(self.certificate_key.clone()),
                Reaction::LoadCertificates,
            ),
            engine_file(
                layout.users_file(),
                Content::Secret(users::render(&self.passwords, self.door, &self.app)?),
                Reaction::LoadUsers,
            ),
            engine_file(
                layout.config_file.into(),
                Content::Secret(redis_conf::render(self)?),
                Reaction::Configure,
            ),
        ])
    }

    fn host_env(&self, layout: &Layout) -> Result<String> {
        templates::render("host.env", templates::HOST_ENV, &Names::of(layout))
    }
}

/// The engine's names, as the templates call them.
#[derive(Serialize)]
struct Names {
    unit: &'static str,
    user: &'static str,
    client: &'static str,
    rdb_check: &'static str,
    config_file: &'static str,
    users_file: String,
    data_folder: &'static str,
    socket: &'static str,
}

impl Names {
    fn of(layout: &Layout) -> Self {
        Names {
            unit: layout.unit,
            user: layout.user,
            client: layout.client,
            rdb_check: layout.rdb_check,
            config_file: layout.config_file,
            users_file: layout.users_file(),
            data_folder: layout.data_folder,
            socket: layout.socket,
        }
    }
}

/// A file that belongs to root alone.
pub(super) fn root_file(path: &str, mode: u32, text: String, on_change: Option<Reaction>) -> File {
    File {
        path: path.into(),
        owner: "root".into(),
        group: "root".into(),
        mode,
        content: Content::Plain(text),
        on_change,
    }
}

/// The kernel settings, read from the file that keeps them over a reboot, so that there is one list.
fn sysctls() -> Vec<Sysctl> {
    templates::SYSCTL
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| Sysctl {
            key: key.trim().into(),
            value: value.trim().into(),
        })
        .collect()
}
