//! A restore on the master itself: built beside the live data by the agent, tried, and swapped. What these do stands in `infra-restore` on the host.

use crate::effects::fault;
use crate::effects::remote::Session;
use crate::model::error::{Doing, Error, Result};
use crate::model::secret;
use crate::ui::Step;
use infra_agent::pick::{Picked, Wanted};
use infra_agent::rebuild::{Built, Plan};
use std::time::Duration;

/// Objects are read over the host's own link, and then the engine loads them.
const LONG: Duration = Duration::from_secs(2 * 3600);

/// What a second engine found in what was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    Loads {
        keys: u64,
        /// How many of them have an end, and may reach it before the live engine has loaded them.
        expires: u64,
        /// How many of them have reached it.
        expired: u64,
        version: String,
    },
    /// There was no room for a second engine; the swap itself will tell.
    NoRoom(String),
}

/// Live data that an earlier run moved aside and did not replace is put back; says what it was.
pub async fn recover(session: &Session) -> Result<Option<String>> {
    let text = ask(session, "recover", LONG, "put the data back on").await?;
    Ok(text.trim().strip_prefix("recovered ").map(String::from))
}

/// An error where the host's disk has no room for so many bytes more.
pub async fn room(session: &Session, bytes: u64) -> Result<()> {
    ask(
        session,
        &format!("room {bytes}"),
        Duration::from_secs(20),
        "find room on",
    )
    .await
    .map(drop)
}

/// Has the agent build the data beside the live data, under this name.
pub async fn build(session: &Session, name: &str, plan: &Plan, step: &Step) -> Result<Built> {
    let doing = format!("build the restored data on {}", session.label());
    // It holds signed addresses: by standard input alone.
    let plan = secret::json(plan).doing(|| doing.clone())?;
    let watched = step.clone();
    // The host knows where its engine keeps the data.
    let command = format!(
        "sudo -n bash -c '. /etc/infra/host.env && exec /usr/local/sbin/infra-agent rebuild \"$INFRA_DATA/restore-{name}\"'"
    );
    fault::point(format_args!("before build on {}", session.label()));
    let built = session
        .run_within(&command, Some(&plan), LONG, move |line| {
            if !line.starts_with('{') {
                watched.update(format!("{line} objects"));
            }
        })
        .await;
    fault::point(format_args!("after build on {}", session.label()));
    let output = built?.expect_success(&doing).map_err(|error| {
        error
            .with_kind(crate::model::error::Kind::Unproven)
            .hint("the live data was not touched; `infra backup verify` names all that is damaged")
    })?;
    let text = output.text();
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).doing(|| doing)
}

/// Sends an RDB file, which becomes the base of what is built under this name.
pub async fn import(session: &Session, name: &str, file: &[u8]) -> Result<()> {
    let doing = format!("put the RDB file on {}", session.label());
    fault::point(format_args!("before import on {}", session.label()));
    let command = format!("sudo -n /usr/local/sbin/infra-restore import {name}");
    let sent = session.run_within(&command, Some(file), LONG, |_| ()).await;
    fault::point(format_args!("after import on {}", session.label()));
    sent?.expect_success(&doing).map(drop).map_err(|error| {
        error
            .with_kind(crate::model::error::Kind::Unproven)
            .hint("the live data was not touched; download the file again, and see which version of Redis wrote it")
    })
}

/// Has a second engine load what was built, where the host has room for two.
pub async fn check(session: &Session, name: &str) -> Result<Checked> {
    loaded_beside(session, &format!("check {name}")).await
}

/// The same, and all of it is written as commands then, in the place of what was built.
pub async fn plain(session: &Session, name: &str) -> Result<Checked> {
    loaded_beside(session, &format!("plain {name}")).await
}

async fn loaded_beside(session: &Session, words: &str) -> Result<Checked> {
    let text = ask(session, words, LONG, "have an engine load the restored data on")
        .await
        .map_err(|error| {
            error
                .with_kind(crate::model::error::Kind::Unproven)
                .hint("the live data was not touched; choose another time, or a base alone with --backup")
        })?;
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["keys", keys, "expires", expires, "expired", expired, "version", version] => Ok(Checked::Loads {
            keys: number(keys)?,
            expires: number(expires)?,
            expired: number(expired)?,
            version: (*version).into(),
        }),
        ["unchecked", why @ ..] => Ok(Checked::NoRoom(why.join(" "))),
        _ => Err(misread(&text)),
    }
}

/// Lets every key of what was written as commands end later.
pub async fn shift(session: &Session, name: &str, wanted: &Wanted) -> Result<()> {
    let doing = format!("let the restored keys end later on {}", session.label());
    tell(session, &format!("shift {name}"), wanted, &doing).await.map(drop)
}

/// Puts keys of what was written as commands in the place of the live ones of their names.
pub async fn pick(session: &Session, name: &str, wanted: &Wanted) -> Result<Picked> {
    let doing = format!("put the restored keys into the engine on {}", session.label());
    fault::point(format_args!("before pick on {}", session.label()));
    let picked = tell(session, &format!("pick {name}"), wanted, &doing).await;
    fault::point(format_args!("after pick on {}", session.label()));
    let text = picked.map_err(|error| {
        error.hint(
            "each key was put in its place as a whole or not at all: running the same command again brings the rest",
        )
    })?;
    serde_json::from_str(text.trim()).doing(|| doing)
}

async fn tell(session: &Session, words: &str, wanted: &Wanted, doing: &str) -> Result<String> {
    let body = serde_json::to_vec(wanted).doing(|| doing.to_string())?;
    let command = format!("sudo -n /usr/local/sbin/infra-restore {words}");
    let output = session.run_within(&command, Some(&body), LONG, |_| ()).await?;
    Ok(output.expect_success(doing)?.text().to_string())
}

/// Puts it in force; gives the folder that the data from before is kept in, and the keys that the engine has loaded.
pub async fn swap(session: &Session, name: &str, checked: &Checked) -> Result<(String, u64)> {
    let (keys, expires) = match checked {
        Checked::Loads { keys, expires, .. } => (i64::try_from(*keys).unwrap_or(i64::MAX), *expires),
        Checked::NoRoom(_) => (-1, 0),
    };
    let doing = format!("put the restored data in force on {}", session.label());
    // Apart from this session: once begun it ends, also when we die.
    let command = format!(
        "sudo -n systemd-run --quiet --wait --pipe --collect /usr/local/sbin/infra-restore swap {name} {keys} {expires}"
    );
    fault::point(format_args!("before swap on {}", session.label()));
    let swapped = session.run_within(&command, None, LONG, |_| ()).await;
    fault::point(format_args!("after swap on {}", session.label()));
    let output = swapped?.expect_success(&doing).map_err(|error| {
        error.hint("`infra status` shows what is in force; `journalctl -u redis-server` on the host says more")
    })?;
    let text = output.text();
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    match (value("kept"), value("keys")) {
        (Some(kept), Some(keys)) => Ok((kept.into(), number(keys)?)),
        _ => Err(misread(&text)),
    }
}

/// Puts it in force on a host that has no data yet; gives the keys that the engine has loaded.
pub async fn place(session: &Session, name: &str) -> Result<u64> {
    let text = ask(
        session,
        &format!("place {name}"),
        LONG,
        "put the restored data in force on",
    )
    .await?;
    let keys = text.lines().find_map(|line| line.strip_prefix("keys "));
    number(keys.unwrap_or_default())
}

/// Removes what was built and not used.
pub async fn forget(session: &Session, name: &str) -> Result<()> {
    ask(
        session,
        &format!("forget {name}"),
        Duration::from_secs(60),
        "remove what was built on",
    )
    .await
    .map(drop)
}

async fn ask(session: &Session, words: &str, deadline: Duration, doing: &str) -> Result<String> {
    let output = session
        .run_within(
            &format!("sudo -n /usr/local/sbin/infra-restore {words}"),
            None,
            deadline,
            |_| (),
        )
        .await?
        .expect_success(&format!("{doing} {}", session.label()))?;
    Ok(output.text().to_string())
}

fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| misread(text))
}

fn misread(text: &str) -> Error {
    let shown: String = text.chars().take(80).collect();
    Error::failed(format!("understand the host's answer {shown:?}"))
}
