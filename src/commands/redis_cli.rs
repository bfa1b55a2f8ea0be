//! `infra redis-cli [HOST]`: redis-cli here, as the host's admin user, over TLS that is verified by the environment's authority.

use super::context::{Context, REDIS_PORT, host_server};
use super::ssh::{answer_with, restored, role};
use crate::cli::RedisCli;
use crate::error::{Doing, ExitCode, Result};
use crate::setup::beside;
use std::io::Write;

pub async fn run(context: &Context, arguments: &RedisCli) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let secrets = context.secrets(&environment).await?;
    let server = match role(arguments.host) {
        Some(role) => host_server(role, context.addresses(&environment).await?.of(role)?, &secrets)?,
        None => beside::server("restored", &restored(context, &environment).await?.1, &secrets)?,
    };
    let mut authority = tempfile::NamedTempFile::new().doing(|| "make a temporary file".into())?;
    authority
        .write_all(secrets.ca_cert()?.as_bytes())
        .doing(|| "write the certificate authority".into())?;
    let mut command = tokio::process::Command::new("redis-cli");
    command
        .args([
            "-h",
            &server.host,
            "-p",
            &REDIS_PORT.to_string(),
            "--user",
            "admin",
            "--tls",
            "--no-auth-warning",
            "--cacert",
        ])
        .arg(authority.path())
        // Never in argv, where every user of this computer could read it.
        .env(
            "REDISCLI_AUTH",
            server.password.as_ref().map_or("", |password| password.expose()),
        )
        .args(&arguments.arguments);
    context.interrupt.leave_terminal_to_another();
    let running = async {
        let status = command.kill_on_drop(true).status().await;
        status.doing(|| "start redis-cli".into())
    };
    let status = context
        .interrupt
        .or(running)
        .await
        .map_err(|error| error.hint("install redis-cli (Debian: redis-tools), or use `infra ssh`"))?;
    drop(authority);
    answer_with(status)
}
