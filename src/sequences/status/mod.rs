//! `infra status`: asks Redis for roles and lag, the bucket for backups, the platform for the app.

mod agents;
mod backups;
mod copy;
mod credits;
mod metrics;
mod servers;
mod show;
mod tunnel;

use crate::decide::preflight::Finding;
use crate::decide::room::{self, Room};
use crate::effects::backup::prove::LATE_PERIODS;
use crate::effects::backup::{BackupSummary, drill};
use crate::effects::cloud::ec2::{self, RestoreInstance};
use crate::effects::platform::ConfigVars;
use crate::effects::redis::Server;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::failover::Stage;
use crate::model::role::Role;
use crate::model::state::State;
use crate::sequences::arguments::Status as Arguments;
use crate::sequences::context::Context;
use crate::sequences::cutover::Phase;
use crate::sequences::cutover::history::History;
use crate::sequences::up::{Drift, drift};
use agents::KeptGeneration;
use copy::CopyView;
use credits::CreditsSeen;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use servers::{Asked, Seen, ask, connections_of, judge, memory_of};
use show::{age_text, lines};
use std::collections::BTreeMap;
use tunnel::TunnelView;

#[derive(Serialize)]
struct Status {
    name: String,
    env: String,
    phase: String,
    /// The address that the app's URL names or will name.
    endpoint: Option<String>,
    /// Which side the app's config var names: `source`, `endpoint`, `other` or `unknown`.
    app: &'static str,
    servers: BTreeMap<&'static str, Seen>,
    backup: Option<BackupSummary>,
    backup_age_s: Option<i64>,
    /// Every second up to this one can be restored.
    log_until: Option<Timestamp>,
    log_age_s: Option<i64>,
    /// The newest restore that was tried.
    drill: Option<drill::Report>,
    /// Instances that restores and drills have made and that stand.
    #[serde(rename = "beside")]
    restore_instances: Vec<RestoreInstance>,
    /// Data that the newest full copy replaced and that is still kept, by host.
    kept: BTreeMap<&'static str, KeptGeneration>,
    /// The tunnel on the master host, as it reports; `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<TunnelView>,
    /// The copy on the master host, as it reports; `None` if the source is followed by replication.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<CopyView>,
    /// Room that is left: memory, connections, disks and CPU credits.
    room: Room,
    /// Why the CPU credits are not known, if AWS does not let these credentials ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    credits_unseen: Option<String>,
    /// Changes that `up` would make; `None` if that could not be looked at.
    drift: Option<Vec<String>>,
    /// Work on the hosts that only the operator may do, and how: an upgrade of the engine, a reboot.
    upkeep: Vec<String>,
    /// The findings, as text.
    alarms: Vec<String>,
    /// Everything that is wrong.
    findings: Vec<Finding>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    context.interrupt.or(look(context, arguments)).await
}

async fn look(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    if arguments.metrics && context.ui.json() {
        return Err(Error::usage("print the status: --metrics and --json are two forms of it").hint("choose one"));
    }
    let environment = context.environment().await?;
    let pair = environment.pair().await?;
    // A host without an address or without Redis is reported like the others.
    let host = async |role| ask(&pair.server(role)?).await;
    let vars = context.platform.config_vars().await;
    let server = context.source_in(vars.as_ref()).await;
    let source = async { ask(server.as_ref().map_err(Error::repeated)?).await };
    let app = app_side(context, &pair.state, vars.as_ref());
    let (history, source, master, replica, backups, drift, restore_instances, credits) = tokio::join!(
        context.history(&environment),
        source,
        host(Role::Master),
        host(Role::Replica),
        backups::look(context, &environment, &pair),
        drift(context, &environment, server.as_ref()),
        ec2::restore_instances(&environment.cloud, &environment.names),
        credits::look(&environment, &pair.state),
    );
    let impostor = [drift.as_ref().err()]
        .into_iter()
        .chain(backups.agents.iter().map(|(_, agent)| agent.as_ref().err()))
        .flatten()
        .find(|error| error.is_by_an_impostor())
        .map(|error| {
            let told = Error::unproven(format!("say how the hosts are: {error:#}"));
            told.hint(error.next_step().unwrap_or_default())
        });
    let asked = [("source", source), ("master", master), ("replica", replica)];
    let is_wanted = |(name, _): &(&str, Asked)| *name != "source" || !context.config.source.none;
    let status = assemble(
        context,
        Looked {
            history,
            state: pair.state,
            asked: asked.into_iter().filter(is_wanted).collect(),
            backups,
            app,
            drift,
            restore_instances,
            credits,
        },
    );
    if arguments.metrics {
        context.ui.data(metrics::text(&status, Timestamp::now()));
    } else {
        context.ui.report(json!(status), lines(&context.ui, &status));
    }
    let code = if arguments.exit_code && !status.findings.is_empty() {
        ExitCode::Failed
    } else {
        ExitCode::Done
    };
    impostor.map_or(Ok(code), Err)
}

fn app_side(context: &Context, state: &State, vars: Result<&ConfigVars, &Error>) -> Result<&'static str> {
    let vars = vars.map_err(Error::repeated)?;
    let Some(url) = vars.get(&context.config.app.config_var)? else {
        return Ok("other");
    };
    let (host, _) = Server::place_of(url)?;
    if context.endpoint_names(state.endpoint.as_deref()).contains(&host) {
        return Ok("endpoint");
    }
    if context.config.source.none {
        return Ok("other");
    }
    let (source, _) = Server::place_of(&context.source_url_in(Ok(vars))?)?;
    Ok(if source == host { "source" } else { "other" })
}

/// The remedy where a base is missing.
const BASE_NOW: &str = "`infra backup now` makes a base, or says why it cannot";

/// Everything that was asked. Each is a result, since any may fail alone.
struct Looked {
    history: Result<History>,
    state: State,
    asked: Vec<(&'static str, Asked)>,
    backups: backups::Backups,
    app: Result<&'static str>,
    drift: Result<Drift>,
    restore_instances: Result<Vec<RestoreInstance>>,
    credits: Result<CreditsSeen>,
}

/// Returns the finding about something that could not be looked at.
fn unseen(id: &'static str, what: &str, error: &Error) -> Finding {
    Finding::alarm(id, format!("{what} could not be looked at: {error:#}"))
}

fn assemble(context: &Context, looked: Looked) -> Status {
    let state = looked.state;
    let mut findings = Vec::new();
    let app = looked.app.unwrap_or_else(|error| {
        let found = format!("the app could not be asked what it uses: {error:#}");
        findings.push(Finding::alarm("app-unseen", found));
        "unknown"
    });
    let offset = |seen: &Asked| seen.as_ref().ok().map(|seen| seen.info.master_repl_offset);
    let offsets: BTreeMap<&str, Option<u64>> = looked.asked.iter().map(|(name, seen)| (*name, offset(seen))).collect();
    let master = looked.asked.iter().find(|(name, _)| *name == "master");
    let connections = master.and_then(|(_, seen)| connections_of(seen));
    let mut servers = BTreeMap::new();
    for (name, seen) in looked.asked {
        let upstream = match name {
            "master" => offsets.get("source"),
            "replica" => offsets.get("master"),
            _ => None,
        };
        servers.insert(name, judge(name, seen, upstream.copied().flatten(), &mut findings));
    }
    if let Some(rotation) = &state.rotation {
        let (user, since, stage) = (rotation.user, rotation.begun_at, rotation.stage);
        findings.push(Finding::warning(
            "rotation",
            format!("the password of {user} is being replaced since {since}, and {stage}"),
            "`infra rotate` brings it to its end",
        ));
    }
    if let Some(failover) = &state.failover {
        let (since, stage) = (failover.begun_at, failover.stage);
        let remedy = if failover.forced && stage < Stage::Settling {
            "`infra promote --force` brings it to its end"
        } else {
            "`infra promote` brings it to its end"
        };
        findings.push(Finding::warning(
            "failover",
            format!("a failover is under way since {since}, and {stage}"),
            remedy,
        ));
    }
    if let Some(old) = &state.demoted {
        findings.push(Finding::warning(
            "no-replica",
            format!("{old} was replaced as the master, and the pair has no replica since"),
            "`infra up` makes it the replica, or makes another one if it is gone",
        ));
    }
    if let Some(leaving) = &state.replacing {
        findings.push(Finding::warning(
            "replacement",
            format!("the replacement of {leaving} was begun"),
            format!("`infra replace {leaving}` brings it to its end"),
        ));
    }
    let phase = looked.history.as_ref().ok().and_then(|history| history.phase);
    match looked.history {
        Ok(history) => {
            let unfinished = history.unfinished(Timestamp::now());
            findings.extend(unfinished.map(|unfinished| Finding::alarm("cutover", unfinished)));
        }
        Err(error) => {
            let found = format!("the journal could not be read: {error:#}");
            findings.push(Finding::alarm("journal", found));
        }
    }
    let born = i64::try_from(state.generation).unwrap_or(0);
    let follows = phase.is_none_or(|phase| phase < Phase::Promoted) && !context.config.source.none;
    let mut backups = looked.backups;
    let reported = std::mem::replace(&mut backups.tunnel, Ok(None));
    let tunnel = tunnel::judge(reported, follows, Timestamp::now(), &mut findings);
    let reported = std::mem::replace(&mut backups.copy, Ok(None));
    let copy = copy::judge(reported, follows, Timestamp::now(), &mut findings);
    let backups = backups::judge(context, backups, born, &mut findings);
    let (credits, credits_unseen) = credits::judge(looked.credits, &mut findings);
    let (room, little) = room::room(
        room::Seen {
            memory: memory_of(&servers),
            connections,
            disks: backups.disks,
            bases: backups.bases,
            credits,
        },
        Timestamp::now(),
    );
    findings.extend(little);
    let backup = backups.newest;
    let age = |of: Timestamp| Timestamp::now().duration_since(of).as_secs();
    let backup_age_s = backup.as_ref().map(|backup| age(backup.finished_at));
    let late = i64::try_from(LATE_PERIODS * context.config.backup_period_s()).unwrap_or(i64::MAX);
    match backup_age_s {
        None => findings.push(Finding::warning("no-backup", "there is no backup", BASE_NOW)),
        Some(age) if age > late => {
            let found = format!("the last backup is {} old", age_text(age));
            findings.push(Finding::warning("backup-late", found, BASE_NOW));
        }
        Some(_) => {}
    }
    let drift = looked
        .drift
        .inspect_err(|error| findings.push(unseen("drift-unseen", "drift", error)));
    let (drift, upkeep) = drift.map_or((None, Vec::new()), |drift| (Some(drift.lines), drift.upkeep));
    let restore_instances = looked.restore_instances.unwrap_or_else(|error| {
        let found = format!("instances beside the pair could not be looked for: {error:#}");
        findings.push(Finding::alarm("restores-unseen", found));
        Vec::new()
    });
    let left_over = restore_instances
        .iter()
        .filter(|temporary| drill::is_left_over(temporary));
    findings.extend(left_over.map(|temporary| {
        Finding::warning(
            "drill-left",
            format!(
                "{} is left over from a drill that died, and still costs money",
                temporary.instance
            ),
            "the next `infra backup drill` ends it",
        )
    }));
    Status {
        name: context.config.name.to_string(),
        env: context.env().into(),
        phase: phase.map_or(state.phase, |phase| phase.name().into()),
        endpoint: state.endpoint,
        app,
        servers,
        backup,
        backup_age_s,
        log_until: backups.log_until,
        log_age_s: backups.log_until.map(age),
        drill: backups.drill,
        restore_instances,
        kept: backups.kept,
        tunnel,
        copy,
        room,
        credits_unseen,
        drift,
        upkeep,
        alarms: findings.iter().map(Finding::line).collect(),
        findings,
    }
}

#[cfg(test)]
mod tests;
