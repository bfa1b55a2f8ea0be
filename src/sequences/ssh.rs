//! `infra ssh HOST`: runs the system's ssh with the environment's key and the pinned host keys.

use crate::effects::cloud::ec2::{self, Purpose};
use crate::model::cloud::{ENGINE_EXPORTER_PORT, MACHINE_EXPORTER_PORT};
use crate::model::error::{Doing, Error, ExitCode, Result};
use crate::model::files;
use crate::model::role::Role;
use crate::model::secrets::Secrets;
use crate::model::state::HostRecord;
use crate::sequences::arguments::{Host, Ssh};
use crate::sequences::context::{Context, Environment, LOGIN, host_record};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use tempfile::TempDir;
use tokio::process::Command;

/// The exit code of ssh if it did not get to run anything.
const REFUSED: i32 = 255;

pub async fn run(context: &Context, arguments: &Ssh) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let pair = environment.pair().await?;
    let (address, record) = match role(arguments.host) {
        Some(role) => (pair.addresses.of(role)?.to_string(), host_record(&pair.state, role)?),
        None => {
            let (instance, address) = restored(&environment).await?;
            let record = pair.state.restored.get(&instance).ok_or_else(|| {
                Error::failed(format!("log in to {instance}: its key was not noted"))
                    .hint("the restore that made it did not end: remove it with `infra restore --remove`")
            })?;
            (address, record)
        }
    };
    let files = Files::write(&address, record, &pair.secrets)?;
    let mut command = Command::new("ssh");
    command
        .args(files.options())
        .args(arguments.exporters.map(to_the_exporters).unwrap_or_default())
        .arg(format!("{LOGIN}@{address}"))
        .args(&arguments.command);
    let status = lend_terminal(context, "ssh", command)
        .await
        .map_err(|error| error.hint("install the OpenSSH client"))?;
    drop(files);
    if status.code() == Some(REFUSED) {
        context.ui.warn(format!(
            "ssh could not log in to {address}. If it says that the host key is another one, somebody else may answer there, and nothing was sent: see what \
             `infra status` says of it"
        ));
    }
    answer_with(status)
}

/// Returns the options that lead two ports of this computer to the exporters, and run nothing.
fn to_the_exporters(port: u16) -> Vec<String> {
    let to = |port: u16, exporter: i32| ["-L".to_string(), format!("127.0.0.1:{port}:127.0.0.1:{exporter}")];
    let options = ["-N", "-o", "ExitOnForwardFailure=yes"].map(String::from);
    options
        .into_iter()
        .chain(to(port, MACHINE_EXPORTER_PORT))
        .chain(to(port.saturating_add(1), ENGINE_EXPORTER_PORT))
        .collect()
}

/// Runs a program that reads from the terminal, without the operator's keys: it needs none of them.
pub async fn lend_terminal(context: &Context, name: &str, mut command: Command) -> Result<ExitStatus> {
    for var in ["HEROKU_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        command.env_remove(var);
    }
    context.interrupt.leave_terminal_to_another();
    let running = async {
        let status = command.kill_on_drop(true).status().await;
        status.doing(|| format!("start {name}"))
    };
    context.interrupt.or(running).await
}

/// Ends with the other program's exit code. No destructor runs, so no file may be left to remove.
pub fn answer_with(status: ExitStatus) -> Result<ExitCode> {
    match status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) {
        0 => Ok(ExitCode::Done),
        code => std::process::exit(code),
    }
}

/// Returns the role of a host; `None` for one that is not of the pair.
pub fn role(host: Host) -> Option<Role> {
    match host {
        Host::Master => Some(Role::Master),
        Host::Replica => Some(Role::Replica),
        Host::Restored => None,
    }
}

/// Returns the newest instance that a restore has made, and its address.
pub async fn restored(environment: &Environment) -> Result<(String, String)> {
    let all = ec2::restore_instances(&environment.cloud, &environment.names).await?;
    let newest = (all.into_iter().rev())
        .filter(|temporary| temporary.purpose == Purpose::Restored)
        .find_map(|temporary| Some((temporary.instance, temporary.public_ip?)));
    newest.ok_or_else(|| {
        Error::failed("find an instance of a restore: there is none")
            .hint("`infra restore --latest --to instance` makes one")
    })
}

/// Key and known hosts in a private folder (0700), for as long as the session lasts.
struct Files {
    folder: TempDir,
}

impl Files {
    fn write(address: &str, record: &HostRecord, secrets: &Secrets) -> Result<Self> {
        if record.host_key.is_empty() {
            return Err(Error::failed("log in: the host's key was not pinned yet")
                .hint("run `infra up`: first contact pins it"));
        }
        let folder = files::temporary("ssh")?;
        let known: String = record.pinned().map(|key| format!("{address} {key}\n")).collect();
        for (name, text) in [("key", secrets.ssh_key()?.expose()), ("known_hosts", known.as_str())] {
            let path = folder.path().join(name);
            let mut file = std::os::unix::fs::OpenOptionsExt::mode(
                std::fs::OpenOptions::new().write(true).create_new(true),
                0o600,
            )
            .open(&path)
            .doing(|| format!("write {}", path.display()))?;
            file.write_all(text.as_bytes())
                .doing(|| format!("write {}", path.display()))?;
        }
        Ok(Files { folder })
    }

    fn options(&self) -> Vec<String> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        [
            format!("IdentityFile={}", path("key")),
            format!("UserKnownHostsFile={}", path("known_hosts")),
            "GlobalKnownHostsFile=/dev/null".into(),
            "IdentitiesOnly=yes".into(),
            "StrictHostKeyChecking=yes".into(),
            "ConnectTimeout=10".into(),
            "ServerAliveInterval=15".into(),
        ]
        .into_iter()
        .flat_map(|option| ["-o".to_string(), option])
        .collect()
    }
}
