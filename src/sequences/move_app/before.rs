//! Checks before the first change of a cutover that nobody is left behind and the app will get in.

use crate::decide::preflight::Severity;
use crate::model::error::{Error, Result};
use crate::sequences::check;
use crate::sequences::context::{Context, Environment};
use crate::sequences::cutover::history::History;
use crate::sequences::rehearsal::{Record, Verdict};

pub async fn promote(context: &Context, history: &History, leave: &[String]) -> Result<()> {
    if history.keeps_an_app_waiting() {
        return Ok(());
    }
    nobody_is_left_behind(context, leave).await
}

pub async fn switch(
    context: &Context,
    environment: &Environment,
    history: &History,
    leave: &[String],
    without_rehearsal: bool,
) -> Result<()> {
    if history.keeps_an_app_waiting() {
        return Ok(());
    }
    rehearsed(context, environment, without_rehearsal).await?;
    nobody_is_left_behind(context, leave).await
}

async fn nobody_is_left_behind(context: &Context, leave: &[String]) -> Result<()> {
    let looking = async {
        let apps = check::readable_apps(context).await;
        check::consumers(context, apps.as_deref(), leave).await
    };
    let findings = context.interrupt.or(looking).await?;
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        context.ui.warn(format!("{}: {}", finding.id, finding.found));
    }
    check::refuse_blockers(&findings)
}

async fn rehearsed(context: &Context, environment: &Environment, without: bool) -> Result<()> {
    match Record::load(&environment.store, &context.config).await? {
        Some(Record {
            verdict: Verdict::Passed { .. },
            ..
        }) => Ok(()),
        Some(Record {
            at,
            verdict: Verdict::Failed { reason, remedy },
            ..
        }) if !without => Err(Error::unproven(format!(
            "switch the app: its rehearsal at {} failed: {reason}",
            at.strftime("%F %H:%M UTC")
        ))
        .hint(format!(
            "{remedy}; then run `infra switch-app --rehearse` again, or go on with --without-rehearsal"
        ))),
        Some(Record {
            at,
            verdict: Verdict::Unknown { reason, remedy },
            ..
        }) if !without => Err(Error::unproven(format!(
            "switch the app: what its rehearsal at {} came to is not known: {reason}",
            at.strftime("%F %H:%M UTC")
        ))
        .hint(format!(
            "{remedy}; run `infra switch-app --rehearse` again, or go on with --without-rehearsal"
        ))),
        Some(_) => Ok(()),
        None => {
            if !without {
                context.ui.warn(
                    "this way in was never rehearsed: `infra switch-app --rehearse` tries it with a process of the app itself",
                );
            }
            Ok(())
        }
    }
}
