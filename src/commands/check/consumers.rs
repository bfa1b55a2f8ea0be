//! Who else uses the source, judged by what infra.yml and the command line say of them.

use super::super::context::Context;
use super::gather::source_place;
use crate::cutover::vars;
use crate::error::Result;
use crate::plan::preflight::consumers::{Intent, judge, nobody_can_tell};
use crate::plan::preflight::{Finding, Severity};

/// Looks for every app and var that names the source. A blocker among the findings means that somebody would be left behind; see [`super::refuse_blockers`].
pub async fn consumers(context: &Context, leave: &[String]) -> Result<Vec<Finding>> {
    let Some(heroku) = context.platform.heroku() else {
        return Ok(vec![nobody_can_tell()]);
    };
    let step = context.ui.step("who else uses the source");
    let config = &context.config;
    let place = source_place(context).await?;
    let own = &config.app.config_var;
    let mut expected = vec![own.clone(), vars::hosted_var(own)];
    expected.extend(config.source.config_var.clone());
    let found = heroku.consumers((&place.0, place.1), &expected).await?;
    let intent = Intent {
        app: &config.app.name,
        also: &config.app.also,
        leave,
    };
    let findings = judge(&found, intent);
    let blockers = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Blocker)
        .count();
    let text = format!(
        "{} apps looked at, {} use it beside {}",
        found.looked_at,
        found.consumers.len(),
        config.app.name
    );
    if blockers == 0 {
        step.done(text);
    } else {
        step.failed(format!("{text}, {blockers} would be left behind"));
    }
    Ok(findings)
}
