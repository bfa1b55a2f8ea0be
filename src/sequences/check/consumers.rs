//! Finds who else uses the source, and judges it by infra.yml and the command line.

use super::gather::source_place;
use crate::decide::preflight::consumers::{Intent, judge, nobody_can_tell};
use crate::decide::preflight::{Finding, Severity, vars};
use crate::decide::vars::{Naming, Place};
use crate::effects::platform::Platform;
use crate::model::error::Result;
use crate::sequences::context::Context;

/// Finds every app and var that names the source. A blocker means that one would be left behind.
pub async fn consumers(context: &Context, leave: &[String]) -> Result<Vec<Finding>> {
    let Some(heroku) = context.platform.heroku() else {
        return Ok(vec![nobody_can_tell()]);
    };
    let step = context.ui.step("who else uses the source");
    let config = &context.config;
    let place = source_place(context).await?;
    let apps = readable(context.apps()?).await;
    let naming = context.naming(&apps, &place, leave).await?;
    let mut places = vec![place];
    places.extend(naming.others.iter().cloned());
    let found = heroku.consumers(&places).await?;
    let intent = Intent {
        also: &config.app.also,
        leave,
    };
    let mut findings = judge(&found, intent);
    findings.extend(vars::judge(&outlooks(context, &apps, &naming, &places).await?, leave));
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

/// Returns the apps whose vars can be read. The others are reported among the consumers.
async fn readable(apps: Vec<Platform>) -> Vec<Platform> {
    let mut readable = Vec::new();
    for (at, app) in apps.into_iter().enumerate() {
        // The app itself stays, so that its error ends the command.
        if at == 0 || (app.config_vars().await.is_ok() && app.attachments().await.is_ok()) {
            readable.push(app);
        }
    }
    readable
}

/// Returns the outlook of every app that is switched.
async fn outlooks(
    context: &Context,
    apps: &[Platform],
    naming: &Naming,
    places: &[Place],
) -> Result<Vec<vars::Outlook>> {
    let app = &context.config.app;
    let mut outlooks = Vec::new();
    for (at, platform) in apps.iter().enumerate() {
        let (config_vars, attachments) = tokio::try_join!(platform.config_vars(), platform.attachments())?;
        let app_vars = naming.of_app(places, platform.app_name(), &app.config_var, &config_vars, &attachments);
        let mut outlook = vars::outlook(&app_vars, &app.ca_config_var());
        // The first app is checked together with its other facts.
        if at > 0
            && let Err(error) = platform.refusal_foreseen().await
        {
            outlook.refused.push(vars::Refused {
                found: format!("{error:#}"),
                remedy: error.next_step().unwrap_or("see the cause above").to_string(),
            });
        }
        outlooks.push(outlook);
    }
    Ok(outlooks)
}
