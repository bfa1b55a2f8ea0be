//! Looks at the world before a decision, and at single facts of it.

use super::gate::{unmoved, watched};
use super::history::{History, Promotion};
use super::pair::Pair;
use super::record::Record;
use super::removals;
use super::setup::Setup;
use super::sides::Sides;
use super::watch::{READING, Seen, Watch, command_table};
use crate::decide::cutover::{MasterRole, Past, Stillness, World};
use crate::decide::vars::{self, Points};
use crate::effects::host::copy;
use crate::effects::platform::{ConfigVars, Platform};
use crate::effects::redis::control::{self, Permission};
use crate::effects::redis::{Connection, Server, exists, sample};
use crate::model::clock::Instant;
use crate::model::error::{Error, Result};
use crate::model::follow::Follower;
use crate::model::phase::{Command, FenceKind, Phase};
use crate::ui::Step;
use std::time::Duration;
use wire::info::{Info, OwnRemovals, ServerRole};

/// How long a link may take to come up when nothing is being copied.
const LINKING: Duration = Duration::from_secs(15);

/// Returns what is there now. It asks for writes since a promotion only where that matters.
pub async fn world<R: Record, P: Pair>(setup: &mut Setup<R, P>, command: Command, history: &History) -> Result<World> {
    let mut master = setup.master.connect(0).await?;
    let (role, _) = role(&mut master, history).await?;
    let (app, release_pending) = apps(setup).await?;
    let promotion = match history.phase {
        Some(Phase::Promoted | Phase::Switching) => history.promotion.as_ref(),
        Some(Phase::Switched | Phase::Settled) if command == Command::Back => history.promotion.as_ref(),
        _ => None,
    };
    let (source, ours) = match (role, promotion) {
        (MasterRole::Promoted, Some(promotion)) => (
            // A source that cannot be reached proves nothing; `decide` knows whether that matters.
            source_stillness(setup, promotion)
                .await
                .map_or(Stillness::Unknown, |(stillness, _)| stillness),
            our_stillness(&setup.master, &setup.source, promotion)
                .await
                .map_or(Stillness::Unknown, |(stillness, _)| stillness),
        ),
        _ => (Stillness::Unknown, Stillness::Unknown),
    };
    Ok(World {
        fence: fence_kind(setup, history).await,
        master: role,
        several: setup.apps.len() > 1,
        app,
        release_pending,
        source,
        ours,
    })
}

/// Returns the role of the master, and how it gets, or got, the source's data. A master that copies
/// is one of its own: it is promoted once the copy may not log in any more.
pub async fn role(master: &mut Connection, history: &History) -> Result<(MasterRole, Follower)> {
    if master.info().await?.role == ServerRole::Replica {
        return Ok((MasterRole::Following, Follower::Replication));
    }
    if control::user_is_on(master, copy::USER).await? == Some(true) {
        return Ok((MasterRole::Following, Follower::Copy));
    }
    let promotion = history.promotion.as_ref();
    Ok((
        MasterRole::Promoted,
        promotion.map_or(Follower::Replication, |promotion| promotion.follower),
    ))
}

/// Returns which side the vars of all apps name, and whether a release of any of them is under way.
pub async fn apps<R: Record, P: Pair>(setup: &Setup<R, P>) -> Result<(Points, bool)> {
    let (mut points, mut release_pending) = (Vec::new(), false);
    for app in &setup.apps {
        points.push(vars_point(setup, &app.config_vars().await?)?);
        release_pending |= release_is_pending(app).await?;
    }
    Ok((Points::together(points), release_pending))
}

/// Returns the part of the journal's history that a decision needs.
pub fn past(history: &History) -> Past {
    Past {
        phase: history.phase,
        detaching: !history.detaching.is_empty(),
        stopped: history.stopped.is_some(),
    }
}

/// Returns the fence that was begun, else the wanted one, else a pause if the source allows it.
pub async fn fence_kind<R: Record, P: Pair>(setup: &Setup<R, P>, history: &History) -> FenceKind {
    if history.stopped.is_some() {
        return FenceKind::Platform;
    }
    if let Some(kind) = history.fence.or(setup.fence) {
        return kind;
    }
    let probing = async {
        let permissions = control::permissions(&mut setup.source.connect(0).await?).await?;
        Ok::<_, Error>(permissions.pause_writes)
    };
    match probing.await {
        Ok(Permission::Denied(_)) => FenceKind::Platform,
        // The steps that need the source report that it cannot be reached.
        Ok(Permission::Allowed | Permission::Unknown(_)) | Err(_) => FenceKind::Pause,
    }
}

/// Returns which side the vars of one app name.
pub fn vars_point<R: Record, P: Pair>(setup: &Setup<R, P>, vars: &ConfigVars) -> Result<Points> {
    let endpoint = vars::place_of(&setup.endpoint);
    let value = vars.get(&setup.config_var)?;
    let by_domain = (value.and_then(vars::place))
        .is_some_and(|(host, port, _)| setup.domain.as_ref() == Some(&host) && port == endpoint.1);
    Ok(if by_domain {
        Points::Endpoint
    } else {
        vars::points(value, &setup.source_places(), (&endpoint.0, endpoint.1))
    })
}

/// Returns whether clients wrote to the source since the promotion, with the watch that goes on.
/// What the source expired or evicted by itself is no write.
pub async fn source_stillness<R: Record, P: Pair>(
    setup: &mut Setup<R, P>,
    promotion: &Promotion,
) -> Result<(Stillness, Option<Watch>)> {
    if promotion.follower == Follower::Copy {
        let (ours, _) = our_stillness(&setup.master, &setup.source, promotion).await?;
        return Ok((copied_stillness(setup, promotion, ours).await?, None));
    }
    let (source, master) = (&setup.source, &setup.master);
    let Some((watch, info)) = stream_since(source, master, promotion, promotion.offset).await? else {
        return Ok((Stillness::Unknown, None));
    };
    let before = promotion.source_removals;
    let by_itself = before.map_or_else(OwnRemovals::default, |before| info.own_removals.since(before));
    Ok((stillness(&watch.seen(), by_itself, master).await?, Some(watch)))
}

/// A copied source has no stream to read. Where nobody wrote to our side, it is compared with it. Else
/// a difference might be of either side, and the watch of the copy tells, or the source's own count.
async fn copied_stillness<R: Record, P: Pair>(
    setup: &mut Setup<R, P>,
    promotion: &Promotion,
    ours: Stillness,
) -> Result<Stillness> {
    let now = setup.source.connect(0).await?.info().await?;
    if now.run_id != promotion.source_run_id || now.role != ServerRole::Master {
        return Ok(Stillness::Unknown);
    }
    if ours == Stillness::Still {
        return unmoved::as_compared(&setup.source, &setup.master, &setup.leave_out).await;
    }
    let watched = watched::since(&mut setup.pair, promotion.monitored.as_ref(), &setup.leave_out).await;
    if watched.is_some_and(|late| late.writes == 0) {
        return Ok(Stillness::Still);
    }
    Ok(unmoved::as_counted(promotion, &now))
}

/// Returns whether our master was written to since its promotion, and what its stream showed. A
/// key that expired here is no write if it is gone on the source too.
pub async fn our_stillness(master: &Server, source: &Server, promotion: &Promotion) -> Result<(Stillness, Seen)> {
    let from = own_from(&master.connect(0).await?.info().await?, promotion);
    let Some((watch, _)) = stream_since(master, master, promotion, from).await? else {
        return Ok((Stillness::Unknown, Seen::default()));
    };
    let seen = watch.seen();
    Ok((stillness(&seen, OwnRemovals::default(), source).await?, seen))
}

async fn stillness(seen: &Seen, by_itself: OwnRemovals, other: &Server) -> Result<Stillness> {
    Ok(
        if seen.writes == 0 && removals::by_clients(seen, by_itself, other).await?.is_none() {
            Stillness::Still
        } else {
            Stillness::Moved
        },
    )
}

/// Returns the offset from which our master's stream is its own. Until it stopped following, all of
/// it came from the source, also what somebody wrote there after the proof.
pub fn own_from(master: &Info, promotion: &Promotion) -> u64 {
    let until = match master.role {
        ServerRole::Replica => Some(master.master_repl_offset),
        ServerRole::Master if master.previous_replid.as_deref() == Some(&promotion.source_replid) => {
            master.promoted_at_offset
        }
        ServerRole::Master => None,
    };
    until.unwrap_or(0).max(promotion.offset)
}

/// Returns the stream of source or master since an offset, read up to now, with the INFO of now.
async fn stream_since(
    server: &Server,
    master: &Server,
    promotion: &Promotion,
    offset: u64,
) -> Result<Option<(Watch, Info)>> {
    let table = command_table(master).await?;
    let Some(watch) = Watch::begin(server, table, &promotion.source_replid, offset).await? else {
        return Ok(None);
    };
    let info = server.connect(0).await?.info().await?;
    let read = watch.reach(info.master_repl_offset, READING).await;
    Ok(read.is_ok().then_some((watch, info)))
}

/// Waits for the link of a following master: a moment, or as long as a full copy takes.
pub async fn link(name: &Server, sides: &Sides, sync: Duration, step: &Step) -> Result<()> {
    let begun = Instant::now();
    loop {
        let (master, _) = sides.pair().await?;
        let copying = match &master.link {
            _ if master.role == ServerRole::Master => return Ok(()),
            Some(link) if link.up && !master.loading => return Ok(()),
            Some(link) => link.sync.is_some() || master.loading,
            None => false,
        };
        if begun.elapsed() > if copying { sync } else { LINKING } {
            return Err(
                Error::failed(format!("begin: {name} follows, and its link to the source is down"))
                    .hint("the provider may have changed the source's address or password: run `infra up`, which points the master at it anew, then the same command again"),
            );
        }
        step.update(if copying {
            "the master copies the source"
        } else {
            "the master's link to the source is down"
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Returns how many keys here were looked at, and how many are missing there. The first keys of a
/// scan are as good as any, since their order is that of a hash.
pub async fn missing_there(here: &Server, there: &Server) -> Result<(u64, u64)> {
    const KEYS: usize = 500;
    let info = here.connect(0).await?.info().await?;
    let (mut looked_at, mut missing) = (0, 0);
    for database in info.keyspace.keys() {
        let mut connection = here.connect(*database).await?;
        let names = sample::keys(&mut connection, KEYS, 0).await?;
        let has = exists::keys(&mut there.connect(*database).await?, &names).await?;
        // A key that expires meanwhile is missing nowhere.
        let had = exists::keys(&mut connection, &names).await?;
        looked_at += had;
        missing += had.saturating_sub(has);
    }
    Ok((looked_at, missing))
}

pub async fn access_is_open(master: &mut Connection) -> Result<bool> {
    control::user_is_on(master, "app").await?.ok_or_else(|| {
        Error::failed(format!(
            "see whether the app may log in to {}: there is no user `app`",
            master.place()
        ))
        .hint("run `infra up`: it puts the users on the host")
    })
}

pub(super) async fn release_is_pending(app: &Platform) -> Result<bool> {
    Ok(app
        .newest_release()
        .await?
        .is_some_and(|release| !release.status.is_terminal()))
}
