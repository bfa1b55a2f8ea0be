//! Releases.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde_json::Value;

use super::answers::Answer;
use super::{paging, views};
use crate::platform::Server;
use crate::platform::model::Refusal;

pub(super) async fn list(State(server): State<Arc<Server>>, Path(app): Path<String>, headers: HeaderMap) -> Answer {
    let platform = server.platform();
    let app = platform.app(&app)?;
    let releases = app
        .releases
        .iter()
        .map(|release| views::release(app, release))
        .collect();
    paging::list(&headers, releases, app.behaviour.page_size)
}

/// Returns a release by id or version, with or without a v.
pub(super) async fn info(
    State(server): State<Arc<Server>>,
    Path((app, wanted)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    let platform = server.platform();
    let app = platform.app(&app)?;
    let version = wanted.trim_start_matches('v').parse::<u64>().ok();
    let found = app
        .releases
        .iter()
        .find(|item| item.id.to_string() == wanted || Some(item.version) == version);
    let found = found.ok_or_else(|| Refusal::not_found("release"))?;
    Ok(Json(views::release(app, found)))
}
