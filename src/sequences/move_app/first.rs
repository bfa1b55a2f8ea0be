//! `infra switch-app` where no source is left behind: nobody to fence, nothing to compare, so it only sets vars. That is
//! the case for a pair without a source, and for an app that had moved and whose endpoint was made anew.

use crate::decide::vars::Place;
use crate::effects::platform::heroku::owner;
use crate::effects::platform::{Platform, not_waited_for};
use crate::effects::redis::{Server, takes_connections};
use crate::effects::state::Held;
use crate::model::error::{Error, ExitCode, Kind, Result};
use crate::model::secret::Secret;
use crate::sequences::arguments::Confirmed;
use crate::sequences::context::{Context, Environment};
use crate::sequences::cutover::Phase;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a release may take, and after it the processes to run it.
const RELEASE: Duration = Duration::from_secs(30 * 60);

/// Returns true if the app had left its source, and its vars name neither the endpoint that stands, nor anybody who may
/// have its writes.
pub async fn has_lost_its_endpoint(context: &Context, environment: &Environment, phase: Option<Phase>) -> Result<bool> {
    if phase.is_none_or(|phase| phase < Phase::Switched) || !names_another_endpoint(context, environment).await? {
        return Ok(false);
    }
    let vars = context.platform.config_vars().await?;
    let source = context
        .source_url_in(Ok(&vars))
        .and_then(|source| Server::place_of(&source));
    let endpoint = environment.pair().await?.endpoint()?;
    let url = vars.get(&context.config.app.config_var)?;
    leads_to_nobody(url, source.ok().as_ref(), &context.endpoint_names(Some(&endpoint.host))).await
}

/// Returns true if an app's URL, which does not lead into the endpoint, leads to nobody else: not to the source, nor to
/// another server that is there, since that one may have the app's writes. `endpoint`: the hosts that name the endpoint.
pub async fn leads_to_nobody(url: Option<&Secret>, source: Option<&Place>, endpoint: &[String]) -> Result<bool> {
    let Some(url) = url else {
        return Ok(true);
    };
    let place = Server::place_of(url)?;
    if source == Some(&place) {
        return Ok(false);
    }
    let (host, port) = place;
    // Where it is the endpoint itself, only the password is another one.
    Ok(endpoint.contains(&host) || !takes_connections(&host, port).await)
}

/// Returns true if the app's URL has another host than the endpoint, or another password than the
/// user `app`.
pub async fn names_another_endpoint(context: &Context, environment: &Environment) -> Result<bool> {
    let endpoint = environment.pair().await?.endpoint()?;
    let vars = context.platform.config_vars().await?;
    let Some(url) = vars.get(&context.config.app.config_var)? else {
        return Ok(true);
    };
    let (host, _) = Server::place_of(url)?;
    Ok(!context.endpoint_names(Some(&endpoint.host)).contains(&host) || Server::password_of(url) != endpoint.password)
}

pub async fn switch(context: &Context, environment: &Environment, confirmed: &Confirmed) -> Result<ExitCode> {
    let pair = environment.pair().await?;
    crate::sequences::rotation::run::refuse_unfinished(&pair.state)?;
    let server = pair.endpoint()?;
    let (endpoint, authority) = (&server.host, pair.secrets.ca_cert()?);
    let vars = [
        context.config.app.config_var.clone(),
        context.config.app.ca_config_var(),
    ];
    let what = format!(
        "set {} of {} to {endpoint}, which restarts its processes",
        vars.join(" and "),
        context.config.app.name
    );
    let question = format!(
        "This would {what}. What the app has written elsewhere is not there: stop it before you download a file to restore from."
    );
    if !context.goes_on(confirmed, what, &question)? {
        return Ok(ExitCode::Done);
    }
    for app in context.apps()? {
        for var in &vars {
            refuse_owned(&app, var).await?;
        }
    }
    // The app must be able to log in before its vars lead it there.
    server.connect(0).await?;
    let moving = async |lock: &Held| {
        let mut releases = BTreeMap::new();
        for app in context.apps()? {
            let step = context.ui.step(format!("vars of {}", app.app_name()));
            let wanted: BTreeMap<String, Option<Secret>> = [
                (vars[0].clone(), Some(server.url())),
                (vars[1].clone(), Some(Secret::new(authority))),
            ]
            .into();
            lock.confirm(Duration::ZERO).await?;
            let crashed = app.crashed().await?;
            let set = app.set_config_vars(&wanted).await;
            // Apps before this one have moved already.
            let Some(before) = set.map_err(|error| partly(error, !releases.is_empty()))? else {
                step.unchanged("they name the endpoint already");
                continue;
            };
            let release = app.terminal_release(before, RELEASE, &step).await?;
            app.await_processes(release.version, &crashed, RELEASE, &step).await?;
            step.done(format!(
                "release v{} runs on the endpoint{}",
                release.version,
                not_waited_for(&crashed)
            ));
            releases.insert(app.app_name().to_string(), release.version);
        }
        Ok::<_, Error>(releases)
    };
    let work = async |lock: &Held| context.interrupt.or(moving(lock)).await;
    let releases = context.locked(environment, "infra switch-app", work).await?;
    let line = format!("{} uses {endpoint}", context.config.app.name);
    context.ui.report(json!({"releases": releases}), [line]);
    Ok(ExitCode::Done)
}

fn partly(error: Error, some_have_moved: bool) -> Error {
    if !some_have_moved {
        return error;
    }
    error
        .with_kind(Kind::Partial)
        .while_doing("move every app to the endpoint: some run there already")
        .hint("mend what the platform says, then run the same command again: it goes on where this one stopped")
}

/// Fails if an add-on's attachment owns the var, which cannot be set then. That app has a source.
async fn refuse_owned(app: &Platform, var: &str) -> Result<()> {
    let name = app.app_name();
    let attachments = app.attachments().await?;
    let Some(owner) = owner(&attachments, name, var) else {
        return Ok(());
    };
    Err(Error::failed(format!("set {var} of {name}: the add-on {} owns it", owner.addon_name)).hint(format!(
        "keep the add-on under another name first: `heroku addons:attach {} --as HOSTED_{} -a {name}`, then `heroku addons:detach {} -a {name}`",
        owner.addon_name, owner.name, owner.name
    )))
}
