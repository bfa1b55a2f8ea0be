//! Puts an RDB file, such as a provider's download, in the place of the master's data.

use super::live::Master;
use super::name;
use crate::effects::host::restore as on_host;
use crate::effects::host::restore::Checked;
use crate::effects::state::Held;
use crate::model::error::{Doing, Error, ExitCode, Result};
use crate::model::size;
use crate::sequences::arguments::Confirmed;
use crate::sequences::context::{Context, Environment};
use infra_agent::rdb;
use serde_json::json;
use std::path::Path;

pub async fn import(
    context: &Context,
    environment: &Environment,
    path: &Path,
    confirmed: &Confirmed,
) -> Result<ExitCode> {
    let ui = &context.ui;
    let file = std::fs::read(path).doing(|| format!("read {}", path.display()))?;
    let header = rdb::header(&mut &file[..]).ok_or_else(|| {
        Error::usage(format!(
            "accept {}: it is no RDB file, by its first bytes",
            path.display()
        ))
        .hint("providers often pack it: unpack it first (.gz, .zip)")
    })?;
    let step = ui.step("look");
    let on = Master::reach(context, environment).await?;
    let words = format!(
        "{} ({}, RDB version {})",
        path.display(),
        size::bytes(file.len() as u64),
        header.version
    );
    step.done(&words);
    if confirmed.dry_run {
        ui.data(format!("would put {words} in the place of the master's data"));
        return Ok(ExitCode::Done);
    }
    context.confirm(
        confirmed.confirm.as_deref(),
        &format!("This stops the master for some seconds and puts {words} in the place of its data, which is kept on the host in a folder of its own."),
    )?;
    let importing = async |lock: &Held| {
        on.recover().await?;
        on_host::room(&on.session, file.len() as u64).await?;
        let name = name();
        let step = ui.step("send");
        step.update(size::bytes(file.len() as u64));
        on_host::import(&on.session, &name, &file).await?;
        step.done(format!("{} are there and whole", size::bytes(file.len() as u64)));
        let checked = on.load_beside(&name, context, false).await?;
        on.still_ours(lock).await?;
        let (kept, keys) = on.put_in_force(&name, &checked).await?;
        Ok::<_, Error>((kept, keys, checked))
    };
    let work = async |lock: &Held| context.interrupt.or(importing(lock)).await;
    let (kept, keys, checked) = context.locked(environment, "infra restore", work).await?;
    let expired = match checked {
        Checked::Loads { expired, .. } => expired,
        Checked::NoRoom(_) => 0,
    };
    let more = match expired {
        0 => String::new(),
        expired => format!("; {} more had reached the end of their time", size::count(expired)),
    };
    let line = format!(
        "the master serves {words}: {} keys{more}. What it had before is on it in {kept}",
        size::count(keys),
    );
    ui.report(json!({"keys": keys, "kept": kept, "expired": expired}), [line]);
    Ok(ExitCode::Done)
}
