//! `infra backup`: bases on demand, what there is, whether it is whole, and whether it really comes back.

use super::JSON_SCHEMA_VERSION;
use super::context::{Context, Environment, host_record};
use crate::backup::catalogue::{Catalogue, Finding, Wish, Wrong, moment};
use crate::backup::{self, drill, load, prove, read, restore};
use crate::cli::{BackupVerb, Drill, VerifyBackups};
use crate::error::{Error, ExitCode, Kind, Result};
use crate::host;
use crate::plan::cloud::Expiry;
use crate::state::Role;
use crate::ui::{Step, size};
use jiff::Timestamp;
use serde_json::json;
use std::time::Duration;

/// A base that is older than this many periods is an alarm.
pub const LATE_PERIODS: u64 = 2;
/// Without writes the log says so this often, by the agent's own clock; and some time to say it in.
pub const SILENT: Duration = Duration::from_secs(300 + 60);

/// A host that was set up answers at once, or is in trouble.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn run(context: &Context, verb: &BackupVerb) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let work = async {
        match verb {
            BackupVerb::Now => now(context, &environment).await,
            BackupVerb::List => list(context, &environment).await,
            BackupVerb::Verify(arguments) => verify(context, &environment, arguments).await,
            BackupVerb::Drill(arguments) => drill(context, &environment, arguments).await,
        }
    };
    context.interrupt.or(work).await
}

async fn now(context: &Context, environment: &Environment) -> Result<ExitCode> {
    let step = context.ui.step("base");
    let session = context.log_in(environment, Role::Master).await?;
    let commit = host::backup::run_now(&session).await?;
    step.update("reading it back");
    let summary = backup::read_back(environment.store.bucket(), &commit).await?;
    step.done(format!(
        "{} keys, {} in {} parts, read back and every SHA-256 matches",
        size::count(summary.keys),
        size::bytes(summary.bytes),
        commit.parts.len()
    ));
    match context.ui.json() {
        true => context
            .ui
            .data(json!({"schema_version": JSON_SCHEMA_VERSION, "backup": summary}).to_string()),
        false => context.ui.data(summary.key),
    }
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
    let holdings = drill::holdings(
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
    if context.ui.json() {
        let bases: Vec<_> = (catalogue.lines().iter())
            .map(|line| {
                json!({"id": line.base.generation, "key": line.base.place, "class": line.base.class, "timeline": line.base.timeline,
                       "finished_at": line.base.finished, "keys": line.base.keys, "bytes": line.base.bytes,
                       "restores_from": moment(line.from), "restores_until": (line.until >= line.from).then(|| moment(line.until))})
            })
            .collect();
        let told = json!({
            "schema_version": JSON_SCHEMA_VERSION,
            "bases": bases,
            "covered": covered,
            "gaps": gaps.iter().map(|(timeline, gap)| json!({"timeline": timeline, "after": moment(gap.after), "why": gap.why})).collect::<Vec<_>>(),
            "findings": catalogue.findings,
            "holdings": holdings,
        });
        context.ui.data(told.to_string());
        return Ok(ExitCode::Done);
    }
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
    context.ui.data(table.to_string());
    for range in &covered {
        context.ui.data(format!("covered: {} to {}", range.from, range.until));
    }
    for pair in covered.windows(2) {
        context
            .ui
            .data(format!("not covered: {} to {}", pair[0].until, pair[1].from));
    }
    for (timeline, gap) in &gaps {
        context.ui.data(format!(
            "gap before {timeline}, after {}: {}",
            moment(gap.after),
            gap.why
        ));
    }
    for finding in &catalogue.findings {
        context
            .ui
            .data(format!("{} {}", context.ui.paint_data("31", "FOUND"), finding.what));
    }
    context.ui.data(format!(
        "{} objects, {}; about {:.2} $ a month to store and {:.2} $ to put, at the prices of us-east-1",
        size::count(holdings.objects),
        size::bytes(holdings.bytes),
        holdings.storage_usd_month,
        holdings.puts_usd_month
    ));
    Ok(ExitCode::Done)
}

async fn verify(context: &Context, environment: &Environment, arguments: &VerifyBackups) -> Result<ExitCode> {
    let bucket = environment.store.bucket();
    let mut proof = match checked(context, environment).await {
        Ok(proof) => proof,
        Err(error) if error.kind() == Kind::Failed => return Err(error.with_kind(Kind::BackupUnreachable)),
        Err(error) => return Err(error),
    };
    let catalogue = read::catalogue(bucket, context.env()).await?;
    if !arguments.without_load && proof.findings.iter().all(|finding| finding.kind == Wrong::Stale) {
        let step = context.ui.step("load");
        match load_latest(context, environment, &catalogue, &step).await {
            Ok(restored) => step.done(format!(
                "the newest state loads: {} keys in {:.1} s",
                size::count(restored.loaded.as_ref().map_or(0, |loaded| loaded.keys)),
                restored.load_s
            )),
            Err(error) if error.kind() == Kind::Unproven => {
                step.failed("it does not load");
                proof.findings.push(Finding {
                    kind: Wrong::Load,
                    what: error.chain().join(": "),
                });
            }
            Err(error) => return Err(error),
        }
    }
    proof.findings.sort();
    if context.ui.json() {
        context
            .ui
            .data(json!({"schema_version": JSON_SCHEMA_VERSION, "proof": proof}).to_string());
    } else {
        for finding in &proof.findings {
            context
                .ui
                .data(format!("{} {}", context.ui.paint_data("31", "FOUND"), finding.what));
        }
        context.ui.data(format!(
            "{} objects with {} were read; {}",
            size::count(proof.objects),
            size::bytes(proof.bytes),
            match proof.findings.len() {
                0 => "every one is what it was put as, and none is missing".into(),
                count => format!("{count} findings"),
            }
        ));
    }
    match proof.findings.first() {
        None => Ok(ExitCode::Done),
        Some(first) => Err(Error::new(kind(first.kind), format!("prove the backups: {}", first.what))
            .hint("`infra backup now` makes a base that does not depend on what is damaged; `infra backup list` shows what can still be restored")),
    }
}

/// The kind, and so the exit code, of a finding.
pub fn kind(wrong: Wrong) -> Kind {
    match wrong {
        Wrong::Stale => Kind::BackupStale,
        Wrong::Gap => Kind::BackupGap,
        Wrong::Checksum => Kind::BackupChecksum,
        Wrong::Load => Kind::BackupLoad,
        Wrong::Unreachable => Kind::BackupUnreachable,
    }
}

/// Names, digests, holes and age.
async fn checked(context: &Context, environment: &Environment) -> Result<prove::Proof> {
    let bucket = environment.store.bucket();
    let step = context.ui.step("read every object");
    let catalogue = read::catalogue(bucket, context.env()).await?;
    let mut proof = prove::everything(bucket, context.env(), &catalogue, &step).await?;
    proof.findings.extend(catalogue.findings.iter().cloned());
    let keep = &context.config.backup.keep;
    let expiry = Expiry::keeping(keep.hourly, keep.daily, keep.monthly, context.config.backup_period_s());
    let kept_since = Timestamp::now().as_second() - i64::from(expiry.hourly_days) * 86_400;
    proof.findings.extend(catalogue.holes(kept_since));
    let gaps = catalogue.declared_gaps();
    proof.findings.extend(gaps.iter().filter_map(|timeline| {
        let gap = timeline.gap.as_ref()?;
        Some(Finding {
            kind: Wrong::Gap,
            what: format!(
                "the agent itself declared a gap after {}: {}",
                moment(gap.after),
                gap.why
            ),
        })
    }));
    proof.findings.extend(stale(
        &catalogue,
        Timestamp::now(),
        context.config.backup_period_s(),
        context.config.backup.rpo_s,
    ));
    proof.findings.sort();
    proof.findings.dedup();
    let done = format!("{} objects, {}", size::count(proof.objects), size::bytes(proof.bytes));
    match proof.findings.is_empty() {
        true => step.done(done),
        false => step.failed(format!("{done}: {} findings", proof.findings.len())),
    }
    Ok(proof)
}

/// What is too old.
pub fn stale(catalogue: &Catalogue, now: Timestamp, period_s: u64, rpo_s: u64) -> Vec<Finding> {
    let age = |second: i64| u64::try_from(now.as_second() - second).unwrap_or(0);
    let mut found = Vec::new();
    let mut tell = |what| {
        found.push(Finding {
            kind: Wrong::Stale,
            what,
        });
    };
    match catalogue
        .bases
        .iter()
        .filter_map(|base| base.finished.parse::<Timestamp>().ok())
        .max()
    {
        None => tell("there is no base".into()),
        Some(finished) if age(finished.as_second()) > LATE_PERIODS * period_s => {
            tell(format!("the newest base is of {finished}"));
        }
        Some(_) => {}
    }
    let shipped = catalogue
        .timelines
        .values()
        .flat_map(|log| &log.pieces)
        .map(|piece| piece.chunk.until)
        .max();
    match shipped {
        None => tell("there is no log".into()),
        Some(until) if age(until) > SILENT.as_secs() + rpo_s => tell(format!("the log ends at {}", moment(until))),
        Some(_) => {}
    }
    found
}

async fn load_latest(
    context: &Context,
    environment: &Environment,
    catalogue: &Catalogue,
    step: &Step,
) -> Result<restore::Restored> {
    let folder = temporary()?;
    let choice = restore::choose(catalogue, &Wish::Latest)?;
    restore::to_folder(
        environment.store.bucket(),
        context.env(),
        &choice,
        folder.path(),
        true,
        step,
    )
    .await
}

fn temporary() -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("infra-restore-")
        .tempdir()
        .map_err(|error| Error::failed("make a temporary folder").because(error))
}

async fn drill(context: &Context, environment: &Environment, arguments: &Drill) -> Result<ExitCode> {
    if load::server().is_none() {
        return Err(
            Error::failed("drill a restore: there is no redis-server or valkey-server on this computer")
                .hint("install one of the version that the hosts have, or name it by INFRA_REDIS_SERVER"),
        );
    }
    let begun = std::time::Instant::now();
    let step = context.ui.step("drill");
    let bucket = environment.store.bucket();
    let catalogue = read::catalogue(bucket, context.env()).await?;
    let wish = match arguments.at {
        Some(at) => Wish::At(at),
        None if arguments.latest => Wish::Latest,
        None => drill::some_second(&catalogue).map_or(Wish::Latest, Wish::At),
    };
    let choice = restore::choose(&catalogue, &wish)?;
    let folder = temporary()?;
    let restored = restore::to_folder(bucket, context.env(), &choice, folder.path(), true, &step).await?;
    let report = drill::Report::new(&restored, Timestamp::now(), begun.elapsed());
    drill::remember(bucket, context.env(), &report).await?;
    step.done(format!(
        "{} keys of {} in {:.1} s, of which the engine took {:.1}",
        size::count(report.keys),
        report.at.map_or("the latest state".into(), |at| at.to_string()),
        report.seconds,
        restored.load_s
    ));
    match context.ui.json() {
        true => context
            .ui
            .data(json!({"schema_version": JSON_SCHEMA_VERSION, "drill": report, "restored": restored}).to_string()),
        false => context.ui.data(format!(
            "restored {} from {} and thrown away again: {} keys, last write {}, {:.1} s",
            report.at.map_or("the latest state".into(), |at| at.to_string()),
            restored.base,
            size::count(report.keys),
            restored.last_write_at.map_or("in the base".into(), |at| at.to_string()),
            report.seconds
        )),
    }
    Ok(ExitCode::Done)
}

impl Context {
    /// A session on a host, with its pinned key.
    pub async fn log_in(&self, environment: &Environment, role: Role) -> Result<crate::remote::Session> {
        let (state, secrets, addresses) = tokio::try_join!(
            environment.state(),
            self.secrets(environment),
            self.addresses(environment)
        )?;
        let target = super::context::target(role, addresses.of(role)?, host_record(&state, role)?, &secrets)?;
        crate::remote::Session::connect(&target, PATIENCE).await
    }
}
