//! `infra restore`: any covered second of the past, built in a new place, checked, and put where it was asked for.

use super::JSON_SCHEMA_VERSION;
use super::context::{Context, Environment};
use crate::backup::catalogue::Wish;
use crate::backup::{load, read, restore};
use crate::cli::{Restore, Target};
use crate::error::{Error, ExitCode, Result};
use crate::ui::size;
use serde_json::json;
use std::path::Path;

pub async fn run(context: &Context, arguments: &Restore) -> Result<ExitCode> {
    let wish = match (arguments.at, arguments.latest, &arguments.backup) {
        (Some(at), false, None) => Wish::At(at),
        (None, true, None) => Wish::Latest,
        (None, false, Some(base)) => Wish::Base(base.clone()),
        _ => {
            return Err(Error::usage("know what to restore").hint("name one of --at TIME, --latest and --backup ID"));
        }
    };
    let environment = context.environment().await?;
    match arguments.target()? {
        Target::File(folder) => {
            context
                .interrupt
                .or(to_file(context, &environment, &wish, &folder, arguments.without_load))
                .await
        }
    }
}

async fn to_file(
    context: &Context,
    environment: &Environment,
    wish: &Wish,
    folder: &Path,
    without_load: bool,
) -> Result<ExitCode> {
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(
            Error::usage(format!("restore into {}: it is not empty", folder.display()))
                .hint("name a folder that is empty or not there yet: nothing is ever written over"),
        );
    }
    if !without_load && load::server().is_none() {
        return Err(Error::failed(
            "prove the restored data: there is no redis-server or valkey-server on this computer",
        )
        .hint("install one of the version that the hosts have, or leave the proof out with --without-load"));
    }
    let step = context.ui.step("restore");
    let bucket = environment.store.bucket();
    step.update("reading what there is");
    let catalogue = read::catalogue(bucket, context.env()).await?;
    let choice = restore::choose(&catalogue, wish)?;
    let restored = restore::to_folder(bucket, context.env(), &choice, folder, !without_load, &step).await?;
    step.done(format!(
        "{} of base and {} of log in {:.1} s",
        size::bytes(restored.base_bytes),
        size::bytes(restored.log_bytes),
        restored.build_s
    ));
    if context.ui.json() {
        context
            .ui
            .data(json!({"schema_version": JSON_SCHEMA_VERSION, "folder": folder, "restored": restored}).to_string());
        return Ok(ExitCode::Done);
    }
    let proof = match &restored.loaded {
        Some(loaded) => format!(
            "{} loads it in {:.1} s: {} keys{}",
            loaded.engine,
            restored.load_s,
            size::count(loaded.keys),
            match loaded.expired {
                0 => String::new(),
                expired => format!("; {} more have expired since", size::count(expired)),
            }
        ),
        None => "no engine has loaded it: --without-load was given".into(),
    };
    context.ui.data(format!(
        "{}: the data as of {}, last write {}; {proof}",
        folder.display(),
        restored
            .at
            .map_or("the newest that there is".into(), |at| at.to_string()),
        restored.last_write_at.map_or("in the base".into(), |at| at.to_string()),
    ));
    context.ui.data(format!(
        "start a server on it with: redis-server --appendonly yes --appendfilename appendonly.aof --dir {}",
        folder.display()
    ));
    Ok(ExitCode::Done)
}
