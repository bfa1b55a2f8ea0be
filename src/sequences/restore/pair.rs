//! Restores a pair of which nothing is left but the bucket: both hosts are made anew, then the master gets the data.

use super::live;
use crate::effects::backup::catalogue::Wish;
use crate::effects::backup::read;
use crate::effects::backup::restore::{self, Altered};
use crate::effects::cloud::ec2;
use crate::model::cloud::Instance;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::role::Role;
use crate::sequences::arguments::{Change, Confirmed, Up};
use crate::sequences::context::{Context, Environment};
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
    context
        .ui
        .note("next: `infra status`; it says whether the app's URL still names the endpoint");
    Ok(code)
}

/// Fails if a host of the pair stands that has data, or of which that is not known.
async fn refuse_data(environment: &Environment) -> Result<()> {
    for instance in ec2::instances(&environment.cloud, &environment.names).await? {
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
