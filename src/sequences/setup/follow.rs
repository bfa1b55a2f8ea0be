//! Waits until the data is there, and shows bytes and seconds.

use crate::effects::host;
use crate::effects::redis::Server;
use crate::effects::remote::Session;
use crate::effects::wait::{Look, Wait};
use crate::model::error::{Error, Result};
use crate::model::size;
use crate::ui::{Step, Ui};
use infra_agent::record::Trouble;
use std::time::Duration;
use wire::info::{Info, ServerRole};

/// How long a trouble of the tunnel is shown before it is believed to stay.
const SETTLED: Duration = Duration::from_secs(5);

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
        let trouble = match session {
            Some(session) if link.host == host::tunnel::HOST => trouble(session).await,
            _ => None,
        };
        if let Some(error) = trouble.as_ref().and_then(|trouble| hopeless(trouble, step.elapsed())) {
            return Err(error.while_doing(format!("have {follower} follow {upstream}")));
        }
        let because = trouble.map(|trouble| format!(": {}", trouble.why)).unwrap_or_default();
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

/// Returns why the tunnel is not connected; `None` if it does not say.
async fn trouble(session: &Session) -> Option<Trouble> {
    host::tunnel::look(session).await.ok()??.trouble
}

/// Returns the error of a trouble that no further attempt ends. The engine asks for a connection
/// every second, so one that is shown for longer is not of an attempt before.
fn hopeless(trouble: &Trouble, waited: Duration) -> Option<Error> {
    let is = trouble.obstacle.stays() && waited >= SETTLED;
    is.then(|| Error::failed(trouble.why.clone()).hint(host::tunnel::remedy(trouble.obstacle)))
}

/// Returns an error if a server that has to follow is a master: it waits for nothing.
pub fn still_follows(host: &str, info: &Info) -> Result<()> {
    if info.role == ServerRole::Replica {
        return Ok(());
    }
    Err(
        Error::failed(format!("wait for the {host}: it is a master, and follows nobody"))
            .hint("somebody else has promoted it: `infra status` shows the roles"),
    )
}

async fn read(server: &Server) -> Result<Info> {
    server.connect(0).await?.info().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use infra_agent::record::Obstacle;

    fn trouble(obstacle: Obstacle) -> Trouble {
        Trouble {
            since: 0,
            obstacle,
            why: "it is so".into(),
        }
    }

    #[test]
    fn only_an_obstacle_that_stays_ends_the_wait_and_says_why() {
        let error = hopeless(&trouble(Obstacle::CertificateChanged), SETTLED).unwrap();
        assert_eq!(error.to_string(), "it is so");
        assert!(error.next_step().unwrap().contains("infra check --pin"));
        // It may be of an attempt before the wait.
        let early = Duration::from_secs(1);
        assert!(hopeless(&trouble(Obstacle::CertificateChanged), early).is_none());
        for passing in [Obstacle::Name, Obstacle::Refused, Obstacle::NoAnswer, Obstacle::Ended] {
            assert!(hopeless(&trouble(passing), SETTLED).is_none(), "{passing:?}");
        }
    }

    #[test]
    fn a_master_is_not_waited_for() {
        let info = |role: &str| {
            let text = format!(
                "redis_version:7.0.15\r\nrun_id:a\r\nused_memory:1\r\nrole:{role}\r\nmaster_replid:b\r\nmaster_repl_offset:1\r\n"
            );
            Info::parse(&text).unwrap()
        };
        let error = still_follows("replica", &info("master")).unwrap_err();
        assert!(error.to_string().contains("the replica: it is a master"), "{error}");
        let follows = info("slave\r\nmaster_host:h\r\nmaster_port:1\r\nmaster_link_status:down\r\nslave_repl_offset:1");
        still_follows("replica", &follows).unwrap();
    }
}
