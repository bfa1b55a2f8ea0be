//! `infra status`: asks Redis for roles and lag, the bucket for backups, the platform for the app.

mod agents;
mod show;

use crate::effects::backup;
use crate::effects::backup::prove::{LATE_PERIODS, SILENT};
use crate::effects::backup::{BackupSummary, drill};
use crate::effects::cloud::ec2;
use crate::effects::cloud::ec2::RestoreInstance;
use crate::effects::host;
use crate::effects::host::tls;
use crate::effects::redis::{Server, shown_certificate};
use crate::model::error::{Error, ExitCode, Result};
use crate::model::role::Role;
use crate::model::size;
use crate::model::state::State;
use crate::sequences::context::{Context, Environment, host_server};
use crate::sequences::cutover::history::History;
use crate::sequences::up::{Drift, drift};
use crate::ui::JSON_SCHEMA_VERSION;
use agents::KeptGeneration;
use jiff::Timestamp;
use serde::Serialize;
use show::{age_text, show};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::info::{Info, Keyspace, ServerRole};

/// A week without a drill is an alarm.
const DRILL: Duration = Duration::from_secs(7 * 86_400);

#[derive(Serialize)]
struct Status {
    schema_version: u32,
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
    /// Changes that `up` would make; `None` if that could not be looked at.
    drift: Option<Vec<String>>,
    /// Work on the hosts that only the operator may do, and how: an upgrade of the engine, a reboot.
    upkeep: Vec<String>,
    alarms: Vec<String>,
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
    let (state, secrets, addresses) = tokio::try_join!(
        environment.state(),
        context.secrets(&environment),
        context.addresses(&environment)
    )?;
    // A host without an address or without Redis is reported like the others.
    let host = async |role| ask(&host_server(role, addresses.of(role)?, &secrets)?).await;
    let source = async { ask(&context.source().await?).await };
    let names = context.names(&environment)?;
    let (history, source, master, replica, backups, app, drift, restore_instances) = tokio::join!(
        context.history(&environment),
        source,
        host(Role::Master),
        host(Role::Replica),
        backups(context, &environment, state.generation),
        app_side(context, &state),
        drift(context, &environment),
        ec2::restore_instances(&environment.cloud, &names),
    );
    let impostor = [drift.as_ref().err()]
        .into_iter()
        .chain(backups.agents.iter().map(|(_, agent)| agent.as_ref().err()))
        .flatten()
        .find(|error| error.is_by_an_impostor())
        .map(|error| {
            let told = Error::unproven(format!("say how the hosts are: {}", error.chain().join(": ")));
            told.hint(error.next_step().unwrap_or_default())
        });
    let mut status = assemble(
        context,
        history,
        state,
        [("source", source), ("master", master), ("replica", replica)]
            .into_iter()
            .filter(|(name, _)| *name != "source" || !context.config.source.none)
            .collect(),
        backups,
        app,
        drift,
    );
    status.add_restore_instances(restore_instances);
    show(&context.ui, &status)?;
    impostor.map_or(Ok(ExitCode::Done), Err)
}

/// What the bucket and the agents say of backups. Each is a result, since any may fail alone.
struct Backups {
    newest: Result<Option<BackupSummary>>,
    log: Result<Option<backup::Log>>,
    drill: Result<Option<drill::Report>>,
    agents: [(&'static str, Result<host::backup::Backups>); 2],
}

async fn backups(context: &Context, environment: &Environment, generation: u64) -> Backups {
    let (bucket, env) = (environment.store.bucket(), context.env());
    let agent = async |role| host::backup::look(&context.log_in(environment, role).await?).await;
    let (newest, log, drill, master, replica) = tokio::join!(
        backup::newest(bucket, env, generation),
        backup::log(bucket, env),
        drill::newest(bucket, env),
        agent(Role::Master),
        agent(Role::Replica),
    );
    Backups {
        newest,
        log,
        drill,
        agents: [("master", master), ("replica", replica)],
    }
}

struct Answer {
    address: String,
    info: Info,
    certificate_days_left: Option<i64>,
}

async fn ask(server: &Server) -> Result<Answer> {
    let mut connection = server.connect(0).await?;
    let certificate_days_left = match server.trust {
        Some(_) => {
            let certificate = shown_certificate(&server.host, server.port).await?;
            Some(tls::shown(&certificate, Timestamp::now())?.days_left)
        }
        None => None,
    };
    Ok(Answer {
        address: format!("{}:{}", server.host, server.port),
        info: connection.info().await?,
        certificate_days_left,
    })
}

async fn app_side(context: &Context, state: &State) -> Result<&'static str> {
    let vars = context.platform.config_vars().await?;
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
    let source = context.source().await?;
    Ok(if source.host == host { "source" } else { "other" })
}

type Asked = Result<Answer>;

fn assemble(
    context: &Context,
    history: Result<History>,
    state: State,
    asked: Vec<(&'static str, Asked)>,
    backups: Backups,
    app: Result<&'static str>,
    drift: Result<Drift>,
) -> Status {
    let app = app.map_err(|error| format!("the app could not be asked what it uses: {}", error.chain().join(": ")));
    let offsets: BTreeMap<&str, u64> = asked
        .iter()
        .filter_map(|(name, seen)| seen.as_ref().ok().map(|seen| (*name, seen.info.master_repl_offset)))
        .collect();
    let mut alarms: Vec<String> = app.as_ref().err().cloned().into_iter().collect();
    let mut servers = BTreeMap::new();
    for (name, seen) in asked {
        let upstream = match name {
            "master" => offsets.get("source"),
            "replica" => offsets.get("master"),
            _ => None,
        };
        servers.insert(name, judge(name, seen, upstream.copied(), &mut alarms));
    }
    if let Some(rotation) = &state.rotation {
        alarms.push(format!(
            "the password of {} is being replaced since {}, and {}: `infra rotate` brings it to its end",
            rotation.user, rotation.begun_at, rotation.stage
        ));
    }
    let phase = history.as_ref().ok().and_then(|history| history.phase);
    match history {
        Ok(history) => alarms.extend(history.unfinished(Timestamp::now())),
        Err(error) => alarms.push(format!("the journal could not be read: {}", error.chain().join(": "))),
    }
    let born = i64::try_from(state.generation).unwrap_or(0);
    let (backup, log, drill, kept) = judge_backups(context, backups, born, &mut alarms);
    let backup_age_s = backup
        .as_ref()
        .map(|backup| Timestamp::now().duration_since(backup.finished_at).as_secs());
    let late = i64::try_from(LATE_PERIODS * context.config.backup_period_s()).unwrap_or(i64::MAX);
    match backup_age_s {
        None => alarms.push("there is no backup".into()),
        Some(age) if age > late => alarms.push(format!("the last backup is {} old", age_text(age))),
        Some(_) => {}
    }
    let (drift, upkeep) = match drift {
        Ok(drift) => (Some(drift.lines), drift.upkeep),
        Err(error) => {
            alarms.push(format!("drift could not be looked at: {}", error.chain().join(": ")));
            (None, Vec::new())
        }
    };
    Status {
        schema_version: JSON_SCHEMA_VERSION,
        name: context.config.name.clone(),
        env: context.env().into(),
        phase: phase.map_or(state.phase, |phase| phase.name().into()),
        endpoint: state.endpoint,
        app: app.unwrap_or("unknown"),
        servers,
        backup,
        backup_age_s,
        log_until: log,
        log_age_s: log.map(|until| Timestamp::now().duration_since(until).as_secs()),
        drill,
        restore_instances: Vec::new(),
        kept,
        drift,
        upkeep,
        alarms,
    }
}

impl Status {
    fn add_restore_instances(&mut self, restore_instances: Result<Vec<RestoreInstance>>) {
        match restore_instances {
            Ok(restore_instances) => self.restore_instances = restore_instances,
            Err(error) => self.alarms.push(format!(
                "instances beside the pair could not be looked for: {}",
                error.chain().join(": ")
            )),
        }
        for temporary in self
            .restore_instances
            .iter()
            .filter(|temporary| drill::is_left_over(temporary))
        {
            self.alarms.push(format!(
                "{} is left of a drill that died, and costs: the next `infra backup drill` ends it",
                temporary.instance
            ));
        }
    }
}

type BackupView = (
    Option<BackupSummary>,
    Option<Timestamp>,
    Option<drill::Report>,
    BTreeMap<&'static str, KeptGeneration>,
);

/// Judges what is known of backups; what is wrong goes to the alarms.
fn judge_backups(context: &Context, backups: Backups, born: i64, alarms: &mut Vec<String>) -> BackupView {
    let mut unknown =
        |what: &str, error: Error| alarms.push(format!("{what} could not be looked at: {}", error.chain().join(": ")));
    let newest = backups.newest.unwrap_or_else(|error| {
        unknown("backups", error);
        None
    });
    let log = backups.log.unwrap_or_else(|error| {
        unknown("the log's segments", error);
        None
    });
    let drill = backups.drill.unwrap_or_else(|error| {
        unknown("the last drill", error);
        None
    });
    if let Some((fell_from, keys)) = newest
        .as_ref()
        .and_then(|newest| Some((newest.fell_from?, newest.keys)))
    {
        alarms.push(format!(
            "the newest base has {} keys, the one before it had {}: that one is kept, see `infra backup list`",
            size::count(keys),
            size::count(fell_from)
        ));
    }
    let now = Timestamp::now();
    let late = SILENT + Duration::from_secs(context.config.backup.rpo_s);
    let late = i64::try_from(late.as_secs()).unwrap_or(i64::MAX);
    let until = log.as_ref().and_then(|log| log.until);
    match until.map(|until| now.duration_since(until).as_secs()) {
        None if log.is_some() || newest.is_some() => {
            alarms.push("there is no log in the bucket: only bases can be restored".into())
        }
        Some(age) if age > late => alarms.push(format!("the log in the bucket ends {} ago", age_text(age))),
        _ => {}
    }
    for gap in log.iter().flat_map(|log| &log.gaps) {
        alarms.push(format!("a gap in the log: {gap}"));
    }
    let tried = drill.as_ref().map_or(born, |drill| drill.drilled_at.as_second());
    if u64::try_from(now.as_second() - tried).is_ok_and(|age| age > DRILL.as_secs()) {
        alarms.push("no restore was tried for more than a week: run `infra backup drill`".into());
    }
    let kept = agents::judge(backups.agents, now, alarms);
    (newest, until, drill, kept)
}

fn judge(name: &str, seen: Asked, upstream: Option<u64>, alarms: &mut Vec<String>) -> Seen {
    let Answer {
        address,
        info,
        certificate_days_left,
    } = match seen {
        Ok(seen) => seen,
        Err(error) => {
            alarms.push(format!("{name} does not answer: {}", error.chain().join(": ")));
            return Seen::Down {
                error: error.chain().join(": "),
            };
        }
    };
    if let Some(days) = certificate_days_left.filter(|days| *days < tls::WARN_DAYS) {
        let remedy = match name {
            "source" => "ask the provider when it is renewed, and run `infra check --pin` after that",
            _ => "`infra up` renews it without a restart",
        };
        alarms.push(format!("the certificate of the {name} ends in {days} days: {remedy}"));
    }
    let link_up = info.link.as_ref().map(|link| link.up);
    if link_up == Some(false) {
        alarms.push(format!("{name} has lost the server that it follows"));
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
