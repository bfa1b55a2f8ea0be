//! `infra redis-cli [HOST]`: runs redis-cli here, as the host's admin, over verified TLS.
//!
//! redis-cli connects to a socket in a private folder. TLS and login are ours, so the password is
//! neither in its arguments nor in its environment, where `ps` and /proc show them.

use crate::effects::redis::{Server, logged_in};
use crate::model::error::{Doing, ExitCode, Result};
use crate::model::files;
use crate::sequences::arguments::RedisCli;
use crate::sequences::context::{Context, host_server};
use crate::sequences::setup::restore_instance;
use crate::sequences::ssh::{answer_with, lend_terminal, restored, role};
use tokio::net::{UnixListener, UnixStream};

pub async fn run(context: &Context, arguments: &RedisCli) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let secrets = environment.secrets().await?;
    let server = match role(arguments.host) {
        Some(role) => host_server(role, environment.addresses().await?.of(role)?, &secrets)?,
        None => restore_instance::server("restored", &restored(&environment).await?.1, &secrets)?,
    };
    // We connect first, since redis-cli knows only a socket and cannot say what is wrong.
    server.connect(0).await?;
    let folder = files::temporary("redis")?;
    let socket = folder.path().join(&server.label);
    let listener = UnixListener::bind(&socket).doing(|| format!("listen at {}", socket.display()))?;
    let mut command = tokio::process::Command::new("redis-cli");
    command.arg("-s").arg(&socket).args(&arguments.arguments);
    let leading = tokio::spawn(lead(listener, server));
    let status = lend_terminal(context, "redis-cli", command).await;
    leading.abort();
    let status = status.map_err(|error| error.hint("install redis-cli (Debian: redis-tools), or use `infra ssh`"))?;
    drop(folder);
    answer_with(status)
}

/// Joins each connection to the socket with one to the server, logged in.
async fn lead(listener: UnixListener, server: Server) {
    while let Ok((near, _)) = listener.accept().await {
        let server = server.clone();
        tokio::spawn(async move {
            if let Err(error) = join(near, &server).await {
                tracing::warn!("{error:#}");
            }
        });
    }
}

async fn join(mut near: UnixStream, server: &Server) -> Result<()> {
    let mut far = logged_in(server).await?;
    tokio::io::copy_bidirectional(&mut near, &mut far)
        .await
        .map(drop)
        .doing(|| format!("lead redis-cli to {server}"))
}
