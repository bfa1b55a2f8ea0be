//! Restores on the master: the agent builds, a second engine tries, `infra-restore` swaps the data.

use super::engine::Layout;
use crate::effects::fault;
use crate::effects::remote::{Output, Session};
use crate::model::config::Engine;
use crate::model::error::{Doing, Error, Kind, Result};
use crate::model::secret;
use crate::ui::Step;
use infra_agent::pick::{Picked, Wanted};
use infra_agent::rebuild::{Built, Plan};
use std::io::Read;
use std::time::Duration;

/// The status with which the host's script ends if the data itself is to blame.
const REFUSED: i32 = 5;

/// How long a look at a host's disk may take.
const LOOK: Duration = Duration::from_secs(20);

/// Objects are read over the host's own link, and then the engine loads them.
const LONG: Duration = Duration::from_secs(2 * 3600);

/// The result of a second engine that loaded the built data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    Loads {
        keys: u64,
        /// Number of keys with an expiry, which may pass before the live engine has loaded them.
        expires: u64,
        expired: u64,
        version: String,
    },
    /// The host has no room for a second engine, so only the swap will show.
    NoRoom(String),
}

impl Checked {
    /// Returns the number of keys that have expired, as far as it is known.
    pub fn expired(&self) -> u64 {
        match self {
            Checked::Loads { expired, .. } => *expired,
            Checked::NoRoom(_) => 0,
        }
    }
}

/// Returns true if the host has data of an engine, also if no engine runs. Fails unless it was looked for.
pub async fn has_data(session: &Session) -> Result<bool> {
    let folders = [Engine::Redis, Engine::Valkey].map(|engine| Layout::of(engine).data_folder);
    // A folder that is missing is no failure, and an answer without the last word is none.
    let look = format!(
        r"find {} -type f \( -name '*.aof' -o -name '*.rdb' \) -size +0 -print -quit 2>/dev/null; echo looked",
        folders.join(" ")
    );
    let doing = format!("look for data on {}", session.label());
    let output = session.run_within("sudo -n bash -s", Some(look.as_bytes()), LOOK, |_| ());
    let said = output.await?.expect_success(&doing)?.stdout;
    match said.as_slice() {
        b"looked\n" => Ok(false),
        said if said.ends_with(b"looked\n") => Ok(true),
        _ => Err(Error::failed(doing)),
    }
}

/// Puts back live data that an interrupted run moved aside. Returns its name, if there was any.
pub async fn recover(session: &Session) -> Result<Option<String>> {
    let text = ask(session, "recover", LONG, "put the data back on").await?;
    Ok(text.trim().strip_prefix("recovered ").map(String::from))
}

/// Returns an error if the host's disk has no room for this many more bytes.
pub async fn room(session: &Session, bytes: u64) -> Result<()> {
    let (words, deadline) = (format!("room {bytes}"), Duration::from_secs(20));
    ask(session, &words, deadline, "find room on").await.map(drop)
}

/// Makes the agent build the data beside the live data, under this name.
pub async fn build(session: &Session, name: &str, plan: &Plan, step: &Step) -> Result<Built> {
    let doing = format!("build the restored data on {}", session.label());
    // The plan holds signed addresses, so it goes through standard input only.
    let plan = secret::json(plan).doing(|| doing.clone())?;
    let watched = step.clone();
    // The host knows where its engine keeps the data.
    let command = format!(
        "sudo -n bash -c '. /etc/infra/host.env && exec /usr/local/sbin/infra-agent rebuild \"$INFRA_DATA/restore-{name}\"'"
    );
    let building = session.run_within(&command, Some(&plan), LONG, move |line| {
        if !line.starts_with('{') {
            watched.update(format!("{line} objects"));
        }
    });
    let built = fault::around(&format!("build on {}", session.label()), building).await?;
    let output = built.expect_success(&doing).map_err(|error| {
        error
            .with_kind(Kind::Unproven)
            .hint("the live data was not touched; `infra backup verify` names all that is damaged")
    })?;
    let text = output.text();
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).doing(|| doing)
}

/// Sends an RDB file, which becomes the base of the data under this name.
pub async fn import(session: &Session, name: &str, file: impl Read + Send + 'static) -> Result<()> {
    let doing = format!("put the RDB file on {}", session.label());
    let command = format!("sudo -n /usr/local/sbin/infra-restore import {name}");
    let sending = session.run_reading(&command, file, LONG);
    judged(
        fault::around(&format!("import on {}", session.label()), sending).await?,
        &doing,
        "the live data was not touched; download the file again, and see which version of Redis wrote it",
    )
    .map(drop)
}

/// Has a second engine on the host build and load the data, apart from the live engine. Nothing of
/// it stays there.
pub async fn prove(session: &Session, name: &str, plan: &Plan, bytes: u64, step: &Step) -> Result<Checked> {
    let doing = format!("have an engine load the restored data on {}", session.label());
    let plan = secret::json(plan).doing(|| doing.clone())?;
    let watched = step.clone();
    let command = format!("sudo -n /usr/local/sbin/infra-restore prove {name} {bytes}");
    let proven = session
        .run_within(&command, Some(&plan), LONG, move |line| {
            if line.contains(" of ") {
                watched.update(format!("{line} objects"));
            }
        })
        .await?;
    let text = judged(proven, &doing, DAMAGED)?;
    checked(text.lines().last().unwrap_or_default())
}

/// Loads the built data in a second engine, if the host has room for two.
pub async fn check(session: &Session, name: &str) -> Result<Checked> {
    loaded_beside(session, &format!("check {name}")).await
}

/// As [`check`], and then replaces the built data with all of it as commands.
pub async fn plain(session: &Session, name: &str) -> Result<Checked> {
    loaded_beside(session, &format!("plain {name}")).await
}

const DAMAGED: &str = "the live data was not touched; choose another time, or a base alone with --backup";

async fn loaded_beside(session: &Session, words: &str) -> Result<Checked> {
    let command = format!("sudo -n /usr/local/sbin/infra-restore {words}");
    let output = session.run_within(&command, None, LONG, |_| ()).await?;
    let doing = format!("have an engine load the restored data on {}", session.label());
    checked(&judged(output, &doing, DAMAGED)?)
}

/// Returns what the host's script says. `hint` is for data that is to blame itself.
fn judged(output: Output, doing: &str, hint: &str) -> Result<String> {
    let refused = output.status == REFUSED;
    match output.expect_success(doing) {
        Ok(output) => Ok(output.text()),
        Err(error) if refused => Err(error.with_kind(Kind::Unproven).hint(hint)),
        Err(error) => Err(error.hint(
            "the live data was not touched, and the restored data could not be tested: run the same command again",
        )),
    }
}

fn checked(text: &str) -> Result<Checked> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["keys", keys, "expires", expires, "expired", expired, "version", version] => Ok(Checked::Loads {
            keys: number(keys)?,
            expires: number(expires)?,
            expired: number(expired)?,
            version: (*version).into(),
        }),
        ["unchecked", why @ ..] => Ok(Checked::NoRoom(why.join(" "))),
        _ => Err(misread(text)),
    }
}

/// Delays the expiry of every key in the restored commands.
pub async fn shift(session: &Session, name: &str, wanted: &Wanted) -> Result<()> {
    let doing = format!("let the restored keys end later on {}", session.label());
    tell(session, &format!("shift {name}"), wanted, &doing).await.map(drop)
}

/// Replaces live keys with the keys of the same names in the restored commands.
pub async fn pick(session: &Session, name: &str, wanted: &Wanted) -> Result<Picked> {
    let doing = format!("put the restored keys into the engine on {}", session.label());
    let words = format!("pick {name}");
    let picking = tell(session, &words, wanted, &doing);
    let picked = fault::around(&format!("pick on {}", session.label()), picking).await;
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

/// Puts the data in force. Returns the folder of the old data, and the number of loaded keys.
pub async fn swap(session: &Session, name: &str, checked: &Checked) -> Result<(String, u64)> {
    let (keys, expires) = match checked {
        Checked::Loads { keys, expires, .. } => (i64::try_from(*keys).unwrap_or(i64::MAX), *expires),
        Checked::NoRoom(_) => (-1, 0),
    };
    let doing = format!("put the restored data in force on {}", session.label());
    // Runs apart from this session, so that it ends also if this process dies.
    let command = format!(
        "sudo -n systemd-run --quiet --wait --pipe --collect /usr/local/sbin/infra-restore swap {name} {keys} {expires}"
    );
    let swapping = session.run_within(&command, None, LONG, |_| ());
    let swapped = fault::around(&format!("swap on {}", session.label()), swapping).await?;
    let output = swapped.expect_success(&doing).map_err(|error| {
        error.hint("`infra status` shows what is in force; the journal of the engine's unit on the host says more")
    })?;
    let text = output.text();
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    match (value("kept"), value("keys")) {
        (Some(kept), Some(keys)) => Ok((kept.into(), number(keys)?)),
        _ => Err(misread(&text)),
    }
}

/// Puts the data in force on a host without data. Returns the number of loaded keys.
pub async fn place(session: &Session, name: &str) -> Result<u64> {
    let words = format!("place {name}");
    let text = ask(session, &words, LONG, "put the restored data in force on").await?;
    let keys = text.lines().find_map(|line| line.strip_prefix("keys "));
    number(keys.unwrap_or_default())
}

/// Removes built data that was not used.
pub async fn forget(session: &Session, name: &str) -> Result<()> {
    let (words, deadline) = (format!("forget {name}"), Duration::from_secs(60));
    ask(session, &words, deadline, "remove what was built on")
        .await
        .map(drop)
}

async fn ask(session: &Session, words: &str, deadline: Duration, doing: &str) -> Result<String> {
    let command = format!("sudo -n /usr/local/sbin/infra-restore {words}");
    let output = session.run_within(&command, None, deadline, |_| ()).await?;
    let output = output.expect_success(&format!("{doing} {}", session.label()))?;
    Ok(output.text().to_string())
}

fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| misread(text))
}

fn misread(text: &str) -> Error {
    let shown: String = text.chars().take(80).collect();
    Error::failed(format!("understand the host's answer {shown:?}"))
}
