//! The sandbox's own paths: to make apps and add-ons, to set knobs, and to report what happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answers::{Answer, read};
use super::views;
use crate::platform::Server;
use crate::platform::failures::{Change, Planned};
use crate::platform::listener::{Outage, OutageForm};
use crate::platform::model::{Behaviour, Refusal, Stage};

type Shared = State<Arc<Server>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewApp {
    name: String,
    region: String,
    #[serde(default)]
    formation: BTreeMap<String, NewProcessType>,
    #[serde(default)]
    config: BTreeMap<String, String>,
    /// The Private Space that the app is in.
    space: Option<String>,
    pipeline: Option<InPipeline>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InPipeline {
    name: String,
    stage: Stage,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewProcessType {
    command: Vec<String>,
    #[serde(default)]
    quantity: u32,
}

pub(super) async fn create_app(State(server): Shared, body: Bytes) -> Answer<(StatusCode, Json<Value>)> {
    let NewApp {
        name,
        region,
        formation,
        config,
        space,
        pipeline,
    } = read(&body)?;
    if !views::REGIONS.iter().any(|known| known.0 == region) {
        return Err(Refusal::invalid(format!("There is no region {region:?}")));
    }
    let formation = formation
        .into_iter()
        .map(|(kind, line)| (kind, (line.command, line.quantity)))
        .collect();
    let view = server.change(|platform, now| {
        let (_, actions) = platform.create_app(&name, &region, formation, config, now)?;
        if let Some(space) = space {
            platform.place_in_space(&name, &space)?;
        }
        if let Some(pipeline) = pipeline {
            platform.couple(&name, &pipeline.name, pipeline.stage, now)?;
        }
        Ok((views::app(platform.app(&name)?), actions))
    })?;
    Ok((StatusCode::CREATED, Json(view)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAddon {
    name: String,
    plan: String,
    /// The value of `NAME_URL`; an add-on may have none and give only `values`.
    url: Option<String>,
    attachment: String,
    /// Further values, by the variable's name after the attachment's: `TLS_URL`.
    #[serde(default)]
    values: BTreeMap<String, String>,
}

pub(super) async fn provide_addon(
    State(server): Shared,
    Path(app): Path<String>,
    body: Bytes,
) -> Answer<(StatusCode, Json<Value>)> {
    let NewAddon {
        name,
        plan,
        url,
        attachment,
        mut values,
    } = read(&body)?;
    values.extend(url.map(|url| ("URL".to_owned(), url)));
    let view = server.change(|platform, now| {
        let actions = platform.provide_addon(&app, &name, &plan, values, &attachment, now)?;
        Ok((views::addon(platform, platform.addon(&name)?), actions))
    })?;
    Ok((StatusCode::CREATED, Json(view)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCredentials {
    url: Option<String>,
    /// Further values that change, by the variable's name after the attachment's.
    #[serde(default)]
    values: BTreeMap<String, String>,
}

/// Rotates an add-on's credentials, as far as the platform takes part in that.
pub(super) async fn rotate(State(server): Shared, Path(addon): Path<String>, body: Bytes) -> Answer<Json<Value>> {
    let NewCredentials { url, mut values } = read(&body)?;
    values.extend(url.map(|url| ("URL".to_owned(), url)));
    let view = server.change(|platform, now| {
        let actions = platform.rotate(&addon, values, now)?;
        Ok((views::addon(platform, platform.addon(&addon)?), actions))
    })?;
    Ok(Json(view))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpaceSources {
    sources: Vec<String>,
}

/// Sets the addresses that a Private Space's dynos are said to come from.
pub(super) async fn set_space(State(server): Shared, Path(space): Path<String>, body: Bytes) -> Answer<Json<Value>> {
    let SpaceSources { sources } = read(&body)?;
    let view = views::nat(&sources);
    server.platform().spaces.insert(space, sources);
    Ok(Json(view))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewOutage {
    seconds: f64,
    #[serde(default)]
    form: OutageForm,
}

fn begin_outage(server: &Server, wanted: Value) -> Answer<()> {
    let NewOutage { seconds, form } = serde_json::from_value(wanted)
        .map_err(|error| Refusal::bad_request(format!("That outage is not known: {error}")))?;
    let until = Instant::now() + server.scaled(seconds);
    server.outage.send_replace(Some(Outage { until, form }));
    Ok(())
}

pub(super) async fn behaviour(State(server): Shared, Path(app): Path<String>) -> Answer<Json<Behaviour>> {
    Ok(Json(server.platform().app(&app)?.behaviour.clone()))
}

/// Sets the knobs that the body names. An `outage` is of the whole platform, and begins at once.
pub(super) async fn set_behaviour(
    State(server): Shared,
    Path(app): Path<String>,
    body: Bytes,
) -> Answer<Json<Behaviour>> {
    let mut changes: BTreeMap<String, Value> = read(&body)?;
    let outage = changes.remove("outage");
    let mut platform = server.platform();
    let app = platform.app_mut(&app)?;
    let mut merged = json!(app.behaviour);
    for (name, value) in changes {
        merged[name] = value;
    }
    let behaviour: Behaviour = serde_json::from_value(merged)
        .map_err(|error| Refusal::bad_request(format!("That behaviour is not known: {error}")))?;
    app.behaviour = behaviour;
    if let Some(outage) = outage {
        begin_outage(&server, outage)?;
    }
    Ok(Json(app.behaviour.clone()))
}

/// Replaces the plan of failures for the whole platform, and forgets the log of changes.
pub(super) async fn plan_failures(State(server): Shared, body: Bytes) -> Answer<Json<Vec<Planned>>> {
    let plan: Vec<Planned> = read(&body)?;
    server.failures().plan(plan.clone());
    Ok(Json(plan))
}

/// Lists every change that was asked for since the plan was set, in order.
pub(super) async fn changes(State(server): Shared) -> Json<Vec<Change>> {
    Json(server.failures().changes.clone())
}

pub(super) async fn requests(State(server): Shared) -> Json<BTreeMap<String, u64>> {
    Json(server.requests().clone())
}

pub(super) async fn report(State(server): Shared) -> Json<Value> {
    let platform = server.platform();
    let apps: Vec<Value> = platform
        .apps
        .iter()
        .map(|app| {
            let releases: Vec<Value> = app
                .releases
                .iter()
                .map(|release| views::release(app, release))
                .collect();
            let processes: Vec<Value> = platform
                .dynos
                .iter()
                .filter(|dyno| dyno.app == app.id)
                .map(|dyno| {
                    json!({
                        "name": dyno.name, "id": dyno.id, "release": dyno.release, "state": dyno.state,
                        "pid": dyno.pid, "crashes": dyno.crashes, "timing": dyno.timing,
                    })
                })
                .collect();
            json!({
                "name": app.name, "maintenance": app.maintenance, "behaviour": app.behaviour,
                "releases": releases, "processes": processes,
            })
        })
        .collect();
    Json(json!({"schema_version": 1, "time_scale": server.options.time_scale, "apps": apps}))
}
