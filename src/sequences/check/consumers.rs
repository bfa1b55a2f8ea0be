//! Finds who else uses the source, and judges it by infra.yml and the command line.

use crate::decide::preflight::consumers::{Intent, judge, nobody_can_tell};
use crate::decide::preflight::{Finding, Severity, vars};
use crate::decide::vars::{Naming, Place};
use crate::effects::platform::{ConfigVars, KnownApp};
use crate::effects::redis::Server;
use crate::model::error::{Error, Result};
use crate::sequences::context::Context;
use std::collections::BTreeMap;

/// Finds every app and var that names the source. A blocker means that one would be left behind.
/// An error stands for an app that could not be read.
pub async fn consumers(context: &Context, apps: Result<&[KnownApp], &Error>, leave: &[String]) -> Result<Vec<Finding>> {
    let Some(heroku) = context.platform.heroku() else {
        return Ok(vec![nobody_can_tell()]);
    };
    let step = context.ui.step("who else uses the source");
    let config = &context.config;
    let apps = apps.map_err(Error::repeated)?;
    let (own, others) = (&apps[0], &apps[1..]);
    let place = Server::place_of(&context.source_url_in(Ok(&own.vars))?)?;
    let naming = context.naming(apps, &place, leave);
    let mut places = vec![place];
    places.extend(naming.others.iter().cloned());
    let known: BTreeMap<&str, &ConfigVars> = others.iter().map(|app| (app.platform.app_name(), &app.vars)).collect();
    let found = heroku.consumers(&places, &own.vars, &own.attachments, &known).await?;
    let intent = Intent {
        also: &config.app.also,
        leave,
    };
    let mut findings = judge(&found, intent);
    findings.extend(vars::judge(&outlooks(context, apps, &naming, &places).await, leave));
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

/// Reads the app, which must be readable, and those that are switched with it as far as they can be
/// read. The others are reported among the consumers.
pub async fn readable_apps(context: &Context) -> Result<Vec<KnownApp>> {
    let mut readable = Vec::new();
    for (at, app) in context.apps()?.into_iter().enumerate() {
        match app.known().await {
            Ok(known) => readable.push(known),
            Err(error) if at == 0 => return Err(error),
            Err(_) => {}
        }
    }
    Ok(readable)
}

/// Returns the outlook of every app that is switched.
async fn outlooks(context: &Context, apps: &[KnownApp], naming: &Naming, places: &[Place]) -> Vec<vars::Outlook> {
    let app = &context.config.app;
    let mut outlooks = Vec::new();
    for (at, known) in apps.iter().enumerate() {
        let platform = &known.platform;
        let name = platform.app_name();
        let app_vars = naming.of_app(places, name, &app.config_var, &known.vars, &known.attachments);
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
    outlooks
}
