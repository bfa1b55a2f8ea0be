//! Formation and dynos.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answers::{Answer, read};
use super::{paging, views};
use crate::platform::Server;
use crate::platform::model::{OneOffRequest, Platform, Refusal};

type Shared = State<Arc<Server>>;
type Pair = Path<(String, String)>;

fn lines(platform: &Platform, app: &str) -> Answer<Vec<Value>> {
    let app = platform.app(app)?;
    Ok(app
        .formation
        .iter()
        .map(|(kind, line)| views::formation_line(app, kind, line))
        .collect())
}

pub(super) async fn formation(State(server): Shared, Path(app): Path<String>, headers: HeaderMap) -> Answer {
    let platform = server.platform();
    paging::list(
        &headers,
        lines(&platform, &app)?,
        platform.app(&app)?.behaviour.page_size,
    )
}

pub(super) async fn formation_line(State(server): Shared, Path((app, kind)): Pair) -> Answer<Json<Value>> {
    let lines = lines(&server.platform(), &app)?;
    let found = lines
        .into_iter()
        .find(|line| line["type"] == kind.as_str() || line["id"] == kind.as_str());
    found.map(Json).ok_or_else(|| Refusal::not_found("process type"))
}

/// A number, or a number as text, as Heroku's own command line sends it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Quantity {
    Number(u32),
    Text(String),
}

#[derive(Deserialize)]
struct LineUpdate {
    #[serde(rename = "type", alias = "process")]
    kind: Option<String>,
    quantity: Option<Quantity>,
    size: Option<String>,
}

#[derive(Deserialize)]
struct FormationUpdate {
    updates: Vec<LineUpdate>,
}

type Update = (String, Option<u32>, Option<String>);

fn update(line: LineUpdate, kind: Option<String>) -> Answer<Update> {
    let kind = kind
        .or(line.kind)
        .ok_or_else(|| Refusal::invalid("An update names no process type"))?;
    let quantity = match line.quantity {
        None => None,
        Some(Quantity::Number(number)) => Some(number),
        Some(Quantity::Text(text)) => Some(
            text.parse()
                .map_err(|_| Refusal::invalid(format!("Quantity {text:?} is no number")))?,
        ),
    };
    Ok((kind, quantity, line.size))
}

fn scale_by(server: &Arc<Server>, app: &str, updates: &[Update]) -> Answer<Vec<Value>> {
    server.change(|platform, now| {
        let actions = platform.scale(app, updates, now)?;
        Ok((lines(platform, app)?, actions))
    })
}

pub(super) async fn scale(State(server): Shared, Path(app): Path<String>, body: Bytes) -> Answer<Json<Value>> {
    let request: FormationUpdate = read(&body)?;
    let updates = request
        .updates
        .into_iter()
        .map(|line| update(line, None))
        .collect::<Answer<Vec<Update>>>()?;
    let mut lines = scale_by(&server, &app, &updates)?;
    lines.retain(|line| updates.iter().any(|update| line["type"] == update.0.as_str()));
    Ok(Json(Value::Array(lines)))
}

pub(super) async fn scale_one(State(server): Shared, Path((app, kind)): Pair, body: Bytes) -> Answer<Json<Value>> {
    let update = update(read(&body)?, Some(kind.clone()))?;
    let lines = scale_by(&server, &app, &[update])?;
    let found = lines.into_iter().find(|line| line["type"] == kind.as_str());
    found.map(Json).ok_or_else(|| Refusal::not_found("process type"))
}

pub(super) async fn list(State(server): Shared, Path(app): Path<String>, headers: HeaderMap) -> Answer {
    let platform = server.platform();
    let app = platform.app(&app)?;
    let dynos = platform
        .listed_dynos(app.id)
        .into_iter()
        .map(|dyno| views::dyno(&platform, dyno))
        .collect();
    paging::list(&headers, dynos, app.behaviour.page_size)
}

pub(super) async fn info(State(server): Shared, Path((app, name)): Pair) -> Answer<Json<Value>> {
    let platform = server.platform();
    let dynos = platform.listed_dynos(platform.app(&app)?.id);
    let found = dynos.into_iter().find(|dyno| dyno.is(&name));
    let found = found.ok_or_else(|| Refusal::not_found("dyno"))?;
    Ok(Json(views::dyno(&platform, found)))
}

#[derive(Deserialize)]
struct OneOff {
    command: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    attach: bool,
    time_to_live: Option<f64>,
}

pub(super) async fn run(
    State(server): Shared,
    Path(app): Path<String>,
    body: Bytes,
) -> Answer<(StatusCode, Json<Value>)> {
    let request: OneOff = read(&body)?;
    let request = OneOffRequest {
        command: request.command,
        environment: request.env,
        kind: request.kind,
        attached: request.attach,
        time_to_live: request.time_to_live,
    };
    let view = server.change(|platform, now| {
        let (id, actions) = platform.run_one_off(&app, request, now)?;
        let dyno = platform.dynos.iter().find(|dyno| dyno.id == id);
        Ok((dyno.map(|dyno| views::dyno(platform, dyno)), actions))
    })?;
    Ok((StatusCode::CREATED, Json(json!(view))))
}

pub(super) async fn restart_all(State(server): Shared, Path(app): Path<String>) -> Answer<(StatusCode, Json<Value>)> {
    server.change(|platform, now| {
        let app = platform.app(&app)?.id;
        Ok(((), platform.restart_all(app, now)))
    })?;
    Ok((StatusCode::ACCEPTED, Json(json!({}))))
}

pub(super) async fn restart(State(server): Shared, Path((app, name)): Pair) -> Answer<(StatusCode, Json<Value>)> {
    server.change(|platform, now| {
        let app = platform.app(&app)?.id;
        Ok(((), platform.restart_one(app, &name, now)?))
    })?;
    Ok((StatusCode::ACCEPTED, Json(json!({}))))
}
