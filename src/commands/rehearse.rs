//! `infra switch-app --rehearse`, and what its result means to a switch.

use super::JSON_SCHEMA_VERSION;
use super::context::{Context, Environment, host_record, target};
use crate::cutover::{Phase, vars};
use crate::error::{Error, ExitCode, Result};
use crate::rehearsal::scratch::Scratch;
use crate::rehearsal::{Record, Setup, Verdict};
use crate::remote::Session;
use crate::state::{Lock, Role};
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
                .hint(include_str!("../../templates/rehearsal-examples.txt").trim_end()),
        );
    };
    let environment = context.environment().await?;
    let lock = Lock::acquire(&environment.store, &context.ui, "infra switch-app --rehearse").await?;
    let result = rehearse(context, &environment, command).await;
    let released = lock.release().await;
    let verdict = result?;
    released?;
    if context.ui.json() {
        context
            .ui
            .data(json!({ "schema_version": JSON_SCHEMA_VERSION, "rehearsal": verdict }).to_string());
    }
    match verdict {
        Verdict::Passed { writes, reads } => {
            if !context.ui.json() {
                context.ui.data(format!(
                    "the app gets in: {writes} writes and {reads} reads over TLS as the user app, by `{command}`"
                ));
            }
            Ok(ExitCode::Done)
        }
        Verdict::Failed { reason, remedy } => {
            Err(Error::unproven(format!("get the app into its new Redis: {reason}")).hint(remedy))
        }
    }
}

async fn rehearse(context: &Context, environment: &Environment, command: &str) -> Result<Verdict> {
    let config = &context.config;
    let Some(heroku) = context.platform.heroku() else {
        return Err(Error::usage(
            "rehearse: only a platform that starts one-off processes can, and this app is behind commands",
        )
        .hint("try the endpoint by hand with the app's own client, and then go on with --without-rehearsal"));
    };
    let state = environment.state().await?;
    let names = context.names(environment)?;
    let (secrets, addresses, source, vars, attachments) = tokio::try_join!(
        context.secrets(environment),
        context.addresses(environment),
        context.source(),
        context.platform.config_vars(),
        context.platform.attachments(),
    )?;
    let host = target(
        Role::Master,
        addresses.of(Role::Master)?,
        host_record(&state, Role::Master)?,
        &secrets,
    )?;
    let session = Session::connect(&host, LOGIN).await?;
    let place = (source.host.to_ascii_lowercase(), source.port);
    let moved = vars::moved(
        &vars,
        &attachments,
        &config.app.name,
        &config.app.config_var,
        (&place.0, place.1),
    );
    let mut settings = state.source.settings.clone();
    settings.extend(config.redis.settings.clone());
    let setup = Setup {
        cloud: &environment.cloud,
        names: &names,
        platform: heroku,
        session: &session,
        scratch: Scratch::new(config.redis.engine, settings, config.redis.app_commands.clone()),
        endpoint: addresses.of(Role::Master)?,
        authority: secrets.ca_cert()?,
        ca_var: &config.app.ca_config_var(),
        vars: moved
            .into_iter()
            .map(|moved| (moved.var, moved.path))
            .collect::<BTreeMap<_, _>>(),
        command,
        admin_cidrs: &config.hosts.admin_cidrs,
        app_cidrs: &config.hosts.app_cidrs,
        ui: &context.ui,
    };
    let verdict = context.interrupt.or(setup.run()).await;
    // However it ended: the port does not stay open.
    if let Err(error) = setup.clear_away().await {
        context.ui.warn(format!(
            "the scratch server or its port may be left: {}; the next rehearsal and `infra up` remove them",
            error.chain().join(": ")
        ));
    }
    let verdict = verdict?;
    Record::new(verdict.clone(), config, Timestamp::now())
        .save(&environment.store)
        .await?;
    Ok(verdict)
}

/// A switch that is about to begin wants to know that the app will get in. One that is on its way already goes on.
pub async fn ask_before_switch(context: &Context, without: bool) -> Result<()> {
    let environment = context.environment().await?;
    if context
        .phase(&environment)
        .await?
        .is_some_and(|phase| phase >= Phase::Switching)
    {
        return Ok(());
    }
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
