//! `infra import status`: how far an import is followed, and what that costs the source.

use super::follow::record::Record;
use super::follow::{others, slot};
use super::history::Watched;
use super::setup::Ready;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::size;
use crate::sequences::arguments::ImportFile;
use crate::sequences::context::Context;
use jiff::Timestamp;
use serde_json::json;

pub async fn run(context: &Context, arguments: &ImportFile) -> Result<ExitCode> {
    let ready = Ready::look(context, &arguments.file, &arguments.tables).await?;
    let record = Record::read(&arguments.file);
    let session = ready.source.connect().await?;
    let slot = slot(&ready)?;
    let retained = slot.retained(&session).await?;
    let mut lines = Vec::new();
    let behind = record.as_ref().and_then(|record| record.caught_up).map(|at| {
        let seconds = Timestamp::now().as_second() - at.as_second();
        u64::try_from(seconds).unwrap_or(0)
    });
    match (&record, behind) {
        (None, _) => lines.push("not followed: `infra import follow` begins it".to_owned()),
        (Some(_), None) => lines.push("followed, and not caught up yet".to_owned()),
        (Some(_), Some(seconds)) => lines.push(format!("caught up {seconds} s ago")),
    }
    for (label, table) in record.iter().flat_map(|record| &record.tables) {
        let swept = if table.swept {
            ""
        } else {
            ", not every row looked at yet"
        };
        lines.push(format!(
            "{label}: {} looked at, {} written, {} removed{swept}",
            size::count(table.followed.looked_at),
            size::count(table.followed.written),
            size::count(table.followed.removed)
        ));
    }
    let watched = Watched::last(context, &ready, &arguments.file).await;
    lines.extend(watched.iter().map(Watched::line));
    let mut lost = false;
    if let Some(retained) = &retained {
        lost = retained.lost;
        lines.push(format!(
            "slot {}: the source keeps {} of its log for it, {} not confirmed",
            slot.name(),
            size::bytes(retained.bytes),
            size::bytes(retained.unconfirmed)
        ));
        if retained.limit.is_none() && !retained.active {
            lines.push("nobody reads from the slot now, and the server has no limit for it (max_slot_wal_keep_size): run `infra import follow`, or `infra import finish`".to_owned());
        }
    }
    lines.extend(others(&slot, &session).await?);
    let shown = retained.as_ref().map(|retained| {
        json!({
            "name": slot.name(),
            "retained_bytes": retained.bytes,
            "unconfirmed_bytes": retained.unconfirmed,
            "lost": retained.lost,
            "active": retained.active,
            "limit_bytes": retained.limit,
        })
    });
    context.ui.report(
        json!({ "follow": record, "seconds_since_caught_up": behind, "slot": shown, "watch": watched }),
        lines,
    );
    if lost {
        return Err(Error::unproven(format!(
            "follow by the slot {}: the server threw away what it needs",
            slot.name()
        ))
        .hint("run `infra import follow` again: it makes a new slot and looks at every row once"));
    }
    Ok(ExitCode::Done)
}
