//! Makes the description of a host from its settings.

use super::description::{Content, Description, Directory, File, Reaction, Sysctl, Unit, root_file};
use super::engine::Layout;
use super::settings::{MODULE_FILE, Settings};
use super::{backup, lockdown, redis_conf, templates, users};
use crate::model::error::Result;
use serde::Serialize;

/// A folder of modules for the engine, beside the distribution's own.
const MODULE_FOLDER: &str = "/usr/local/lib/infra";
impl Settings {
    pub fn describe(&self) -> Result<Description> {
        let layout = self.layout();
        let mut description = Description {
            label: self.label.clone(),
            engine: layout,
            // Without authorities of the public kind the agent trusts no S3.
            packages: [layout.server_package, layout.tools_package, "ca-certificates"]
                .map(String::from)
                .to_vec(),
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
            // The engine may not change its settings, so only `infra` decides the role.
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
                // The running engine keeps its module; `upkeep` reports that it needs a restart.
                ..root_file(MODULE_FILE, 0o755, String::new(), None)
            },
            root_file("/usr/local/sbin/infra-guard", 0o755, templates::GUARD.into(), None),
            root_file("/usr/local/sbin/infra-role", 0o755, templates::ROLE.into(), None),
            root_file(
                &format!("/etc/systemd/system/{}.d/infra.conf", layout.unit),
                0o644,
                templates::render("the engine's unit", templates::ENGINE_DROP_IN, &Names::of(layout))?,
                // systemd sets limits only at a start of the engine, and they hardly ever change.
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
                Content::Secret(users::render(&self.passwords, self.app_access, &self.app)?),
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

/// The engine's names for the templates.
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

/// Returns the kernel settings of the file that keeps them over a reboot: there is one list.
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
