//! Restores a pair of which nothing is left but the bucket: everything else in the account is made anew, then the master
//! gets the data.

use super::live;
use crate::decide::vars::Place;
use crate::effects::backup::catalogue::{Catalogue, Wish};
use crate::effects::backup::read;
use crate::effects::backup::restore::{self, Altered};
use crate::effects::cloud::ec2;
use crate::effects::host::restore::has_data;
use crate::effects::platform::ConfigVars;
use crate::effects::redis::{Server, takes_connections};
use crate::effects::state::{Held, Journal};
use crate::model::cloud::Instance;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::role::Role;
use crate::model::state::State;
use crate::sequences::arguments::{Change, Confirmed, Up};
use crate::sequences::context::{Context, Environment, source_var};
use crate::sequences::cutover::history::Entry;
use crate::sequences::cutover::record::Record;
use crate::sequences::cutover::{Ledger, Phase};
use crate::sequences::move_app::first;
use crate::sequences::setup::state_writer::StateWriter;
use crate::sequences::up;
use jiff::Timestamp;

/// For an operator who knows better than the backups.
const ALL_THE_SAME: &str = "to restore all the same, write `source: {none: true}` into infra.yml in the place of the source, and run the same command again";

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
    let lost = context
        .interrupt
        .or(lost_state(context, environment, &catalogue))
        .await?;
    let words = super::words(&choice, altered);
    let would = format!("make both hosts anew, and put {words} onto them");
    let question = format!("Both hosts are gone. This makes new ones and puts {words} onto them.");
    if !context.goes_on(confirmed, would, &question)? {
        return Ok(ExitCode::Done);
    }
    if let Some(state) = lost {
        write_again(context, environment, state).await?;
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

/// Returns the state to begin with, if infra.yml names a source and the state is lost too: with an empty one, the new pair
/// would follow the source, and copy its data over what was restored. Fails unless the app is known to have left it.
async fn lost_state(context: &Context, environment: &Environment, catalogue: &Catalogue) -> Result<Option<State>> {
    if context.config.source.none || environment.store.state().await?.is_some() {
        return Ok(None);
    }
    let had_left = match context.phase(environment).await? {
        // The journal is in the same folder as the state, and says it best if it is still there.
        Some(phase) => phase >= Phase::Switched,
        None => catalogue.served_an_app(),
    };
    if !had_left {
        return Err(unserved());
    }
    for app in context.apps()? {
        let vars = app.config_vars().await?;
        if let Some(place) = stands_on_source(context, &vars)?
            && takes_connections(&place.0, place.1).await
        {
            return Err(on_source(&context.config.app.config_var, app.app_name()));
        }
    }
    context
        .ui
        .note("the state is gone from the bucket; by the backups, the app had left its source");
    let mut state = State::begin(Timestamp::now());
    state.source.settings = catalogue.source_settings();
    Ok(Some(state))
}

/// Returns the place in an app's var if that is the source's; `None` if it is another one, or nothing names the source.
fn stands_on_source(context: &Context, vars: &ConfigVars) -> Result<Option<Place>> {
    let named = context.config.source.url_env.is_some() || vars.has(&source_var(vars, &context.config));
    let Some(url) = vars.get(&context.config.app.config_var)?.filter(|_| named) else {
        return Ok(None);
    };
    let source = Server::place_of(&context.source_url_in(Ok(vars))?)?;
    let place = Server::place_of(url)?;
    Ok((place == source).then_some(place))
}

fn unserved() -> Error {
    Error::failed(
        "restore a pair: its state is gone from the bucket, and by the backups the app had not left its source",
    )
    .hint(format!(
        "`infra up` makes a pair that follows the source; {ALL_THE_SAME}"
    ))
}

fn on_source(var: &str, app: &str) -> Error {
    Error::failed(format!(
        "restore a pair: its state is gone from the bucket, and {var} of {app} names the source, which answers"
    ))
    .hint(format!(
        "the app's data is there: `infra up` makes a pair that follows it; {ALL_THE_SAME}"
    ))
}

/// Writes that the app had left its source, first into the journal: a state without it would follow the source.
async fn write_again(context: &Context, environment: &Environment, fresh: State) -> Result<()> {
    let store = &environment.store;
    let work = async |lock: &Held| {
        let journal = match Journal::latest(store).await? {
            Some(journal) => journal,
            None => Journal::begin(store, "restore").await?,
        };
        let mut ledger = Ledger::new(journal, lock);
        // Empty too if an attempt died after it had begun the journal.
        if ledger.history()?.phase.is_none() {
            ledger.write(&[Entry::Settled { late_writes: None }]).await?;
        }
        let id = ledger.journal().id().to_string();
        let writer = StateWriter::open(store, fresh).await?;
        let writing = writer.change(|state| {
            state.cutover = Some(id);
            state.phase = Phase::Settled.name().into();
        });
        writing.await
    };
    context.locked(environment, "infra restore", work).await
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
    if is_new(environment, instance).await? {
        return Ok(0);
    }
    let asked = async {
        let pair = environment.pair().await?;
        let info = async { pair.server(instance.role)?.connect(0).await?.info().await };
        match info.await {
            Ok(info) => Ok(info.keyspace.values().map(|counts| counts.keys).sum()),
            // An attempt that died may not have come to the engine. Without any data there is none to lose.
            Err(_) if !has_data(&pair.log_in(instance.role).await?).await? => Ok(0),
            Err(error) => Err(error),
        }
    };
    asked.await.map_err(|error: Error| {
        Error::failed(format!(
            "restore a pair: its {} ({}) stands and does not say whether it has data",
            instance.role, instance.id
        ))
        .because(error)
        .hint("`infra status` says more; terminate the instance if it is to be given up")
    })
}

/// Returns true for a machine that `infra` has made and was never on: an attempt died before.
async fn is_new(environment: &Environment, instance: &Instance) -> Result<bool> {
    let Some(stored) = environment.store.state().await? else {
        return Ok(false);
    };
    let mut known = stored.value.hosts.into_values();
    let record = known.find(|record| record.instance_id == instance.id);
    Ok(record.is_none_or(|record| record.host_key.is_empty()))
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
