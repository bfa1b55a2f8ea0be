//! `infra backup`: makes, lists, proves and drills backups.

mod drill;
mod verify;

use crate::effects::backup;
use crate::effects::backup::catalogue::moment;
use crate::effects::backup::read;
use crate::effects::host;
use crate::model::error::{ExitCode, Result};
use crate::model::files;
use crate::model::role::Role;
use crate::model::size;
use crate::sequences::arguments::BackupVerb;
use crate::sequences::context::{Context, Environment};
use serde_json::json;

pub async fn run(context: &Context, verb: &BackupVerb) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let work = async {
        match verb {
            BackupVerb::Now => now(context, &environment).await,
            BackupVerb::List => list(context, &environment).await,
            BackupVerb::Verify(arguments) => verify::run(context, &environment, arguments).await,
            BackupVerb::Drill(arguments) => return drill::run(context, &environment, arguments).await,
        }
    };
    context.interrupt.or(work).await
}

async fn now(context: &Context, environment: &Environment) -> Result<ExitCode> {
    let step = context.ui.step("base");
    let session = environment.pair().await?.log_in(Role::Master).await?;
    let commit = host::backup::run_now(&session).await?;
    step.update("reading it back");
    let summary = backup::read_back(environment.store.bucket(), &commit).await?;
    step.done(format!(
        "{} keys, {} in {} parts, read back and every SHA-256 matches",
        size::count(summary.keys),
        size::bytes(summary.bytes),
        commit.parts.len()
    ));
    context.ui.report(json!({"backup": summary}), [&summary.key]);
    Ok(ExitCode::Done)
}

async fn list(context: &Context, environment: &Environment) -> Result<ExitCode> {
    let step = context.ui.step("read the bucket");
    let catalogue = read::catalogue(environment.store.bucket(), context.env()).await?;
    step.done(format!(
        "{} bases, {} timelines",
        catalogue.bases.len(),
        catalogue.timelines.len()
    ));
    let holdings = backup::drill::holdings(
        &catalogue,
        context.config.backup_period_s(),
        context.config.backup.rpo_s,
    );
    let covered = catalogue.covered();
    let gaps: Vec<_> = catalogue
        .declared_gaps()
        .iter()
        .filter_map(|timeline| Some((timeline.id.clone(), timeline.gap.clone()?)))
        .collect();
    let bases: Vec<_> = (catalogue.lines().iter())
            .map(|line| {
                json!({"id": line.base.generation, "key": line.base.place, "class": line.base.class, "timeline": line.base.timeline,
                       "finished_at": line.base.finished, "keys": line.base.keys, "bytes": line.base.bytes,
                       "restores_from": moment(line.from), "restores_until": (line.until >= line.from).then(|| moment(line.until))})
            })
            .collect();
    let fields = json!({
        "bases": bases,
        "covered": covered,
        "gaps": gaps.iter().map(|(timeline, gap)| json!({"timeline": timeline, "after": moment(gap.after), "why": gap.why})).collect::<Vec<_>>(),
        "findings": catalogue.findings,
        "holdings": holdings,
    });
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "base",
        "class",
        "finished",
        "keys",
        "size",
        "restores every second until",
    ]);
    for line in catalogue.lines() {
        table.add_row([
            line.base.generation.clone(),
            line.base.class.clone(),
            line.base.finished.clone(),
            size::count(line.base.keys),
            size::bytes(line.base.bytes),
            if line.until >= line.from {
                moment(line.until)
            } else {
                "only itself".into()
            },
        ]);
    }
    let mut lines = vec![table.to_string()];
    let ranges = covered.iter();
    lines.extend(ranges.map(|range| format!("covered: {} to {}", range.from, range.until)));
    let holes = covered.windows(2);
    lines.extend(holes.map(|pair| format!("not covered: {} to {}", pair[0].until, pair[1].from)));
    for (timeline, gap) in &gaps {
        let after = moment(gap.after);
        lines.push(format!("gap before {timeline}, after {after}: {}", gap.why));
    }
    for finding in &catalogue.findings {
        lines.push(format!("{} {}", context.ui.paint_data("31", "FOUND"), finding.what));
    }
    lines.push(format!(
        "{} objects, {}; about {:.2} $ a month to store and {:.2} $ to put, at the prices of us-east-1",
        size::count(holdings.objects),
        size::bytes(holdings.bytes),
        holdings.storage_usd_month,
        holdings.puts_usd_month
    ));
    context.ui.report(fields, lines);
    Ok(ExitCode::Done)
}

/// Makes a folder for data that is thrown away again.
fn temporary() -> Result<tempfile::TempDir> {
    files::temporary("restore")
}
