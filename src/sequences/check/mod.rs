//! `infra check`: reports what stands in the way, with remedies. Changes only the pin, if asked.

mod consumers;
mod gather;
mod pin;

pub use consumers::{consumers, readable_apps};

use crate::decide::preflight::{Finding, Severity, judge};
use crate::effects::platform::KnownApp;
use crate::model::error::{Error, ExitCode, Result};
use crate::sequences::arguments::Check;
use crate::sequences::context::{Context, Environment};
use serde_json::{Value, json};
use std::time::Duration;

/// How long `check` watches which commands are run on the source. Dashboards ask every few seconds.
const WATCHING: Duration = Duration::from_secs(5);
/// How long other commands do.
pub const BRIEFLY: Duration = Duration::from_millis(500);

pub async fn run(context: &Context, arguments: &Check) -> Result<ExitCode> {
    context.interrupt.or(look(context, arguments)).await
}

async fn look(context: &Context, arguments: &Check) -> Result<ExitCode> {
    if arguments.pin {
        return pin::run(context).await;
    }
    let environment = context.environment().await?;
    let apps = readable_apps(context).await;
    let app = apps.as_ref().map(|apps| &apps[0]);
    let (findings, consumers) = tokio::join!(
        findings(context, &environment, app, WATCHING),
        consumers(context, apps.as_deref(), &arguments.leave.leave)
    );
    let mut findings = findings?;
    match consumers {
        Ok(consumers) => findings.extend(consumers),
        // The findings already say why the source is not known.
        Err(_) if findings.iter().any(is_source_unseen) => {}
        Err(error) => return Err(error),
    }
    show(context, &findings);
    let blockers = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Blocker)
        .count();
    Ok(if blockers == 0 {
        ExitCode::Done
    } else {
        ExitCode::Failed
    })
}

fn is_source_unseen(finding: &Finding) -> bool {
    finding.id == "source" && finding.severity == Severity::Blocker
}

/// Looks at all that a move needs, except who else uses the source. `up` calls it too. An error
/// stands for an app that could not be read.
pub async fn findings(
    context: &Context,
    environment: &Environment,
    app: Result<&KnownApp, &Error>,
    watching: Duration,
) -> Result<Vec<Finding>> {
    let step = context.ui.step("check");
    let findings = judge(&gather::facts(context, environment, app, watching).await?);
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (blockers, warnings) = (count(Severity::Blocker), count(Severity::Warning));
    let text = format!("{} looked at, {blockers} blockers, {warnings} warnings", findings.len());
    if blockers == 0 {
        step.done(text)
    } else {
        step.failed(text)
    }
    Ok(findings)
}

/// Returns the blockers as one error, for commands that cannot go on with them.
pub fn refuse_blockers(findings: &[Finding]) -> Result<()> {
    let blockers: Vec<_> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Blocker)
        .collect();
    let Some(first) = blockers.first() else { return Ok(()) };
    let more = if blockers.len() > 1 {
        format!(" (and {} more: `infra check` lists them)", blockers.len() - 1)
    } else {
        String::new()
    };
    Err(Error::failed(format!("begin: {}: {}{more}", first.id, first.found))
        .hint(first.remedy.clone().unwrap_or_default()))
}

fn fields(findings: &[Finding]) -> Value {
    json!({ "findings": findings })
}

fn show(context: &Context, findings: &[Finding]) {
    let ui = &context.ui;
    let mut lines = Vec::new();
    for finding in findings {
        let mark = match finding.severity {
            Severity::Ok => ui.paint_data("32", "ok     "),
            Severity::Warning => ui.paint_data("33", "warning"),
            Severity::Blocker => ui.paint_data("31", "BLOCKER"),
        };
        lines.push(format!("{mark}  {:<16}  {}", finding.id, finding.found));
        let remedy = finding.remedy.as_ref();
        lines.extend(remedy.map(|remedy| format!("         {:<16}  → {remedy}", "")));
    }
    ui.report(fields(findings), lines);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_findings_has_a_remedy_where_there_is_something_to_do() {
        let finding = |severity, id, found: &str, remedy: Option<&str>| Finding {
            severity,
            id,
            found: found.into(),
            remedy: remedy.map(str::to_string),
        };
        let findings = [
            finding(Severity::Ok, "image", "debian-13 is ami-1", None),
            finding(
                Severity::Warning,
                "admin-world",
                "the whole world may reach ssh",
                Some("narrow hosts.admin_cidrs to your own address"),
            ),
            finding(
                Severity::Blocker,
                "source",
                "192.0.2.7:6390 does not answer",
                Some("see the cause above"),
            ),
        ];
        insta::assert_json_snapshot!("check", crate::ui::document(fields(&findings)));
    }
}
