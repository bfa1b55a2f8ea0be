//! Restores into a folder on this computer: a data folder, or the commands of some keys.
//!
//! The files are delivered whatever can be proven of them; the report and the exit code say that.

use super::proof;
use crate::effects::backup::catalogue::Wish;
use crate::effects::backup::restore::{Altered, COMMANDS, Restored};
use crate::effects::backup::{read, restore};
use crate::model::error::{Error, ExitCode, Result};
use crate::model::size;
use crate::sequences::context::{Context, Environment};
use infra_agent::manifest::FOLDER;
use serde_json::json;
use std::path::Path;

pub async fn restore(
    context: &Context,
    environment: &Environment,
    wish: &Wish,
    altered: &Altered,
    folder: &Path,
    without_load: bool,
) -> Result<ExitCode> {
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(
            Error::usage(format!("restore into {}: it is not empty", folder.display()))
                .hint("name a folder that is empty or not there yet: nothing is ever written over"),
        );
    }
    let step = context.ui.step("restore");
    let bucket = environment.store.bucket();
    step.update("reading what there is");
    let catalogue = read::catalogue(bucket, context.env()).await?;
    let choice = restore::choose(&catalogue, wish)?;
    let built = restore::to_folder(bucket, context.env(), &choice, folder, !without_load, altered, &step).await;
    let mut restored = match built {
        Err(error) if folder.join(FOLDER).exists() => {
            report_refused(context, folder);
            return Err(delivered(folder, error));
        }
        built => built?,
    };
    let mut loaded_on = None;
    let mut unproven = None;
    if !without_load {
        match proof::complete(context, environment, &choice, &mut restored, &step).await {
            Ok(place) => loaded_on = Some(place),
            Err(error) => unproven = Some(delivered(folder, error)),
        }
    }
    step.done(format!(
        "{} of base and {} of log in {:.1} s",
        size::bytes(restored.base_bytes),
        size::bytes(restored.log_bytes),
        restored.build_s
    ));
    // Only an engine here takes keys out, or lets them end later.
    if unproven.is_none() && restored.unjudged_here.is_some() && !altered.is_nothing() {
        unproven = Some(unaltered(folder, &restored));
    }
    let (proven, not_proven) = claims(&restored, loaded_on, altered);
    let mut lines = vec![line(&restored, folder)];
    lines.extend(proven.iter().map(|claim| format!("proven: {claim}")));
    lines.extend(not_proven.iter().map(|claim| format!("not proven: {claim}")));
    lines.push(next(&restored, folder));
    let fields = json!({
        "folder": folder, "restored": restored, "loaded_on": loaded_on, "proven": proven, "not_proven": not_proven,
    });
    context.ui.report(fields, lines);
    unproven.map_or(Ok(ExitCode::Done), Err)
}

const OBJECTS: &str = "no object of the backup has changed since its upload, and none is missing";

/// Reports files that an engine here has refused.
fn report_refused(context: &Context, folder: &Path) {
    let refused = "that an engine loads it: the one on this computer refuses it";
    let fields = json!({
        "folder": folder, "restored": null, "loaded_on": null, "proven": [OBJECTS], "not_proven": [refused],
    });
    let lines = [
        format!("{}: its files are there", folder.display()),
        format!("proven: {OBJECTS}"),
        format!("not proven: {refused}"),
    ];
    context.ui.report(fields, lines);
}

fn delivered(folder: &Path, error: Error) -> Error {
    error.while_doing(format!(
        "prove what was restored (all of its files are in {})",
        folder.display()
    ))
}

fn unaltered(folder: &Path, restored: &Restored) -> Error {
    let why = restored.unjudged_here.clone().unwrap_or_default();
    Error::failed(format!(
        "change what was restored as asked (all of it is in {}, as it was)",
        folder.display()
    ))
    .because(why)
    .hint("--keys and --shift-ttl need an engine of the hosts' version here: install one, or name it by INFRA_REDIS_SERVER")
}

/// Says of the files in the folder what is proven, and what is not.
fn claims(restored: &Restored, loaded_on: Option<&str>, altered: &Altered) -> (Vec<String>, Vec<String>) {
    let mut proven = vec![OBJECTS.to_string()];
    let mut not_proven = Vec::new();
    match (&restored.loaded, loaded_on) {
        (Some(loaded), Some(place)) => {
            let later = restored.later_s.is_some();
            proven.push(format!(
                "{} loads it in {:.1} s on {place}: {} keys{}",
                loaded.engine,
                restored.load_s,
                size::count(loaded.keys + if later { loaded.expired } else { 0 }),
                super::expired(if later { 0 } else { loaded.expired }),
            ));
        }
        _ => not_proven.push("that an engine loads it: none has".into()),
    }
    if restored.unjudged_here.is_some() && !altered.is_nothing() {
        not_proven.push(
            "that only the keys that were asked for are in it, with the life that they had: it is as it was".into(),
        );
    }
    (proven, not_proven)
}

fn line(restored: &Restored, folder: &Path) -> String {
    let later = restored.later_s.map_or(String::new(), |seconds| {
        format!(
            "; keys end {} s later than they would have",
            size::count(seconds.unsigned_abs())
        )
    });
    format!(
        "{}: the data as of {}, last write {}{later}",
        folder.display(),
        restored
            .at
            .map_or("the newest that there is".into(), |at| at.to_string()),
        restored.last_write_at.map_or("in the base".into(), |at| at.to_string()),
    )
}

/// Says what to do with the files.
fn next(restored: &Restored, folder: &Path) -> String {
    match &restored.picked {
        Some(picked) => format!(
            "{} of its keys were asked for{}; put them into a server with: redis-cli --pipe < {}",
            size::count(picked.keys),
            super::expired(picked.expired),
            folder.join(COMMANDS).display()
        ),
        None => format!(
            "start a server on it with: redis-server --appendonly yes --appendfilename appendonly.aof --dir {}",
            folder.display()
        ),
    }
}
