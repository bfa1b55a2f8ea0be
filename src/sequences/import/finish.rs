//! `infra import finish`: the last comparison, and then slot and publication are gone.

use super::follow::record::Record;
use super::follow::{earlier, others, slot};
use super::history::Watched;
use super::setup::Ready;
use super::verify;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::secret::Secret;
use crate::sequences::arguments::ImportFinish;
use crate::sequences::context::Context;
use serde_json::json;
use std::collections::BTreeMap;

pub async fn run(context: &Context, arguments: &ImportFinish) -> Result<ExitCode> {
    let file = &arguments.comparison.file;
    let ready = Ready::look(context, &file.file, &file.tables).await?;
    let watched = Watched::last(context, &ready, &file.file).await;
    let verdict = if arguments.abandon {
        None
    } else {
        Some(verify::prove(context, &ready, &arguments.comparison).await?)
    };
    let wanted = arguments.set.as_deref().map(assignment).transpose()?;
    if let Some((name, _)) = &wanted {
        context.agree(arguments.yes, &format!("set {name} of the app, which restarts it?"))?;
    }
    let slot = slot(&ready)?;
    let step = context.ui.step("end the following");
    let session = ready.source.connect_for_changes().await?;
    slot.claim(&session).await?;
    let record = Record::read(&file.file).unwrap_or_default();
    let mut had_slot = false;
    for slot in [Some(slot.clone()), earlier(&ready, &record, &slot)?]
        .into_iter()
        .flatten()
    {
        had_slot |= slot.retained(&session).await?.is_some();
        slot.remove(&session).await?;
    }
    Record::remove(&file.file)?;
    let others = others(&slot, &session).await?;
    step.done(if had_slot {
        "slot and publication are gone"
    } else {
        "there was no slot"
    });
    let mut lines = others;
    if lines.is_empty() {
        lines.push("nothing of infra is left in PostgreSQL".to_owned());
    }
    lines.extend(watched.iter().map(Watched::line));
    if let Some((name, value)) = wanted {
        let step = context.ui.step(format!("set {name}"));
        let release = context
            .platform
            .set_config_vars(&BTreeMap::from([(name.clone(), Some(Secret::new(value)))]))
            .await?;
        step.done(release.map_or("set".to_owned(), |release| format!("release {release}")));
        lines.push(format!("{name} is set: the app reads from where it says"));
    } else {
        lines.push("the reads are the app's to switch".to_owned());
    }
    context.ui.report(
        json!({
            "finished": true,
            "verified": verdict.is_some(),
            "verdict": verdict,
            "watch": watched,
            "slot_removed": had_slot,
            "set": arguments.set,
        }),
        lines,
    );
    Ok(ExitCode::Done)
}

fn assignment(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::usage(format!(
            "set a config var {text:?}: it is not of the form NAME=VALUE"
        ))),
    }
}
