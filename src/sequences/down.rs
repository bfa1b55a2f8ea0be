//! `infra down`: removes what `up` made, in a safe order. Refuses while an app uses the endpoint.

use crate::decide::teardown::teardown as plan;
use crate::effects::cloud::{ec2, teardown};
use crate::effects::redis::Server;
use crate::effects::state::Held;
use crate::model::cloud::TeardownPlan;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::secret::Secret;
use crate::sequences::arguments::Down;
use crate::sequences::context::{Context, Environment};
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeSet;

pub async fn run(context: &Context, arguments: &Down) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let names = &environment.names;
    if let Some(named) = &arguments.delete_backups
        && *named != *context.config.name
    {
        return Err(Error::usage(format!(
            "delete the backups of {named:?}: this deployment is {:?}",
            context.config.name
        ))
        .hint(format!("to delete them say --delete-backups {}", context.config.name)));
    }
    refuse_while_in_use(context, &environment).await?;
    let standing = teardown::find(&environment.cloud, names).await?;
    let plan = plan(names, &standing, arguments.delete_backups.is_some());
    if plan.removals.is_empty() {
        show(context, &plan, &[], &plan.kept);
        return Ok(ExitCode::Done);
    }
    if arguments.confirmed.dry_run {
        show(context, &plan, &[], &plan.kept);
        return Ok(ExitCode::Done);
    }
    context.ui.announce(plan.to_string().lines());
    context.confirm(
        arguments.confirmed.confirm.as_deref(),
        "This removes what is listed above.",
    )?;
    let work = async |lock: Option<&Held>| {
        let removing = async {
            // Once more, now that nobody else can switch the app.
            refuse_while_in_use(context, &environment).await?;
            teardown::apply(&environment.cloud, names, &plan, lock, &context.ui).await
        };
        context.interrupt.or(removing).await
    };
    let removed = if standing.bucket {
        let work = async |lock: &Held| work(Some(lock)).await;
        context.locked(&environment, "infra down", work).await?
    } else {
        work(None).await?
    };
    let inventory = context.inventory_path();
    if inventory.exists() {
        std::fs::remove_file(&inventory)
            .map_err(|error| Error::partial(format!("remove {}", inventory.display())).because(error))?;
    }
    show(context, &plan, &removed.removed, &removed.kept);
    Ok(ExitCode::Done)
}

/// Fails if an app names the endpoint, since it would lose its Redis and every write since the last
/// backup; or during a cutover, since only the journal says how a stopped app stood.
async fn refuse_while_in_use(context: &Context, environment: &Environment) -> Result<()> {
    let stored = environment.store.state().await?;
    if stored.is_some()
        && let Some(unfinished) = context.history(environment).await?.unfinished(Timestamp::now())
    {
        return Err(Error::failed(format!("remove {}: {unfinished}", context.config.name))
            .hint("bring the cutover to its end, or back, before the pair goes"));
    }
    // An app may name the endpoint in the state or the address that exists, so both count.
    let mut endpoints: BTreeSet<String> = stored.and_then(|stored| stored.value.endpoint).into_iter().collect();
    let found = ec2::addresses(&environment.cloud, &environment.names).await?;
    endpoints.extend(found.into_iter().map(|address| address.public_ip));
    endpoints.extend(context.endpoint_names(None));
    if endpoints.is_empty() {
        return Ok(());
    }
    for app in context.apps()? {
        let vars = app.config_vars().await?;
        // An unreadable var may name anything, so it is an error.
        vars.get(&context.config.app.config_var)?;
        let names_it = |value: &Secret| Server::place_of(value).is_ok_and(|(host, _)| endpoints.contains(&host));
        if let Some((var, _)) = vars.readable().find(|(_, value)| names_it(value)) {
            return Err(Error::failed(format!(
                "remove {}: the config var {var} of the app {} names its endpoint",
                context.config.name,
                app.app_name()
            ))
            .hint(format!(
                "move the app to another Redis first and set {var} to it, then run `infra down` again"
            )));
        }
    }
    Ok(())
}

fn show(context: &Context, plan: &TeardownPlan, removed: &[String], kept: &[String]) {
    let first = if !removed.is_empty() {
        format!("{} things removed", removed.len())
    } else if plan.removals.is_empty() {
        "nothing to remove".to_string()
    } else {
        plan.to_string()
    };
    let kept_lines = kept.iter().map(|kept| format!("kept: {kept}"));
    let fields = json!({ "plan": plan, "removed": removed, "kept": kept });
    context.ui.report(fields, std::iter::once(first).chain(kept_lines));
}
