//! Pipelines and Private Spaces.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde_json::Value;

use super::answers::Answer;
use super::{paging, views};
use crate::platform::Server;
use crate::platform::model::Refusal;

type Shared = State<Arc<Server>>;

/// Returns the app's pipeline: an app is in one at most, so this is no list.
pub(super) async fn of_app(State(server): Shared, Path(app): Path<String>) -> Answer<Json<Value>> {
    let platform = server.platform();
    let app = platform.app(&app)?.id;
    let found = platform.couplings.iter().find(|coupling| coupling.app == app);
    let found = found.ok_or_else(|| Refusal::not_found("pipeline coupling"))?;
    Ok(Json(views::coupling(found)))
}

pub(super) async fn of_pipeline(State(server): Shared, Path(pipeline): Path<String>, headers: HeaderMap) -> Answer {
    let platform = server.platform();
    let items = platform.couplings_of(&pipeline)?.into_iter().map(views::coupling);
    paging::list(&headers, items.collect(), platform.shortest_page())
}

pub(super) async fn space(State(server): Shared, Path(space): Path<String>) -> Answer<Json<Value>> {
    let platform = server.platform();
    let found = platform.spaces.get_key_value(&space);
    let (name, _) = found.ok_or_else(|| Refusal::not_found("space"))?;
    Ok(Json(views::space(name)))
}

pub(super) async fn nat(State(server): Shared, Path(space): Path<String>) -> Answer<Json<Value>> {
    let platform = server.platform();
    let sources = platform.spaces.get(&space);
    Ok(Json(views::nat(sources.ok_or_else(|| Refusal::not_found("space"))?)))
}
