//! Looking at the world before a decision, and at single facts of it.

use super::decide::{MasterRole, Stillness, World};
use super::history::Promotion;
use super::pair::Pair;
use super::record::Record;
use super::setup::Setup;
use super::vars::{self, Points};
use super::watch::{Seen, Watch};
use crate::error::{Error, Result};
use crate::platform::ConfigVars;
use crate::redis::info::{Info, ServerRole};
use crate::redis::{Connection, Server};
use ::redis::{Value, cmd};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a stream may take to show what a server says it has written.
const READING: Duration = Duration::from_secs(10);

/// What is there now. Whether anything moved since a promotion is asked only where one is given.
pub async fn world<R: Record, P: Pair>(setup: &Setup<R, P>, promotion: Option<&Promotion>) -> Result<World> {
    let mut master = setup.master.connect(0).await?;
    let info = Info::read(&mut master).await?;
    let role = match info.role {
        ServerRole::Master => MasterRole::Promoted,
        ServerRole::Replica => MasterRole::Following,
    };
    let door_open = door_is_open(&mut master).await?;
    let vars = setup.platform.config_vars().await?;
    let release_pending = setup
        .platform
        .newest_release()
        .await?
        .is_some_and(|release| !release.status.is_terminal());
    let (source, ours) = match (role, promotion) {
        (MasterRole::Promoted, Some(promotion)) => (
            // A source that cannot be reached proves nothing; whether that matters is the decision's.
            source_stillness(&setup.source, promotion)
                .await
                .map_or(Stillness::Unknown, |(stillness, _)| stillness),
            our_stillness(&setup.master, &setup.source, promotion)
                .await
                .unwrap_or(Stillness::Unknown),
        ),
        _ => (Stillness::Unknown, Stillness::Unknown),
    };
    Ok(World {
        master: role,
        door_open,
        app: app_points(setup, &vars)?,
        release_pending,
        source,
        ours,
    })
}

/// What the app's var names.
pub fn app_points<R: Record, P: Pair>(setup: &Setup<R, P>, vars: &ConfigVars) -> Result<Points> {
    let at = |server: &Server| (server.host.to_ascii_lowercase(), server.port);
    let (source, endpoint) = (at(&setup.source), at(&setup.endpoint));
    Ok(vars::points(
        vars.get(&setup.config_var)?,
        (&source.0, source.1),
        (&endpoint.0, endpoint.1),
    ))
}

/// Whether the source's stream shows any write since the promotion's point, with the watch that goes on telling. While a pause runs, keys do not expire either.
pub async fn source_stillness(source: &Server, promotion: &Promotion) -> Result<(Stillness, Option<Watch>)> {
    let Some(watch) = stream_since(source, promotion).await? else {
        return Ok((Stillness::Unknown, None));
    };
    let seen = watch.seen();
    let stillness = match seen.writes + seen.deletions {
        0 => Stillness::Still,
        _ => Stillness::Moved,
    };
    Ok((stillness, Some(watch)))
}

/// Whether our master was written to since its promotion, by its own stream, which continues the source's. It expires keys by itself: a key that is gone on the source
/// too is no write.
pub async fn our_stillness(master: &Server, source: &Server, promotion: &Promotion) -> Result<Stillness> {
    let Some(watch) = stream_since(master, promotion).await? else {
        return Ok(Stillness::Unknown);
    };
    let seen = watch.seen();
    if seen.writes > 0 {
        return Ok(Stillness::Moved);
    }
    match existing(source, &seen).await? {
        0 => Ok(Stillness::Still),
        _ => Ok(Stillness::Moved),
    }
}

/// A server's stream since the promotion's point, read up to now. Source and master continue the same stream from there.
async fn stream_since(server: &Server, promotion: &Promotion) -> Result<Option<Watch>> {
    let Some(watch) = Watch::begin(server, &promotion.source_replid, promotion.offset).await? else {
        return Ok(None);
    };
    let info = Info::read(&mut server.connect(0).await?).await?;
    Ok(watch
        .reach(info.master_repl_offset, READING)
        .await
        .is_ok()
        .then_some(watch))
}

/// How many of the deleted keys a server has.
pub async fn existing(server: &Server, seen: &Seen) -> Result<u64> {
    let mut by_database: BTreeMap<u32, Vec<&[u8]>> = BTreeMap::new();
    for key in &seen.deleted {
        by_database.entry(key.database).or_default().push(&key.name);
    }
    if !seen.unplaced.is_empty() {
        // One of those that exist there.
        let info = Info::read(&mut server.connect(0).await?).await?;
        for database in info.keyspace.keys() {
            let names = seen.unplaced.iter().map(Vec::as_slice);
            by_database.entry(*database).or_default().extend(names);
        }
    }
    let mut existing = 0;
    for (database, names) in by_database {
        let mut connection = server.connect(database).await?;
        for some in names.chunks(500) {
            existing += connection.query::<u64>(cmd("EXISTS").arg(some)).await?;
        }
    }
    Ok(existing)
}

/// How many keys a server has expired since it started.
pub async fn expired_keys(connection: &mut Connection) -> Result<u64> {
    let text: String = connection.query(cmd("INFO").arg("stats")).await?;
    let line = text.lines().find_map(|line| line.strip_prefix("expired_keys:"));
    Ok(line.and_then(|number| number.trim().parse().ok()).unwrap_or(0))
}

/// Whether the `app` user may log in.
pub async fn door_is_open(master: &mut Connection) -> Result<bool> {
    let reply: Value = master.query(cmd("ACL").arg("GETUSER").arg("app")).await?;
    door_flag(&reply).ok_or_else(|| {
        Error::failed(format!(
            "see whether the app may log in to {}: there is no user `app`",
            master.place()
        ))
        .hint("run `infra up`: it puts the users on the host")
    })
}

/// Reads the flags of a reply to ACL GETUSER, a list of names and values by turns.
fn door_flag(reply: &Value) -> Option<bool> {
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        _ => String::new(),
    };
    let Value::Array(fields) = reply else {
        return None;
    };
    let at = fields.iter().position(|field| text(field) == "flags")?;
    match fields.get(at + 1)? {
        Value::Array(flags) | Value::Set(flags) => Some(flags.iter().any(|flag| text(flag) == "on")),
        _ => None,
    }
}
