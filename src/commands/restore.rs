//! `infra restore`: any covered second of the past, built in a new place, checked, and put where it was asked for.

use super::JSON_SCHEMA_VERSION;
use super::context::{Context, Environment, host_server};
use crate::backup::catalogue::{Wish, moment};
use crate::backup::{self, load, read, restore};
use crate::cli::{Restore, Target};
use crate::error::{Error, ExitCode, Result};
use crate::host::{self, restore::Checked};
use crate::remote::Session;
use crate::setup::follow;
use crate::state::{Lock, Role};
use crate::ui::size;
use crate::wait::{Look, Wait};
use jiff::Timestamp;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// The replica's full copy of what was restored.
const SYNC: Duration = Duration::from_secs(20 * 60);
const SHIPPING: Duration = Duration::from_secs(180);

pub async fn run(context: &Context, arguments: &Restore) -> Result<ExitCode> {
    let wish = match (arguments.at, arguments.latest, &arguments.backup) {
        (Some(at), false, None) => Wish::At(at),
        (None, true, None) => Wish::Latest,
        (None, false, Some(base)) => Wish::Base(base.clone()),
        _ => {
            return Err(Error::usage("know what to restore").hint("name one of --at TIME, --latest and --backup ID"));
        }
    };
    let environment = context.environment().await?;
    match arguments.target()? {
        Target::Live => to_live(context, &environment, &wish, arguments).await,
        Target::File(folder) => {
            context
                .interrupt
                .or(to_file(context, &environment, &wish, &folder, arguments.without_load))
                .await
        }
    }
}

/// In the place of the master's data: built beside, tried, swapped; the old data stays in a folder of its own.
async fn to_live(context: &Context, environment: &Environment, wish: &Wish, arguments: &Restore) -> Result<ExitCode> {
    let ui = &context.ui;
    let bucket = environment.store.bucket();
    let step = ui.step("look");
    let (catalogue, session, secrets, addresses) = tokio::try_join!(
        read::catalogue(bucket, context.env()),
        context.log_in(environment, Role::Master),
        context.secrets(environment),
        context.addresses(environment)
    )?;
    let choice = restore::choose(&catalogue, wish)?;
    if !host::role::observe(&session).await?.is_master() {
        return Err(Error::failed(
            "restore live data: the master follows the source, which would write over it at once",
        )
        .hint("restore into a folder with `--to file DIR`, or let the app move first"));
    }
    let master = host_server(Role::Master, addresses.of(Role::Master)?, &secrets)?;
    let replica = host_server(Role::Replica, addresses.of(Role::Replica)?, &secrets)?;
    let now = choice
        .until
        .map_or("everything that is in the bucket".into(), |second| {
            format!("the data as of {}", moment(second))
        });
    step.done(format!(
        "{now}: {} and {} pieces of the log",
        choice.base.place,
        choice.steps.len()
    ));
    if arguments.confirmed.dry_run {
        ui.data(format!(
            "would put {now} in the place of the master's data, from {} and {} pieces of the log",
            choice.base.place,
            choice.steps.len()
        ));
        return Ok(ExitCode::Done);
    }
    context.confirm(
        arguments.confirmed.confirm.as_deref(),
        &format!("This stops the master for some seconds and puts {now} in the place of its data. What was written since is kept on the host, in a folder of its own."),
    )?;
    let lock = Lock::acquire(&environment.store, ui, "infra restore").await?;
    let work = async {
        if let Some(what) = host::restore::recover(&session).await? {
            ui.note(format!(
                "an earlier run had moved the data aside and died: {what} is in force again"
            ));
        }
        let name = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let log: u64 = choice.steps.iter().map(|step| step.up_to - step.piece.chunk.from).sum();
        host::restore::room(&session, choice.base.plain_bytes + log).await?;
        let step = ui.step("build");
        let plan = restore::plan(bucket, context.env(), &choice, 2).await?;
        let built = host::restore::build(&session, &name, &plan, &step).await?;
        step.done(format!(
            "{} of base and {} of log, last write {}",
            size::bytes(built.base_bytes),
            size::bytes(built.log_bytes),
            built.last_second.map_or("in the base".into(), moment)
        ));
        let step = ui.step("load it beside");
        let checked = match host::restore::check(&session, &name).await {
            Ok(checked) => checked,
            Err(error) => {
                step.failed("it does not load");
                context.warn_of(host::restore::forget(&session, &name).await);
                return Err(error);
            }
        };
        match &checked {
            Checked::Loads { keys, version, .. } => step.done(format!("{version} loads {} keys", size::count(*keys))),
            Checked::NoRoom(why) => step.unchanged(format!(
                "{why}: the swap itself will tell, and go back if it does not load"
            )),
        }
        lock.check(Duration::ZERO)?;
        let before = host::backup::look(&session)
            .await?
            .agent
            .map_or_else(String::new, |agent| agent.timeline);
        let step = ui.step("swap");
        let (kept, keys) = host::restore::swap(&session, &name, &checked).await?;
        step.done(format!(
            "the master has {} keys; what it had before is in {kept}",
            size::count(keys)
        ));
        follow::in_sync(ui, &master, &replica, SYNC).await?;
        let step = ui.step("shipping");
        let wait = Wait::new(
            "the log to be shipped again, on a timeline of its own",
            SHIPPING,
            "`infra status` shows what the agent says; `journalctl -u infra-agent` on the master says more",
        );
        let timeline = wait.until(&step, || shipping(&session, &before)).await?;
        let commit = host::backup::run_now(&session).await?;
        let summary = backup::read_back(bucket, &commit).await?;
        step.done(format!(
            "timeline {timeline} has a base of {} keys, read back",
            size::count(summary.keys)
        ));
        Ok((kept, keys))
    };
    let done = context.interrupt.or(work).await;
    context.warn_of(lock.release().await);
    let (kept, keys) = done?;
    match ui.json() {
        true => ui.data(json!({"schema_version": JSON_SCHEMA_VERSION, "keys": keys, "kept": kept}).to_string()),
        false => ui.data(format!(
            "the master serves {now}: {} keys. What it had before is on it in {kept}",
            size::count(keys)
        )),
    }
    Ok(ExitCode::Done)
}

/// Ready with the name of the timeline, once it is another one and pieces of it are in the bucket.
async fn shipping(session: &Session, before: &str) -> Result<Look<String>> {
    let Some(agent) = host::backup::look(session).await?.agent else {
        return Ok(Look::NotYet("the agent says nothing".into()));
    };
    if agent.timeline.is_empty() || agent.timeline == before {
        return Ok(Look::NotYet("the agent is still on the old timeline".into()));
    }
    Ok(Look::Ready(agent.timeline))
}

async fn to_file(
    context: &Context,
    environment: &Environment,
    wish: &Wish,
    folder: &Path,
    without_load: bool,
) -> Result<ExitCode> {
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(
            Error::usage(format!("restore into {}: it is not empty", folder.display()))
                .hint("name a folder that is empty or not there yet: nothing is ever written over"),
        );
    }
    if !without_load && load::server().is_none() {
        return Err(Error::failed(
            "prove the restored data: there is no redis-server or valkey-server on this computer",
        )
        .hint("install one of the version that the hosts have, or leave the proof out with --without-load"));
    }
    let step = context.ui.step("restore");
    let bucket = environment.store.bucket();
    step.update("reading what there is");
    let catalogue = read::catalogue(bucket, context.env()).await?;
    let choice = restore::choose(&catalogue, wish)?;
    let restored = restore::to_folder(bucket, context.env(), &choice, folder, !without_load, &step).await?;
    step.done(format!(
        "{} of base and {} of log in {:.1} s",
        size::bytes(restored.base_bytes),
        size::bytes(restored.log_bytes),
        restored.build_s
    ));
    if context.ui.json() {
        context
            .ui
            .data(json!({"schema_version": JSON_SCHEMA_VERSION, "folder": folder, "restored": restored}).to_string());
        return Ok(ExitCode::Done);
    }
    let proof = match &restored.loaded {
        Some(loaded) => format!(
            "{} loads it in {:.1} s: {} keys{}",
            loaded.engine,
            restored.load_s,
            size::count(loaded.keys),
            match loaded.expired {
                0 => String::new(),
                expired => format!("; {} more have expired since", size::count(expired)),
            }
        ),
        None => "no engine has loaded it: --without-load was given".into(),
    };
    context.ui.data(format!(
        "{}: the data as of {}, last write {}; {proof}",
        folder.display(),
        restored
            .at
            .map_or("the newest that there is".into(), |at| at.to_string()),
        restored.last_write_at.map_or("in the base".into(), |at| at.to_string()),
    ));
    context.ui.data(format!(
        "start a server on it with: redis-server --appendonly yes --appendfilename appendonly.aof --dir {}",
        folder.display()
    ));
    Ok(ExitCode::Done)
}
