//! Gathers the facts that a move depends on. What cannot be seen becomes a finding with its reason.

use crate::decide::follow::{follower, has_room};
use crate::decide::preflight::commands;
use crate::decide::preflight::denials::{Denials, Denied};
use crate::decide::preflight::{
    Certificate, Copy, DeniedBy, Facts, Owner, Private, SourceFacts, Unseen, Way, own_engine, private,
};
use crate::decide::vars;
use crate::effects::cloud::ec2;
use crate::effects::host::reach::Reach;
use crate::effects::host::users::app_rules;
use crate::effects::host::{default_maxmemory, tunnel, users};
use crate::effects::platform::heroku::{AppSurvey, owner};
use crate::effects::platform::{Attachment, ConfigVars, KnownApp};
use crate::effects::redis::control::Permission;
use crate::effects::redis::{Connection, Server, Survey, Trust, control, count_writes, shown_certificate, trust};
use crate::model::error::{Error, Result};
use crate::model::follow::Follower;
use crate::model::role::Role;
use crate::model::secret::Secret;
use crate::model::state::State;
use crate::sequences::context::{Context, Environment, KnownPair, REDIS_PORT, source_var};
use crate::sequences::cutover::Phase;
use crate::sequences::rehearsal::Record;
use crate::sequences::setup::access;
use crate::sequences::setup::source::upstream;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// The time for which writes to large keys are counted.
const COUNTING: Duration = Duration::from_secs(2);

/// Gathers all facts. Watches the source's commands for the time `watching`.
pub async fn facts(
    context: &Context,
    environment: &Environment,
    app: Result<&KnownApp, &Error>,
    watching: Duration,
) -> Result<Facts> {
    let config = &context.config;
    let cloud = &environment.cloud;
    // Before the first `up` there is no state, and no master to ask.
    let state = environment
        .store
        .state()
        .await
        .ok()
        .flatten()
        .map(|stored| stored.value);
    let pair = match state {
        Some(_) => environment.pair().await.ok(),
        None => None,
    };
    let phase = match pair {
        Some(_) => context.phase(environment).await.ok().flatten(),
        None => None,
    };
    let server = context.source_in(app.map(|app| &app.vars)).await;
    let moved = context.apps()?;
    let (source, machine, platform, admins, apps, way) = tokio::join!(
        source(context, server.as_ref(), pair.as_ref(), phase, watching),
        ec2::machine_and_image(cloud, &config.hosts.instance_type, &config.hosts.image),
        platform(context, app, state.as_ref()),
        access::admins(config, cloud),
        access::apps(config, &moved),
        way(server.as_ref(), pair.as_ref(), phase),
    );
    let network = machine
        .as_ref()
        .ok()
        .and_then(|(machine, _)| machine.as_ref()?.network_bytes_per_s);
    let (memory, image) = match machine {
        Ok((machine, image)) => (
            machine.map(|machine| machine.memory_bytes).ok_or_else(|| {
                absent(
                    "instance type",
                    &config.hosts.instance_type,
                    cloud.region(),
                    "hosts.instance_type",
                )
            }),
            image
                .map(|image| image.id)
                .ok_or_else(|| absent("image", &config.hosts.image, cloud.region(), "hosts.image")),
        ),
        Err(error) => {
            let unseen = unseen(error);
            (Err(unseen.clone()), Err(unseen))
        }
    };
    let maxmemory = match (config.redis.maxmemory, &memory) {
        (Some(given), _) => given.0,
        (None, Ok(bytes)) => default_maxmemory(*bytes),
        (None, Err(_)) => 0,
    };
    let (owner, copy, app, private) = match platform {
        Ok(Side {
            owner,
            copy,
            survey,
            private,
        }) => (Ok(owner), copy, Ok(survey), private),
        Err(error) => {
            let unseen = unseen(error);
            (Err(unseen.clone()), Copy::Fresh, Err(unseen), None)
        }
    };
    let setting = |name: &str| config.redis.settings.get(name);
    Ok(Facts {
        source: source.map_err(unseen),
        own: own_engine(config.redis.engine, &config.hosts.image),
        own_policy: setting("maxmemory-policy").cloned(),
        own_databases: setting("databases").and_then(|text| text.parse().ok()),
        instance_type: config.hosts.instance_type.clone(),
        instance_memory: memory,
        network,
        image: config.hosts.image.clone(),
        image_id: image,
        config_var: config.app.config_var.clone(),
        owner,
        app,
        private,
        endpoint: state.as_ref().and_then(|state| state.endpoint.clone()),
        copy,
        region: cloud.region().to_string(),
        rehearsed: match &state {
            Some(_) => Record::load(&environment.store, config).await.ok().flatten(),
            None => None,
        }
        .map(|record| record.verdict.passed()),
        maxmemory,
        admins: admins.map_err(unseen),
        apps: apps.map_err(unseen),
        certificates: certificates(pair.as_ref()).await,
        way,
    })
}

fn absent(kind: &str, name: &str, region: &str, field: &str) -> Unseen {
    Unseen {
        why: format!("{region} has no {kind} {name}"),
        remedy: format!("correct {field} in infra.yml"),
    }
}

pub(super) fn unseen(error: Error) -> Unseen {
    Unseen {
        why: format!("{error:#}"),
        remedy: error.next_step().unwrap_or("see the cause above").to_string(),
    }
}

async fn source(
    context: &Context,
    server: Result<&Server, &Error>,
    pair: Option<&KnownPair>,
    phase: Option<Phase>,
    watching: Duration,
) -> Result<SourceFacts> {
    let server = server.map_err(Error::repeated)?;
    let mut connection = server.connect(0).await?;
    let info = connection.info().await?;
    let (mut survey, permissions) = Survey::read(&mut connection, watching).await?;
    // Closed before anything else is opened, since a small plan has few connections.
    drop(connection);
    let certificate = match &server.trust {
        Some(trust) => {
            let shown = trust::read(&shown_certificate(&server.host, server.port).await?)?;
            Some(Certificate {
                days_left: shown.days_left(Timestamp::now()),
                issuer: shown.issuer,
                pinned: matches!(trust, Trust::Pin(_)),
            })
        }
        None => None,
    };
    let follower = follower(context.config.source.follow, &permissions.psync);
    let monitor = match follower {
        Follower::Copy => {
            let length = if has_room(info.used_memory, info.maxmemory) {
                watching.min(COUNTING)
            } else {
                Duration::ZERO
            };
            count_writes(server, &mut survey.sizes, length).await?
        }
        Follower::Replication => Permission::Unknown("it is not needed".into()),
    };
    let used = commands::in_use(&survey, phase.is_some());
    let denied = denials(context, pair, &used).await?;
    Ok(SourceFacts {
        address: server.address(),
        engine: info.engine,
        version: info.own_version(),
        follows: info.link.as_ref().map(|link| format!("{}:{}", link.host, link.port)),
        used_memory: info.used_memory,
        keys: info.keys(),
        follower,
        monitor,
        copy_rate: context.config.source.copy_rate.0,
        leave_out: context.config.source.leave_out.clone(),
        maxmemory: info.maxmemory,
        policy: info.maxmemory_policy,
        evicted_keys: info.evicted_keys,
        databases: info.keyspace.keys().copied().collect(),
        permissions,
        tls: server.trust.is_some(),
        certificate,
        names_user: server.user.is_some(),
        is_followed: pair.is_some() && survey.clients.replicas > 0,
        survey,
        denied,
    })
}

/// Lets the master host try to reach the source, if it stands and has to follow it.
async fn way(source: Result<&Server, &Error>, pair: Option<&KnownPair>, phase: Option<Phase>) -> Option<Way> {
    let pair = pair?;
    if pair.state.phase.is_empty() || phase.is_some_and(|phase| phase >= Phase::Promoted) {
        return None;
    }
    let upstream = upstream(source.ok()?);
    let session = pair.log_in(Role::Master).await.ok()?;
    let seen_as = pair.addresses.of(Role::Master).ok().map(ToString::to_string);
    let reach = Reach::new(&upstream.host, upstream.port, upstream.trust, seen_as).ok()?;
    let trial = tunnel::try_reach(&session, &reach).await.ok()?;
    let hint = reach.hint();
    Some(Way { trial, hint })
}

/// Returns the days left by host. A host that does not answer is left to `status`.
async fn certificates(pair: Option<&KnownPair>) -> Vec<(&'static str, i64)> {
    let mut found = Vec::new();
    let Some(KnownPair { addresses, .. }) = pair else {
        return found;
    };
    for role in Role::ALL {
        if let Ok(address) = addresses.of(role)
            && let Ok(certificate) = shown_certificate(address, REDIS_PORT).await
            && let Ok(shown) = trust::read(&certificate)
        {
            found.push((role.name(), shown.days_left(Timestamp::now())));
        }
    }
    found
}

/// Returns the commands in use that our `app` user may not run, by our master or else by its rules.
async fn denials(context: &Context, pair: Option<&KnownPair>, used: &BTreeMap<String, u64>) -> Result<Denials> {
    let looked_at = used.len();
    let (usual, rules) = (app_rules(&[])?, app_rules(&context.config.redis.app_commands)?);
    let names: Vec<&str> = used.keys().map(String::as_str).collect();
    let told = match pair {
        // If the master does not answer, the rules decide.
        Some(pair) => by_master(pair, &names).await.ok().flatten(),
        None => None,
    };
    // The next `up` allows on the hosts what infra.yml allows.
    let comes = |command: &str| rules.allow(command) && !usual.allow(command);
    let refused = |command: &String| match &told {
        Some(refused) => refused.contains(command) && !comes(command),
        None => !rules.allow(command),
    };
    let commands: Vec<Denied> = used
        .iter()
        .filter(|(command, _)| refused(command))
        .map(|(command, calls)| Denied {
            command: command.clone(),
            calls: *calls,
        })
        .collect();
    Ok(Denials {
        looked_at,
        told: if told.is_some() {
            DeniedBy::Master
        } else {
            DeniedBy::Rules
        },
        commands,
    })
}

/// Returns the commands that our master refuses to its user `app`; `None` if it cannot say.
async fn by_master(pair: &KnownPair, commands: &[&str]) -> Result<Option<Vec<String>>> {
    let mut connection: Connection = pair.server(Role::Master)?.connect(0).await?;
    control::refused_to(&mut connection, users::APP, commands).await
}

/// The platform's side of the app.
struct Side {
    owner: Owner,
    copy: Copy,
    survey: Option<AppSurvey>,
    private: Option<Private>,
}

async fn platform(context: &Context, known: Result<&KnownApp, &Error>, state: Option<&State>) -> Result<Side> {
    let app = &context.config.app;
    let KnownApp { vars, attachments, .. } = known.map_err(Error::repeated)?;
    let owned = match owner(attachments, &app.name, &app.config_var) {
        Some(attachment) => Owner::Attachment {
            attachment: attachment.name.clone(),
            addon: attachment.addon_name.clone(),
            vars: vars
                .names()
                .filter(|var| owner(attachments, &app.name, var).is_some_and(|owner| owner.id == attachment.id))
                .map(str::to_string)
                .collect(),
        },
        None if vars.has(&app.config_var) => Owner::Plain,
        None => Owner::Absent,
    };
    let survey = match context.platform.heroku() {
        Some(heroku) => Some(heroku.survey(vars).await?),
        None => None,
    };
    let endpoint = state.and_then(|state| state.endpoint.as_deref());
    let copy = copy(context, vars, attachments, endpoint);
    let private = private(context, vars, attachments, survey.as_ref());
    Ok(Side {
        owner: owned,
        copy,
        survey,
        private,
    })
}

/// Returns the sign that the add-on of the source's URL is private. A plain copy of an add-on's URL
/// has that add-on too.
fn private(
    context: &Context,
    vars: &ConfigVars,
    attachments: &[Attachment],
    survey: Option<&AppSurvey>,
) -> Option<Private> {
    let app = &context.config.app;
    if context.config.source.url_env.is_some() {
        return None;
    }
    let var = source_var(vars, &context.config);
    let owned = |var: &str| owner(attachments, &app.name, var);
    let attachment = owned(&var).or_else(|| owned(&owned_twin(vars, &var, |var| owned(var).is_some())?))?;
    let plan = survey.and_then(|survey| survey.plans.get(&attachment.addon_name));
    let its_vars = attachment.config_vars.iter().flatten().map(String::as_str);
    private::sign(&attachment.addon_name, plan.map(String::as_str), its_vars)
}

/// Compares the app's var with the add-on's var that it was copied from.
fn copy(context: &Context, vars: &ConfigVars, attachments: &[Attachment], endpoint: Option<&str>) -> Copy {
    let (app, config) = (&context.config.app, &context.config);
    let named = config.source.config_var.as_deref().unwrap_or(&app.config_var);
    let original = if named == app.config_var {
        vars::source_var(vars, named)
    } else {
        named.to_string()
    };
    let read = |var: &str| vars.get(var).ok().flatten();
    // Only what an attachment owns is kept up to date by the provider.
    let owned = |var: &str| owner(attachments, &app.name, var).is_some();
    let original = if original == app.config_var && !owned(&original) {
        owned_twin(vars, &app.config_var, owned).unwrap_or(original)
    } else {
        original
    };
    if original == app.config_var || !owned(&original) {
        return Copy::Fresh;
    }
    let (Some(copied), Some(hosted)) = (read(&app.config_var), read(&original)) else {
        return Copy::Fresh;
    };
    let (Ok(ours), Ok(theirs)) = (Server::place_of(copied), Server::place_of(hosted)) else {
        return Copy::Fresh;
    };
    if endpoint.is_some_and(|endpoint| ours == (endpoint.to_string(), REDIS_PORT)) {
        return Copy::Fresh;
    }
    let (var, hosted_var) = (app.config_var.clone(), original);
    if ours != theirs {
        Copy::Moved {
            var,
            hosted: hosted_var,
        }
    } else if vars::with_path(copied, "") != vars::with_path(hosted, "") {
        Copy::Rotated {
            var,
            hosted: hosted_var,
        }
    } else {
        Copy::Fresh
    }
}

/// Returns an add-on's own var that names the same server as the plain var `copied`.
fn owned_twin(vars: &ConfigVars, copied: &str, owned: impl Fn(&str) -> bool) -> Option<String> {
    let at = |value: &Secret| vars::place(value).map(|(host, port, _)| (host, port));
    let place = at(vars.get(copied).ok().flatten()?)?;
    vars.readable()
        .find(|(var, value)| owned(var) && at(value).as_ref() == Some(&place))
        .map(|(var, _)| var.to_string())
}
