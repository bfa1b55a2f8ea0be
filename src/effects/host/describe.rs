//! Makes the description of a host from its settings.

use super::description::{Content, Description, Directory, File, Reaction, Sysctl, Unit, root_file};
use super::engine::Layout;
use super::settings::{CopyAccess, MODULE_FILE, Position, Settings};
use super::{backup, copy, exporters, lockdown, redis_conf, templates, tunnel, users};
use crate::model::error::Result;

/// A folder of modules for the engine, beside the distribution's own.
const MODULE_FOLDER: &str = "/usr/local/lib/infra";
impl Settings {
    /// Returns whether the copy may write to this host's engine.
    fn copy_access(&self) -> CopyAccess {
        match self.position {
            Position::CopiesSource(_) => CopyAccess::Open,
            Position::FollowsSource(_) | Position::Master | Position::FollowsMaster { .. } => CopyAccess::Closed,
        }
    }

    pub fn describe(&self) -> Result<Description> {
        let layout = self.layout();
        let mut description = Description {
            label: self.label.clone(),
            engine: layout,
            // The agent needs the public authorities to trust S3.
            packages: [layout.server_package, layout.tools_package, "ca-certificates"]
                .map(String::from)
                .to_vec(),
            directories: self.directories(&layout),
            files: self.files(&layout)?,
            sysctls: sysctls(),
            units: vec![
                Unit {
                    enabled: self.restored_by.is_none(),
                    active: Some(self.restored_by.is_none()),
                    ..Unit::running(layout.unit)
                },
                Unit {
                    active: None,
                    ..Unit::running("infra-huge-pages.service")
                },
            ],
            source: None,
            demoted: false,
        };
        lockdown::describe(self.exporters, &mut description);
        if let Some(settings) = &self.backup {
            exporters::describe(self.exporters, &self.passwords, &self.authority, &mut description)?;
            backup::describe(
                settings,
                &self.label,
                &layout,
                &self.passwords.backup.used,
                &mut description,
            )?;
            let (position, agent) = (&self.position, &settings.agent);
            tunnel::describe(position, agent, &layout, &mut description)?;
            copy::describe(
                position,
                &self.passwords,
                self.maxmemory,
                agent,
                &layout,
                &mut description,
            )?;
        }
        if let Some(agent) = &self.restored_by {
            description.files.extend(backup::restoring(agent, None));
        }
        Ok(description)
    }

    fn directories(&self, layout: &Layout) -> Vec<Directory> {
        vec![
            Directory::of_root("/etc/infra", "root", 0o700),
            // The engine may not change its settings, so only `infra` decides the role.
            Directory::of_root(layout.config_folder, layout.user, 0o750),
            Directory::of_root(&format!("{}/tls", layout.config_folder), layout.user, 0o750),
            Directory::of_root(&format!("/etc/systemd/system/{}.d", layout.unit), "root", 0o755),
            Directory::of_root(MODULE_FOLDER, "root", 0o755),
        ]
    }

    fn files(&self, layout: &Layout) -> Result<Vec<File>> {
        let engine_file = |path: &str, content: Content, on_change| File {
            group: layout.user.into(),
            ..root_file(path, 0o640, content, Some(on_change))
        };
        let mut authorities = self.authority.trim_end().to_string() + "\n";
        if let Some(source) = &self.source_certificate {
            authorities += source.trim_end();
            authorities.push('\n');
        }
        Ok(vec![
            root_file(
                "/etc/infra/host.env",
                0o600,
                templates::render(
                    "host.env",
                    templates::HOST_ENV,
                    &HostEnv {
                        layout: *layout,
                        endpoint: self.endpoint.as_deref().unwrap_or_default(),
                    },
                )?,
                None,
            ),
            root_file(
                "/etc/infra/admin.password",
                0o600,
                self.passwords.admin.used.clone(),
                None,
            ),
            root_file(
                "/etc/sysctl.d/60-infra.conf",
                0o644,
                templates::SYSCTL,
                Some(Reaction::LoadSysctls),
            ),
            root_file(
                "/etc/systemd/system/infra-huge-pages.service",
                0o644,
                templates::HUGE_PAGES_UNIT,
                Some(Reaction::ReloadUnits),
            ),
            // The running engine keeps its module; `upkeep` reports that it needs a restart.
            root_file(MODULE_FILE, 0o755, self.module.clone(), None),
            root_file("/usr/local/sbin/infra-guard", 0o755, templates::GUARD, None),
            root_file("/usr/local/sbin/infra-role", 0o755, templates::ROLE, None),
            root_file(
                &format!("/etc/systemd/system/{}.d/infra.conf", layout.unit),
                0o644,
                templates::render("the engine's unit", templates::ENGINE_DROP_IN, layout)?,
                // systemd sets limits only at a start of the engine, and they hardly ever change.
                Some(Reaction::RestartEngine),
            ),
            root_file(
                &format!("/etc/systemd/system/{}.d/infra-starts.conf", layout.unit),
                0o644,
                templates::ENGINE_STARTS,
                Some(Reaction::ReloadUnits),
            ),
            engine_file(layout.authorities_file, authorities.into(), Reaction::LoadCertificates),
            engine_file(
                layout.certificate_file,
                self.certificate.clone().into(),
                Reaction::LoadCertificates,
            ),
            engine_file(
                layout.key_file,
                self.certificate_key.clone().into(),
                Reaction::LoadCertificates,
            ),
            engine_file(
                layout.users_file,
                users::render(&self.passwords, self.app_access, self.copy_access(), &self.app)?.into(),
                Reaction::LoadUsers,
            ),
            engine_file(
                layout.config_file,
                redis_conf::render(self)?.into(),
                Reaction::Configure,
            ),
        ])
    }
}

/// The values of the file that the scripts of a host read.
#[derive(serde::Serialize)]
struct HostEnv<'a> {
    #[serde(flatten)]
    layout: Layout,
    endpoint: &'a str,
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
