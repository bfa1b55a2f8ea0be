//! Builds a data folder from the bucket: chooses, signs, builds, and loads it in an engine.

use super::catalogue::{Catalogue, Choice, Uncovered, Wish};
use super::load::{self, Loaded, Unloaded};
use crate::effects::cloud::s3::Bucket;
use crate::model::clock::Instant;
use crate::model::error::{Error, Result};
use crate::ui::Step;
use futures_util::{StreamExt, TryStreamExt, stream};
use infra_agent::manifest::FOLDER;
use infra_agent::pick::{self, Picked, Unpicked, Wanted};
use infra_agent::rebuild::{self, Base, Built, Piece, Plan, Unbuilt};
use jiff::Timestamp;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Long enough for a large restore over a slow link. An address gives access for this long.
const LIFETIME: Duration = Duration::from_secs(6 * 3600);

/// Time limit of loading; an engine loads the memory of a host in much less.
pub const LOADING: Duration = Duration::from_secs(3600);
/// The file with the commands of the chosen keys.
pub const COMMANDS: &str = "commands.resp";

/// The parts and the result of a restore.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Restored {
    /// The base's folder in the bucket.
    pub base: String,
    pub pieces: usize,
    /// The second that was asked for; `None`: up to the end of the log.
    pub at: Option<Timestamp>,
    pub last_write_at: Option<Timestamp>,
    pub base_bytes: u64,
    pub log_bytes: u64,
    /// `None` if no engine has loaded it.
    pub loaded: Option<Loaded>,
    /// The reason why no engine here could judge it; `None` if one did, or none was asked.
    pub unjudged_here: Option<String>,
    /// How many seconds later keys expire than before; `None` if that was not asked for.
    pub later_s: Option<i64>,
    /// The chosen keys, if not all were asked for.
    pub picked: Option<Picked>,
    pub build_s: f64,
    pub load_s: f64,
}

/// Changes of the restored data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Altered {
    /// A pattern: only these keys are restored.
    pub keys: Option<String>,
    /// True if keys keep the time to live that they had at the restore point.
    pub keep_life: bool,
}

impl Altered {
    pub fn is_nothing(&self) -> bool {
        *self == Altered::default()
    }

    /// Returns these changes in the form for the agent, with the second of the data.
    pub fn wanted(&self, choice: &Choice<'_>, built: &Built) -> Wanted {
        let now_ms = Timestamp::now().as_millisecond();
        // The record of a base alone has only its end.
        let of_base = || choice.base.finished.parse::<Timestamp>().ok();
        let as_of = choice.until.or(built.last_second).map(|second| second * 1000);
        let as_of = as_of.or_else(|| Some(of_base()?.as_millisecond())).unwrap_or(now_ms);
        Wanted {
            keys: self.keys.clone(),
            shift_ms: if self.keep_life { (now_ms - as_of).max(0) } else { 0 },
            now_ms,
        }
    }
}

/// Returns what serves the wish. The error names the nearest seconds that are covered.
pub fn choose<'a>(catalogue: &'a Catalogue, wish: &Wish) -> Result<Choice<'a>> {
    catalogue.choose(wish).map_err(|why| {
        let error = |what: &str| Error::failed(format!("find a backup to restore: {what}"));
        match why {
            Uncovered::NoBackup => error("there is none").hint("run `infra backup now`, and see `infra status`"),
            Uncovered::NoSuchBase => error("there is none of this name").hint("`infra backup list` names them"),
            Uncovered::Between { before, after } => {
                let nearest = match (before, after) {
                    (Some(before), Some(after)) => {
                        format!("the nearest seconds that are covered are {before} and {after}")
                    }
                    (Some(before), None) => format!("the last second that is covered is {before}"),
                    (None, Some(after)) => format!("the first second that is covered is {after}"),
                    (None, None) => "no second is covered by a log".into(),
                };
                error(&format!("that second is not covered; {nearest}"))
                    .hint("name one of them with --at, take everything with --latest, or a base alone with --backup")
            }
        }
    })
}

/// Returns the plan with signed addresses for the builder.
pub async fn plan(bucket: &Bucket, env: &str, choice: &Choice<'_>, parallel: usize) -> Result<Plan> {
    let base = choice.base;
    let sign =
        |key: String| async move { Ok::<_, Error>(bucket.signed_url(&key, LIFETIME).await?.expose().to_string()) };
    let urls = |keys: Vec<String>| async move {
        stream::iter(keys)
            .map(sign)
            .buffered(32)
            .try_collect::<Vec<String>>()
            .await
    };
    let parts = urls(
        base.parts
            .iter()
            .map(|part| format!("{}/{}", base.place, part.name))
            .collect(),
    )
    .await?;
    let log = super::read::log_prefix(env);
    let pieces = urls(
        (choice.steps.iter())
            .map(|step| format!("{log}{}/{}", step.timeline, step.piece.segment))
            .collect(),
    )
    .await?;
    Ok(Plan {
        base: Base {
            parts: base.parts.iter().cloned().zip(parts).collect(),
            plain_sha256: base.plain_sha256.clone(),
            plain_bytes: base.plain_bytes,
            second: (base.covers_from > 0).then_some(base.covers_from),
        },
        pieces: (choice.steps.iter().zip(pieces))
            .map(|(step, url)| Piece {
                name: step.piece.segment.to_string(),
                url,
                up_to: step.up_to,
            })
            .collect(),
        until: choice.until,
        parallel,
    })
}

/// Signs a plan and builds by it. If its addresses ended before the build did, both are done once
/// more: addresses end with the credentials that sign them, often after an hour.
pub async fn build_signed<T>(
    bucket: &Bucket,
    env: &str,
    choice: &Choice<'_>,
    parallel: usize,
    build: impl AsyncFn(Plan) -> Result<T>,
) -> Result<T> {
    let life = bucket.life_of_signed(LIFETIME).await?;
    once_more_after(life, async || build(plan(bucket, env, choice, parallel).await?).await).await
}

/// Does the work, and once more if it failed after `life`.
async fn once_more_after<T>(life: Duration, work: impl AsyncFn() -> Result<T>) -> Result<T> {
    let end = Instant::now().after(life);
    match work().await {
        Err(_) if end.has_passed() => work().await,
        done => done,
    }
}

/// Builds into a folder on this computer.
pub async fn build(plan: Plan, folder: &Path, step: &Step) -> Result<Built> {
    let folder: PathBuf = folder.into();
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let building = tokio::task::spawn_blocking(move || {
        rebuild::build(&plan, &folder, &mut |done, all| {
            let _ = sender.send((done, all));
        })
    });
    while let Some((done, all)) = heard.recv().await {
        step.update(format!("{done} of {all} objects"));
    }
    building
        .await
        .map_err(|error| Error::failed("build the data folder").because(error))?
        .map_err(unbuilt)
}

/// Returns the error of a failed build: a failed proof if the bucket is to blame.
pub fn unbuilt(error: Unbuilt) -> Error {
    let hint = match &error {
        Unbuilt::Disk { .. } => {
            return Error::failed("build the data folder")
                .because(error)
                .hint("see that the disk has room for the data, and name a folder that is not there yet");
        }
        Unbuilt::Unread(infra_agent::download::Unread::Unreachable { .. }) => {
            return Error::failed("build the data folder")
                .because(error)
                .hint("see that S3 can be reached from there, then run it again");
        }
        Unbuilt::Unread(_) | Unbuilt::Corrupt { .. } | Unbuilt::Gap { .. } | Unbuilt::Malformed { .. } => {
            "`infra backup verify` names all that is damaged; choose a time that another base serves, or a base alone with --backup"
        }
    };
    Error::unproven("build the data folder from the backup")
        .because(error)
        .hint(hint)
}

/// Fails if an engine has another number of keys than the base's record, expired ones included.
/// Without a log the number of keys is known; with one, writes have changed it.
pub fn expect_keys(choice: &Choice<'_>, log_bytes: u64, keys: u64) -> Result<()> {
    if log_bytes > 0 || !choice.steps.is_empty() || keys == choice.base.keys {
        return Ok(());
    }
    Err(Error::unproven(format!(
        "load the restored data: {keys} keys are there, also counting those that have expired, the base's record says {}",
        choice.base.keys
    ))
    .hint("`infra backup verify` says more"))
}

/// Builds into a folder here and loads it, if an engine here can judge it. With chosen keys, only their commands remain.
pub async fn to_folder(
    bucket: &Bucket,
    env: &str,
    choice: &Choice<'_>,
    folder: &Path,
    load: bool,
    altered: &Altered,
    step: &Step,
) -> Result<Restored> {
    let begun = std::time::Instant::now();
    let built = build_signed(bucket, env, choice, 8, async |plan| build(plan, folder, step).await).await?;
    let build_s = begun.elapsed().as_secs_f64();
    let second = |second: i64| Timestamp::from_second(second).ok();
    let mut restored = Restored {
        base: choice.base.place.clone(),
        pieces: choice.steps.len(),
        at: choice.until.and_then(second),
        last_write_at: built.last_second.and_then(second),
        base_bytes: built.base_bytes,
        log_bytes: built.log_bytes,
        build_s,
        ..Restored::default()
    };
    if !load {
        return Ok(restored);
    }
    step.update("an engine loads it");
    let begun = std::time::Instant::now();
    let mut engine = match load::Engine::start(folder, LOADING).await {
        Ok(engine) => engine,
        Err(Unloaded::Unjudged(error)) => {
            restored.unjudged_here = Some(format!("{error:#}"));
            return Ok(restored);
        }
        Err(Unloaded::Failed(error)) => return Err(error),
    };
    let work = async {
        let loaded = engine.look().await?;
        restored.load_s = begun.elapsed().as_secs_f64();
        expect_keys(choice, built.log_bytes, loaded.keys + loaded.expired)?;
        restored.loaded = Some(loaded);
        if altered.is_nothing() {
            return Ok(None);
        }
        step.update("an engine writes its keys as commands");
        engine.write_commands(folder, LOADING).await.map(Some)
    };
    let base = work.await;
    engine.stop().await;
    let Some(base) = base? else { return Ok(restored) };
    let wanted = altered.wanted(choice, &built);
    restored.later_s = altered.keep_life.then_some(wanted.shift_ms / 1000);
    let (folder, picks) = (folder.to_path_buf(), altered.keys.is_some());
    let doing = || format!("write the keys that were asked for into {}", folder.display());
    let altering = {
        let folder = folder.clone();
        tokio::task::spawn_blocking(move || alter(&folder, &base, &wanted, picks))
    };
    restored.picked = altering
        .await
        .map_err(|error| Error::failed(doing()).because(error))?
        .map_err(|error| Error::failed(doing()).because(error))?;
    Ok(restored)
}

fn alter(folder: &Path, base: &Path, wanted: &Wanted, picks: bool) -> std::result::Result<Option<Picked>, Unpicked> {
    if !picks {
        pick::shift_in_place(base, wanted.shift_ms)?;
        return Ok(None);
    }
    let mut file = std::fs::File::create_new(folder.join(COMMANDS))?;
    let picked = pick::commands(base, wanted, &mut file)?;
    file.sync_all()?;
    std::fs::remove_dir_all(folder.join(FOLDER))?;
    Ok(Some(picked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    async fn attempts(life: Duration) -> u32 {
        let attempts = AtomicU32::new(0);
        let work = async || {
            attempts.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err::<(), _>(Error::failed("build"))
        };
        once_more_after(life, work).await.unwrap_err();
        attempts.into_inner()
    }

    #[tokio::test]
    async fn a_build_is_repeated_once_if_its_addresses_ended_meanwhile() {
        assert_eq!(attempts(Duration::from_millis(5)).await, 2);
        assert_eq!(attempts(Duration::from_secs(60)).await, 1);
    }
}
