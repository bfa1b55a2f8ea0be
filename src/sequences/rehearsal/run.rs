//! `infra switch-app --rehearse`.

use crate::decide::vars;
use crate::effects::platform::Heroku;
use crate::effects::remote::Session;
use crate::effects::state::Held;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::role::Role;
use crate::sequences::context::{Context, Environment};
use crate::sequences::rehearsal::scratch::Scratch;
use crate::sequences::rehearsal::{Record, Setup, Verdict};
use crate::sequences::setup::access;
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const LOGIN: Duration = Duration::from_secs(30);

pub async fn run(context: &Context) -> Result<ExitCode> {
    let config = &context.config;
    let Some(command) = config.app.rehearse.as_deref() else {
        return Err(
            Error::usage("rehearse the switch: `app.rehearse` in infra.yml does not say what to run")
                .hint(include_str!("../../../templates/rehearsal-examples.txt").trim_end()),
        );
    };
    let Some(platform) = context.platform.heroku() else {
        return Err(
            Error::usage("rehearse the switch: only an app on heroku can be given a process of its own")
                .hint("run the app's own check by hand, after `infra up`"),
        );
    };
    let environment = context.environment().await?;
    let work = async |_: &Held| rehearse(context, platform, &environment, command).await;
    let verdict = context
        .locked(&environment, "infra switch-app --rehearse", work)
        .await?;
    let line = match &verdict {
        Verdict::Passed { writes, reads } => Some(format!(
            "the app gets in: {writes} writes and {reads} reads over TLS as the user app, by `{command}`"
        )),
        Verdict::Failed { .. } | Verdict::Unknown { .. } => None,
    };
    context.ui.report(json!({ "rehearsal": verdict }), line);
    match verdict {
        Verdict::Passed { .. } => Ok(ExitCode::Done),
        Verdict::Failed { reason, remedy } => {
            Err(Error::unproven(format!("get the app into its new Redis: {reason}")).hint(remedy))
        }
        Verdict::Unknown { reason, remedy } => {
            Err(Error::unproven(format!("prove that the app gets into its new Redis: {reason}")).hint(remedy))
        }
    }
}

async fn rehearse(context: &Context, platform: &Heroku, environment: &Environment, command: &str) -> Result<Verdict> {
    let config = &context.config;
    let apps = context.apps()?;
    let (pair, known, access) = tokio::try_join!(
        environment.pair(),
        context.known_apps(),
        access::access(config, &environment.cloud, &apps),
    )?;
    let source = context.source_in(Ok(&known[0].vars)).await?;
    let session = Session::connect(&pair.target(Role::Master)?, LOGIN).await?;
    let naming = context.naming(&known, &vars::place_of(&source), &[]);
    let places = naming.places(&source);
    let (vars, attachments) = (&known[0].vars, &known[0].attachments);
    let app_vars = naming.of_app(&places, &config.app.name, &config.app.config_var, vars, attachments);
    let mut settings = pair.state.source.settings.clone();
    settings.extend(config.redis.settings.clone());
    let setup = Setup {
        cloud: &environment.cloud,
        names: &environment.names,
        platform,
        session: &session,
        scratch: Scratch::new(config.redis.engine, settings, config.redis.app_commands.clone()),
        endpoint: pair.addresses.of(Role::Master)?,
        authority: pair.secrets.ca_cert()?,
        ca_var: &config.app.ca_config_var(),
        vars: app_vars.will_move().into_iter().collect::<BTreeMap<_, _>>(),
        command,
        admin_cidrs: &access.admins.cidrs(),
        app_cidrs: &access.apps.cidrs(),
        ui: &context.ui,
    };
    let verdict = context.interrupt.or(setup.run()).await;
    // The port must not stay open, however the rehearsal ended.
    if let Err(error) = setup.clear_away().await {
        context.ui.warn(format!(
            "the scratch server or its port may be left: {error:#}; the next rehearsal and `infra up` remove them"
        ));
    }
    let verdict = verdict?;
    Record::new(verdict.clone(), config, Timestamp::now())
        .save(&environment.store)
        .await?;
    Ok(verdict)
}
