//! Restores into a folder on this computer: a data folder, or the commands of some keys.

use crate::effects::backup::catalogue::Wish;
use crate::effects::backup::restore;
use crate::effects::backup::restore::{Altered, COMMANDS, Restored};
use crate::effects::backup::{load, read};
use crate::model::error::{Error, ExitCode, Result};
use crate::model::size;
use crate::sequences::context::{Context, Environment};
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
    let restored = restore::to_folder(bucket, context.env(), &choice, folder, !without_load, altered, &step).await?;
    step.done(format!(
        "{} of base and {} of log in {:.1} s",
        size::bytes(restored.base_bytes),
        size::bytes(restored.log_bytes),
        restored.build_s
    ));
    let fields = json!({"folder": folder, "restored": restored});
    context.ui.report(fields, lines(&restored, folder));
    Ok(ExitCode::Done)
}

fn lines(restored: &Restored, folder: &Path) -> Vec<String> {
    let later = restored.later_s.map_or(String::new(), |seconds| {
        format!(
            "; keys end {} s later than they would have",
            size::count(seconds.unsigned_abs())
        )
    });
    let proof = match &restored.loaded {
        Some(loaded) => format!(
            "{} loads it in {:.1} s: {} keys{}{later}",
            loaded.engine,
            restored.load_s,
            size::count(loaded.keys + if restored.later_s.is_some() { loaded.expired } else { 0 }),
            super::expired(if restored.later_s.is_some() { 0 } else { loaded.expired }),
        ),
        None => "no engine has loaded it: --without-load was given".into(),
    };
    let mut lines = vec![format!(
        "{}: the data as of {}, last write {}; {proof}",
        folder.display(),
        restored
            .at
            .map_or("the newest that there is".into(), |at| at.to_string()),
        restored.last_write_at.map_or("in the base".into(), |at| at.to_string()),
    )];
    lines.push(match &restored.picked {
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
    });
    lines
}
