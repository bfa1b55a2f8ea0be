//! `infra status`: asks Redis for roles and lag, the bucket for backups, the platform for the app.

mod agents;
mod backups;
mod show;
mod tunnel;

use crate::decide::preflight::{Finding, RENEWED_LATE_DAYS};
use crate::effects::backup::prove::LATE_PERIODS;
use crate::effects::backup::{BackupSummary, drill};
use crate::effects::cloud::ec2::{self, RestoreInstance};
use crate::effects::host::tls;
use crate::effects::platform::ConfigVars;
use crate::effects::redis::{Server, Trust, shown_certificate, trust};
use crate::model::error::{Error, ExitCode, Result};
use crate::model::role::Role;
use crate::model::state::State;
use crate::sequences::context::Context;
use crate::sequences::cutover::Phase;
use crate::sequences::cutover::history::History;
use crate::sequences::up::{Drift, drift};
use agents::KeptGeneration;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use show::{age_text, lines};
use std::collections::BTreeMap;
use tunnel::TunnelView;
use wire::info::{Info, Keyspace, ServerRole};

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
    /// Changes that `up` would make; `None` if that could not be looked at.
    drift: Option<Vec<String>>,
    /// Work on the hosts that only the operator may do, and how: an upgrade of the engine, a reboot.
    upkeep: Vec<String>,
    /// The findings, as text.
    alarms: Vec<String>,
    /// Everything that is wrong.
    findings: Vec<Finding>,
}

/// One server, as it says of itself.
#[derive(Serialize)]
#[serde(untagged)]
enum Seen {
    Up(Box<Redis>),
    Down { error: String },
}

#[derive(Serialize)]
struct Redis {
    address: String,
    version: String,
    role: ServerRole,
    run_id: String,
    replid: String,
    /// The applied offset of a replica, or the written offset of a master.
    offset: u64,
    link_up: Option<bool>,
    /// Bytes behind the server that it follows.
    lag_bytes: Option<u64>,
    used_memory: u64,
    maxmemory: u64,
    keys: BTreeMap<u32, Keyspace>,
    connected_clients: u64,
    replicas: usize,
    /// Days until its certificate ends; `None` without TLS.
    certificate_days_left: Option<i64>,
}

pub async fn run(context: &Context) -> Result<ExitCode> {
    context.interrupt.or(look(context)).await
}

async fn look(context: &Context) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let pair = environment.pair().await?;
    // A host without an address or without Redis is reported like the others.
    let host = async |role| ask(&pair.server(role)?).await;
    let vars = context.platform.config_vars().await;
    let server = context.source_in(vars.as_ref()).await;
    let source = async { ask(server.as_ref().map_err(Error::repeated)?).await };
    let app = app_side(context, &pair.state, vars.as_ref());
    let (history, source, master, replica, backups, drift, restore_instances) = tokio::join!(
        context.history(&environment),
        source,
        host(Role::Master),
        host(Role::Replica),
        backups::look(context, &environment, &pair),
        drift(context, &environment, server.as_ref()),
        ec2::restore_instances(&environment.cloud, &environment.names),
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
        },
    );
    context.ui.report(json!(status), lines(&context.ui, &status));
    impostor.map_or(Ok(ExitCode::Done), Err)
}

struct Answer {
    address: String,
    info: Info,
    certificate_days_left: Option<i64>,
    /// A public authority's certificate is renewed without us.
    renewed_by_others: bool,
}

async fn ask(server: &Server) -> Result<Answer> {
    let mut connection = server.connect(0).await?;
    let certificate_days_left = match server.trust {
        Some(_) => {
            let certificate = shown_certificate(&server.host, server.port).await?;
            Some(trust::read(&certificate)?.days_left(Timestamp::now()))
        }
        None => None,
    };
    Ok(Answer {
        address: format!("{}:{}", server.host, server.port),
        info: connection.info().await?,
        certificate_days_left,
        renewed_by_others: server.trust == Some(Trust::Public),
    })
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

type Asked = Result<Answer>;

/// Everything that was asked. Each is a result, since any may fail alone.
struct Looked {
    history: Result<History>,
    state: State,
    asked: Vec<(&'static str, Asked)>,
    backups: backups::Backups,
    app: Result<&'static str>,
    drift: Result<Drift>,
    restore_instances: Result<Vec<RestoreInstance>>,
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
    let (backup, log, drill, kept) = backups::judge(context, backups, born, &mut findings);
    let age = |of: Timestamp| Timestamp::now().duration_since(of).as_secs();
    let backup_age_s = backup.as_ref().map(|backup| age(backup.finished_at));
    let late = i64::try_from(LATE_PERIODS * context.config.backup_period_s()).unwrap_or(i64::MAX);
    match backup_age_s {
        None => findings.push(Finding::alarm("no-backup", "there is no backup")),
        Some(age) if age > late => {
            let found = format!("the last backup is {} old", age_text(age));
            findings.push(Finding::alarm("backup-late", found));
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
            format!("{} is left of a drill that died, and costs", temporary.instance),
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
        log_until: log,
        log_age_s: log.map(age),
        drill,
        restore_instances,
        kept,
        tunnel,
        drift,
        upkeep,
        alarms: findings.iter().map(Finding::line).collect(),
        findings,
    }
}

fn judge(name: &str, seen: Asked, upstream: Option<u64>, findings: &mut Vec<Finding>) -> Seen {
    let Answer {
        address,
        info,
        certificate_days_left,
        renewed_by_others,
    } = match seen {
        Ok(seen) => seen,
        Err(error) => {
            let error = format!("{error:#}");
            findings.push(Finding::alarm("no-answer", format!("{name} does not answer: {error}")));
            return Seen::Down { error };
        }
    };
    let warn_days = if renewed_by_others {
        RENEWED_LATE_DAYS
    } else {
        tls::WARN_DAYS
    };
    if let Some(days) = certificate_days_left.filter(|days| *days < warn_days) {
        let remedy = match name {
            _ if renewed_by_others => "ask the provider when it is renewed; the new one needs nothing from you",
            "source" => "ask the provider when it is renewed, and run `infra check --pin` after that",
            _ => "`infra up` renews it without a restart",
        };
        let found = format!("the certificate of the {name} ends in {days} days");
        findings.push(Finding::warning("certificate-ends", found, remedy));
    }
    let link_up = info.link.as_ref().map(|link| link.up);
    if link_up == Some(false) {
        let found = format!("{name} has lost the server that it follows");
        findings.push(Finding::alarm("link-down", found));
    }
    let offset = info.applied_offset.unwrap_or(info.master_repl_offset);
    Seen::Up(Box::new(Redis {
        address,
        version: info.own_version().to_string(),
        role: info.role,
        run_id: info.run_id.clone(),
        replid: info.replid.clone(),
        offset,
        link_up,
        lag_bytes: link_up.and(upstream).map(|upstream| upstream.saturating_sub(offset)),
        used_memory: info.used_memory,
        maxmemory: info.maxmemory,
        keys: info.keyspace.clone(),
        connected_clients: info.connected_clients,
        replicas: info.replicas.len(),
        certificate_days_left,
    }))
}

#[cfg(test)]
mod tests;
