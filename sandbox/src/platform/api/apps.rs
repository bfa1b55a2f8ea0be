//! Apps, config vars, features, regions.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::answers::{Answer, read};
use super::{paging, views};
use crate::platform::Server;
use crate::platform::model::Refusal;

const PAGE_SIZE: usize = 200;

pub(super) async fn account() -> Json<Value> {
    Json(views::account())
}

pub(super) async fn regions(headers: HeaderMap) -> Answer {
    paging::list(
        &headers,
        (0..views::REGIONS.len()).map(views::region).collect(),
        PAGE_SIZE,
    )
}

pub(super) async fn region(Path(name): Path<String>) -> Answer<Json<Value>> {
    let mut regions = (0..views::REGIONS.len()).map(views::region);
    let found = regions.find(|region| region["name"] == name.as_str() || region["id"] == name.as_str());
    found.map(Json).ok_or_else(|| Refusal::not_found("region"))
}

pub(super) async fn list(State(server): State<Arc<Server>>, headers: HeaderMap) -> Answer {
    let platform = server.platform();
    let apps = platform.apps.iter().map(views::app).collect();
    paging::list(&headers, apps, platform.shortest_page())
}

pub(super) async fn info(State(server): State<Arc<Server>>, Path(app): Path<String>) -> Answer<Json<Value>> {
    Ok(Json(views::app(server.platform().app(&app)?)))
}

#[derive(Deserialize)]
pub(super) struct AppUpdate {
    maintenance: Option<bool>,
}

pub(super) async fn update(
    State(server): State<Arc<Server>>,
    Path(app): Path<String>,
    body: Bytes,
) -> Answer<Json<Value>> {
    let update: AppUpdate = read(&body)?;
    let mut platform = server.platform();
    let app = platform.app_mut(&app)?;
    app.maintenance = update.maintenance.unwrap_or(app.maintenance);
    app.updated_at = Timestamp::now();
    Ok(Json(views::app(app)))
}

pub(super) async fn config_vars(
    State(server): State<Arc<Server>>,
    Path(app): Path<String>,
) -> Answer<Json<BTreeMap<String, Option<String>>>> {
    let platform = server.platform();
    Ok(Json(platform.shown_vars(platform.app(&app)?)))
}

/// Changes config vars. A release phase makes the answer show the old values, with a warning.
pub(super) async fn patch_config_vars(
    State(server): State<Arc<Server>>,
    Path(app): Path<String>,
    body: Bytes,
) -> Answer {
    let changes: BTreeMap<String, Option<String>> = read(&body)?;
    let (vars, waits) = server.change(|platform, now| {
        let actions = platform.patch_vars(&app, changes, now)?;
        let app = platform.app(&app)?;
        Ok(((platform.shown_vars(app), !app.pending.is_empty()), actions))
    })?;
    let mut response: Response = Json(vars).into_response();
    if waits {
        let warning = "The change takes effect when the release phase has succeeded; these are the old values.";
        response
            .headers_mut()
            .insert("Warning-Message", HeaderValue::from_static(warning));
    }
    Ok(response)
}

pub(super) async fn features(State(server): State<Arc<Server>>, Path(app): Path<String>, headers: HeaderMap) -> Answer {
    let features = vec![views::preboot(server.platform().app(&app)?)];
    paging::list(&headers, features, PAGE_SIZE)
}

pub(super) async fn feature(
    State(server): State<Arc<Server>>,
    Path((app, feature)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    only_preboot(&feature)?;
    Ok(Json(views::preboot(server.platform().app(&app)?)))
}

#[derive(Deserialize)]
pub(super) struct FeatureUpdate {
    enabled: bool,
}

pub(super) async fn patch_feature(
    State(server): State<Arc<Server>>,
    Path((app, feature)): Path<(String, String)>,
    body: Bytes,
) -> Answer<Json<Value>> {
    only_preboot(&feature)?;
    let update: FeatureUpdate = read(&body)?;
    let mut platform = server.platform();
    let app = platform.app_mut(&app)?;
    app.behaviour.preboot = update.enabled;
    Ok(Json(views::preboot(app)))
}

fn only_preboot(feature: &str) -> Answer<()> {
    if feature == "preboot" {
        Ok(())
    } else {
        Err(Refusal::not_found("app feature"))
    }
}
