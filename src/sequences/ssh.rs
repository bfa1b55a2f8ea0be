//! `infra ssh HOST`: runs the system's ssh with the environment's key and the pinned host keys.

use crate::effects::cloud::ec2;
use crate::effects::cloud::ec2::Purpose;
use crate::model::error::{Doing, Error, ExitCode, Result};
use crate::model::role::Role;
use crate::model::secrets::Secrets;
use crate::model::state::HostRecord;
use crate::sequences::arguments::{Host, Ssh};
use crate::sequences::context::{Context, Environment, LOGIN, host_record};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use tempfile::TempDir;

/// The exit code of ssh if it did not get to run anything.
const REFUSED: i32 = 255;

pub async fn run(context: &Context, arguments: &Ssh) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let (state, secrets) = tokio::try_join!(environment.state(), context.secrets(&environment))?;
    let (address, record) = match role(arguments.host) {
        Some(role) => {
            let address = context.addresses(&environment).await?.of(role)?.to_string();
            (address, host_record(&state, role)?)
        }
        None => {
            let temporary = restored(context, &environment).await?;
            let record = state.restored.get(&temporary.0).ok_or_else(|| {
                Error::failed(format!("log in to {}: its key was not noted", temporary.0))
                    .hint("the restore that made it did not end: remove it with `infra restore --remove`")
            })?;
            (temporary.1, record)
        }
    };
    let files = Files::write(&address, record, &secrets)?;
    let mut command = tokio::process::Command::new("ssh");
    command
        .args(files.options())
        .arg(format!("{LOGIN}@{address}"))
        .args(&arguments.command);
    without_credentials(&mut command);
    context.interrupt.leave_terminal_to_another();
    let running = async {
        let status = command.kill_on_drop(true).status().await;
        status.doing(|| "start ssh".into())
    };
    let status = context
        .interrupt
        .or(running)
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

/// Ends with the other program's exit code. No destructor runs, so no file may be left to remove.
pub fn answer_with(status: ExitStatus) -> Result<ExitCode> {
    match status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) {
        0 => Ok(ExitCode::Done),
        code => std::process::exit(code),
    }
}

/// Removes the operator's keys from the environment of a program that needs none of them.
pub fn without_credentials(command: &mut tokio::process::Command) {
    for name in ["HEROKU_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        command.env_remove(name);
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
pub async fn restored(context: &Context, environment: &Environment) -> Result<(String, String)> {
    let names = context.names(environment)?;
    let all = ec2::restore_instances(&environment.cloud, &names).await?;
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
        let folder = tempfile::Builder::new()
            .prefix("infra-ssh-")
            .tempdir()
            .doing(|| "make a temporary folder".into())?;
        let keys = [Some(&record.host_key), record.next_host_key.as_ref()];
        let known: String = keys
            .into_iter()
            .flatten()
            .map(|key| format!("{address} {key}\n"))
            .collect();
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
