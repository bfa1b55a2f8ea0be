//! Waits until the data is there, and shows bytes and seconds.

use crate::effects::host;
use crate::effects::redis::Server;
use crate::effects::remote::Session;
use crate::effects::wait::{Look, Wait};
use crate::model::error::{Error, Result};
use crate::model::size;
use crate::ui::{Step, Ui};
use std::time::Duration;
use wire::info::{Info, ServerRole};

/// Waits until `follower` has its link up and has all that `upstream` had when it was asked. Fails
/// early if the host, to which `session` leads, does not start its engine any more.
pub async fn in_sync(
    ui: &Ui,
    session: Option<&Session>,
    upstream: &Server,
    follower: &Server,
    deadline: Duration,
) -> Result<Info> {
    let step = ui.step(format!("{} follows {}", follower.label, upstream.label));
    let wait = Wait::new(
        "the data to arrive",
        deadline,
        "`infra status` shows the link; `infra ssh` and the journal of the engine's unit on the host say why it is down",
    );
    let seen = wait.until(&step, || look(session, upstream, follower, &step)).await?;
    let offset = seen.applied_offset.unwrap_or(seen.master_repl_offset);
    step.done(format!(
        "in sync at offset {offset}: {} keys, {}",
        size::count(seen.keys()),
        size::bytes(seen.used_memory)
    ));
    Ok(seen)
}

async fn look(session: Option<&Session>, upstream: &Server, follower: &Server, step: &Step) -> Result<Look<Info>> {
    let wanted = read(upstream).await?;
    let seen = match read(follower).await {
        Ok(seen) => seen,
        // The server restarts when settings change, and answers LOADING while it reads its files.
        Err(error) => {
            if let Some(session) = session
                && let Ok(host::backup::Backups { refused: Some(why), .. }) = host::backup::look(session).await
            {
                return Err(
                    Error::failed(format!("have {follower} follow {upstream}: its engine is not started"))
                        .because(why)
                        .hint("`infra status` shows the reason until the engine runs"),
                );
            }
            return Ok(Look::NotYet(format!("{error:#}")));
        }
    };
    if seen.role != ServerRole::Replica {
        return Err(
            Error::failed(format!("have {follower} follow {upstream}: it is a master"))
                .hint("`infra status` shows the roles; run `infra up` again"),
        );
    }
    let Some(link) = &seen.link else {
        return Ok(Look::NotYet("no link yet".into()));
    };
    if let Some(sync) = &link.sync {
        let total = sync.total_bytes.map_or("?".into(), size::bytes);
        return Ok(Look::NotYet(format!(
            "{} of {total} copied in {}",
            size::bytes(sync.read_bytes),
            size::duration(step.elapsed())
        )));
    }
    if !link.up {
        let obstacle = match session {
            Some(session) if link.host == host::tunnel::HOST => obstacle(session).await,
            _ => None,
        };
        let because = obstacle.map(|why| format!(": {why}")).unwrap_or_default();
        return Ok(Look::NotYet(format!(
            "the link to {}:{} is down{because}",
            link.host, link.port
        )));
    }
    let applied = seen.applied_offset.unwrap_or(0);
    if applied < wanted.master_repl_offset {
        return Ok(Look::NotYet(format!(
            "{} behind",
            size::bytes(wanted.master_repl_offset - applied)
        )));
    }
    Ok(Look::Ready(seen))
}

/// Returns why the tunnel is not connected, in its own words; `None` if it does not say.
async fn obstacle(session: &Session) -> Option<String> {
    let status = host::tunnel::look(session).await.ok()??;
    status.trouble.map(|trouble| trouble.why)
}

async fn read(server: &Server) -> Result<Info> {
    server.connect(0).await?.info().await
}
