//! Restores a pair of which nothing is left but the bucket: everything else in the account is made anew, then the master
//! gets the data.

use super::live;
use crate::effects::backup::catalogue::Wish;
use crate::effects::backup::read;
use crate::effects::backup::restore::{self, Altered};
use crate::effects::cloud::ec2;
use crate::effects::state::Held;
use crate::model::cloud::Instance;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::role::Role;
use crate::sequences::arguments::{Change, Confirmed, Up};
use crate::sequences::context::{Context, Environment};
use crate::sequences::move_app::first;
use crate::sequences::setup::state_writer::StateWriter;
use crate::sequences::up;

pub async fn restore(
    context: &Context,
    environment: &Environment,
    wish: &Wish,
    altered: &Altered,
    confirmed: &Confirmed,
) -> Result<ExitCode> {
    if altered.keys.is_some() {
        return Err(Error::usage("restore a pair: it gets all keys")
            .hint("leave --keys out, or put some keys into a master that stands with `--to live`"));
    }
    refuse_unknown_source(context, environment).await?;
    let bucket = environment.store.bucket();
    let looking = async { tokio::try_join!(read::catalogue(bucket, context.env()), refuse_data(environment)) };
    let (catalogue, ()) = context.interrupt.or(looking).await?;
    // An attempt that died has made a base of the new, empty master.
    let catalogue = catalogue.without_empty_bases();
    let choice = restore::choose(&catalogue, wish)?;
    let words = super::words(&choice, altered);
    let would = format!("make both hosts anew, and put {words} onto them");
    let question = format!("Both hosts are gone. This makes new ones and puts {words} onto them.");
    if !context.goes_on(confirmed, would, &question)? {
        return Ok(ExitCode::Done);
    }
    forget_roles_of_the_gone(context, environment).await?;
    let up = Up {
        change: Change {
            dry_run: false,
            yes: true,
        },
        detailed_exitcode: false,
        agent: None,
        empty_master: true,
    };
    // Its own report is not the result of this command.
    if context.ui.json() {
        up::run(&context.quietly(), &up).await?;
    } else {
        up::run(context, &up).await?;
    }
    let confirmed = Confirmed {
        confirm: Some(context.config.name.to_string()),
        dry_run: false,
    };
    let code = live::restore_from(context, environment, &catalogue, wish, altered, &confirmed).await?;
    let elsewhere = context.warn_of(first::names_another_endpoint(context, environment).await);
    context.ui.note(match elsewhere {
        Some(true) => {
            "next: `infra switch-app` sets the app's vars: the endpoint's address or the app's password is another one than before"
        }
        Some(false) => "next: `infra status`; the app's URL names the endpoint as before",
        None => "next: `infra status`; it says whether the app's URL still names the endpoint",
    });
    Ok(code)
}

/// Fails if the state is lost too, and infra.yml names a source: a pair whose state is new would
/// follow it, and copy its data over what was restored.
async fn refuse_unknown_source(context: &Context, environment: &Environment) -> Result<()> {
    if context.config.source.none || environment.store.state().await?.is_some() {
        return Ok(());
    }
    Err(Error::failed(
        "restore a pair: its state is gone from the bucket, so nothing says whether the app had left the source that infra.yml names",
    )
    .hint("if it had, write `source: {none: true}` in the place of the source and run the same command again; if not, `infra up` makes a pair that follows it"))
}

/// Ends a failover between two hosts that are gone, which would keep `up` waiting for its end.
async fn forget_roles_of_the_gone(context: &Context, environment: &Environment) -> Result<()> {
    let Some(stored) = environment.store.state().await? else {
        return Ok(());
    };
    let state = stored.value;
    let is_waited_for = state.failover.is_some() || state.demoted.is_some();
    if !is_waited_for || !ec2::instances(&environment.cloud, &environment.names).await?.is_empty() {
        return Ok(());
    }
    let work = async |_: &Held| {
        let writer = StateWriter::open(&environment.store, state).await?;
        let forgetting = writer.change(|state| {
            (state.failover, state.demoted, state.demoted_s) = (None, None, None);
        });
        forgetting.await
    };
    context.locked(environment, "infra restore", work).await
}

/// Fails if a host of the pair stands that has data, or of which that is not known.
async fn refuse_data(environment: &Environment) -> Result<()> {
    let mut instances = ec2::instances(&environment.cloud, &environment.names).await?;
    // If both stand, it is the master that has the data of now.
    instances.sort_by_key(|instance| instance.role == Role::Replica);
    for instance in instances {
        if keys_of(environment, &instance).await? > 0 {
            return Err(standing(&instance));
        }
    }
    Ok(())
}

async fn keys_of(environment: &Environment, instance: &Instance) -> Result<u64> {
    let asked = async {
        let pair = environment.pair().await?;
        let info = pair.server(instance.role)?.connect(0).await?.info().await?;
        Ok::<_, Error>(info.keyspace.values().map(|counts| counts.keys).sum())
    };
    asked.await.map_err(|error| {
        Error::failed(format!(
            "restore a pair: its {} ({}) stands and does not say whether it has data",
            instance.role, instance.id
        ))
        .because(error)
        .hint("`infra status` says more; terminate the instance if it is to be given up")
    })
}

fn standing(instance: &Instance) -> Error {
    let error = Error::failed(format!(
        "restore a pair: its {} ({}) stands and has data",
        instance.role, instance.id
    ));
    error.hint(match instance.role {
        Role::Master => "put older data in its place with `--to live`",
        Role::Replica => "it has newer data than the bucket: `infra promote --force` makes it the master",
    })
}
