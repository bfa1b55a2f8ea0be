//! Parts of a restore: keys out of a base, later ends for all of them, and how many there are.

use anyhow::{Context, Result};
use infra_agent::manifest::Manifest;
use infra_agent::pick::{self, Wanted};
use redis::{ConnectionAddr, IntoConnectionInfo};
use std::fs;
use std::path::{Path, PathBuf};
use wire::info::Fields;

/// The file for the counts of a pick: the standard output has the commands.
const PICKED: &str = "picked.json";

pub fn pick(folder: &Path) -> Result<()> {
    let base = base_of_commands(folder)?;
    let picked = pick::commands(&base, &wanted()?, &mut std::io::stdout().lock()).context("pick the keys")?;
    let path = folder.join(PICKED);
    fs::write(&path, serde_json::to_vec(&picked)?).with_context(|| format!("write {}", path.display()))
}

pub fn shift(folder: &Path) -> Result<()> {
    pick::shift_in_place(&base_of_commands(folder)?, wanted()?.shift_ms).context("let the keys end later")
}

pub fn count(socket: &Path) -> Result<()> {
    let mut connection = ConnectionAddr::Unix(socket.into())
        .into_connection_info()
        .and_then(redis::Client::open)
        .and_then(|client| client.get_connection())
        .context("connect to the engine")?;
    let (mut all, mut alive) = (0_u64, 0_u64);
    let info: String = redis::cmd("INFO").arg("keyspace").query(&mut connection)?;
    for (database, counts) in Fields::read(&info).databases() {
        let value = |name: &str| counts.number::<u64>(name).unwrap_or(0);
        let (keys, expires) = (value("keys"), value("expires"));
        all += keys;
        if expires == 0 {
            alive += keys;
            continue;
        }
        redis::cmd("SELECT").arg(database).exec(&mut connection)?;
        let mut cursor = 0_u64;
        loop {
            let (next, names): (u64, Vec<redis::Value>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("COUNT")
                .arg(1000)
                .query(&mut connection)?;
            alive += names.len() as u64;
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    println!("keys {all} expired {}", all.saturating_sub(alive));
    Ok(())
}

fn wanted() -> Result<Wanted> {
    serde_json::from_reader(std::io::stdin().lock()).context("understand what is wanted")
}

/// The base that an engine wrote last, if it is one of commands.
fn base_of_commands(folder: &Path) -> Result<PathBuf> {
    let doing = || format!("find a base of commands in {}", folder.display());
    let base = Manifest::base_of(folder).with_context(doing)?;
    base.filter(|base| base.extension().is_some_and(|end| end == "aof"))
        .with_context(doing)
}
