//! The distribution's exporters for Prometheus: one for the machine, one for the engine. Pure.
//!
//! They speak plain HTTP and know no login. So they listen on loopback alone, or at the private address if
//! `monitoring.scrape_cidrs` names somebody; the security group lets in only those.

use super::description::{Content, Description, Directory, File, Reaction, Unit, root_file};
use super::settings::{Exporters, Passwords};
use super::templates;
use crate::model::cloud::{ENGINE_EXPORTER_PORT, MACHINE_EXPORTER_PORT, REDIS_PORT};
use crate::model::error::Result;
use crate::model::secret::Secret;
use crate::model::secrets::RedisUser;
use serde::Serialize;
use serde_json::json;
use std::net::SocketAddr;

const MACHINE: &str = "prometheus-node-exporter";
const ENGINE: &str = "prometheus-redis-exporter";
/// The group of the user that both packages make.
const GROUP: &str = "prometheus";
const FOLDER: &str = "/etc/infra-exporters";
pub(super) const LOGIN: &str = "/etc/infra-exporters/redis.json";
const AUTHORITY: &str = "/etc/infra-exporters/authority.crt";
/// Where the exporter of the machine reads further figures, as the distribution has it.
pub const TEXTFILES: &str = "/var/lib/prometheus/node-exporter";

/// Returns what ssh may forward to: nothing if others reach the exporters.
pub(super) fn forwarded(exporters: Exporters) -> Vec<SocketAddr> {
    if exporters.scraped {
        return Vec::new();
    }
    let ports = [MACHINE_EXPORTER_PORT, ENGINE_EXPORTER_PORT].map(as_port);
    ports.map(|port| SocketAddr::new(exporters.listens(), port)).to_vec()
}

fn as_port(port: i32) -> u16 {
    u16::try_from(port).unwrap_or_default()
}

#[derive(Serialize)]
struct Values<'a> {
    program: &'a str,
    arguments: Vec<String>,
    /// Figures of the machine need the view of the machine.
    sees_the_machine: bool,
}

/// Adds both exporters, or turns off those that an earlier run has installed.
pub(super) fn describe(
    exporters: Option<Exporters>,
    passwords: &Passwords,
    authority: &str,
    description: &mut Description,
) -> Result<()> {
    let units = [MACHINE, ENGINE].map(|name| Unit {
        name: unit(name),
        enabled: exporters.is_some(),
        active: Some(exporters.is_some()),
    });
    description.units.extend(units);
    let Some(exporters) = exporters else {
        return Ok(());
    };
    description.packages.extend([MACHINE, ENGINE].map(String::from));
    description.directories.extend([
        Directory::of_root(FOLDER, GROUP, 0o750),
        Directory::of_root(&folder_of(MACHINE), "root", 0o755),
        Directory::of_root(&folder_of(ENGINE), "root", 0o755),
    ]);
    let engine = SocketAddr::new(exporters.private, as_port(REDIS_PORT));
    let address = |port| SocketAddr::new(exporters.listens(), as_port(port));
    description.files.extend([
        drop_in(&Values {
            program: MACHINE,
            arguments: vec![
                format!("--web.listen-address={}", address(MACHINE_EXPORTER_PORT)),
                format!("--collector.textfile.directory={TEXTFILES}"),
                // It would ask systemd for every unit.
                "--no-collector.systemd".into(),
            ],
            sees_the_machine: true,
        })?,
        drop_in(&Values {
            program: ENGINE,
            arguments: vec![
                format!("-web.listen-address={}", address(ENGINE_EXPORTER_PORT)),
                format!("-redis.addr=rediss://{engine}"),
                format!("-redis.user={}", RedisUser::Monitoring.name()),
                format!("-redis.password-file={LOGIN}"),
                format!("-tls-ca-cert-file={AUTHORITY}"),
                // Its user may read no settings, and needs no name.
                "-config-command=-".into(),
                "-set-client-name=false".into(),
            ],
            sees_the_machine: false,
        })?,
        readable(LOGIN, login(engine, passwords)),
        readable(AUTHORITY, authority.trim_end().to_string() + "\n"),
    ]);
    Ok(())
}

/// Returns the password by the address with its user, which is the exporter's own form.
fn login(engine: SocketAddr, passwords: &Passwords) -> Secret {
    let address = format!("rediss://{}@{engine}", RedisUser::Monitoring.name());
    Secret::new(json!({ address: passwords.monitoring.used.expose() }).to_string())
}

/// Returns a file that the exporter of the engine may read.
fn readable(path: &str, content: impl Into<Content>) -> File {
    File {
        group: GROUP.into(),
        ..root_file(path, 0o640, content, Some(Reaction::Restart(unit(ENGINE))))
    }
}

fn drop_in(values: &Values<'_>) -> Result<File> {
    let path = format!("{}/infra.conf", folder_of(values.program));
    let text = templates::render(values.program, templates::EXPORTER, values)?;
    Ok(root_file(
        &path,
        0o644,
        text,
        Some(Reaction::Restart(unit(values.program))),
    ))
}

fn unit(name: &str) -> String {
    format!("{name}.service")
}

fn folder_of(name: &str) -> String {
    format!("/etc/systemd/system/{name}.service.d")
}
