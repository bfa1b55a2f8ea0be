//! `infra backup verify`: reads every object, loads the newest state; a finding sets the exit code.

use super::temporary;
use crate::effects::backup::catalogue::{Catalogue, Finding, Wish, Wrong, moment};
use crate::effects::backup::{prove, read, restore};
use crate::model::cloud::Expiry;
use crate::model::error::{Error, ExitCode, Kind, Result};
use crate::model::size;
use crate::sequences::arguments::VerifyBackups;
use crate::sequences::context::{Context, Environment};
use crate::sequences::restore::proof;
use crate::ui::Step;
use jiff::Timestamp;
use serde_json::json;

pub async fn run(context: &Context, environment: &Environment, arguments: &VerifyBackups) -> Result<ExitCode> {
    let bucket = environment.store.bucket();
    let mut proof = match checked(context, environment).await {
        Ok(proof) => proof,
        Err(error) if error.kind() == Kind::Failed => return Err(error.with_kind(Kind::BackupUnreachable)),
        Err(error) => return Err(error),
    };
    let catalogue = read::catalogue(bucket, context.env()).await?;
    let mut unjudged = None;
    if !arguments.without_load && proof.findings.iter().all(|finding| finding.kind == Wrong::Stale) {
        let step = context.ui.step("load");
        match load_latest(context, environment, &catalogue, &step).await {
            Ok((restored, place)) => step.done(format!(
                "the newest state loads on {place}: {} keys in {:.1} s",
                size::count(restored.loaded.as_ref().map_or(0, |loaded| loaded.keys)),
                restored.load_s
            )),
            Err(error) if error.kind() == Kind::Unproven && !error.is_by_an_impostor() => {
                step.failed("it does not load");
                proof.findings.push(Finding {
                    kind: Wrong::Load,
                    what: error.chain().join(": "),
                });
            }
            Err(error) => {
                step.failed("no engine could try it");
                unjudged = Some(error);
            }
        }
    }
    proof.findings.sort();
    let findings = proof.findings.iter();
    let findings = findings.map(|finding| format!("{} {}", context.ui.paint_data("31", "FOUND"), finding.what));
    let last = format!(
        "{} objects with {} were read; {}",
        size::count(proof.objects),
        size::bytes(proof.bytes),
        match proof.findings.len() {
            0 => "none has changed since its upload, and none is missing".into(),
            count => format!("{count} findings"),
        }
    );
    context.ui.report(json!({"proof": proof}), findings.chain([last]));
    match proof.findings.first() {
        None => unjudged.map_or(Ok(ExitCode::Done), Err),
        Some(first) => Err(Error::new(kind(first.kind), format!("prove the backups: {}", first.what))
            .hint("`infra backup now` makes a base that does not depend on what is damaged; `infra backup list` shows what can still be restored")),
    }
}

/// Returns the kind of a finding, which decides the exit code.
fn kind(wrong: Wrong) -> Kind {
    match wrong {
        Wrong::Stale => Kind::BackupStale,
        Wrong::Gap => Kind::BackupGap,
        Wrong::Checksum => Kind::BackupChecksum,
        Wrong::Load => Kind::BackupLoad,
        Wrong::Unreachable => Kind::BackupUnreachable,
    }
}

/// Checks names, digests, gaps and age.
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
    proof.findings.extend(prove::stale(
        &catalogue,
        Timestamp::now(),
        context.config.backup_period_s(),
        context.config.backup.rpo_s,
    ));
    proof.findings.sort();
    proof.findings.dedup();
    let done = format!("{} objects, {}", size::count(proof.objects), size::bytes(proof.bytes));
    if proof.findings.is_empty() {
        step.done(done)
    } else {
        step.failed(format!("{done}: {} findings", proof.findings.len()))
    }
    Ok(proof)
}

async fn load_latest(
    context: &Context,
    environment: &Environment,
    catalogue: &Catalogue,
    step: &Step,
) -> Result<(restore::Restored, &'static str)> {
    let folder = temporary()?;
    let bucket = environment.store.bucket();
    let choice = restore::choose(catalogue, &Wish::Latest)?;
    let nothing = restore::Altered::default();
    let mut restored = restore::to_folder(bucket, context.env(), &choice, folder.path(), true, &nothing, step).await?;
    let place = proof::complete(context, environment, &choice, &mut restored, step).await?;
    Ok((restored, place))
}
