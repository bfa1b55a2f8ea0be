//! Add-ons and their attachments.

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
use crate::platform::model::{AttachRequest, Refusal};

type Shared = State<Arc<Server>>;
type Pair = Path<(String, String)>;

/// Lists the add-ons that the app pays for, and those of others that are attached to it.
pub(super) async fn of_app(State(server): Shared, Path(app): Path<String>, headers: HeaderMap) -> Answer {
    let platform = server.platform();
    let app = platform.app(&app)?;
    let attached: Vec<_> = platform
        .attachments_of_app(app.id)
        .iter()
        .map(|item| item.addon)
        .collect();
    let addons = platform
        .addons
        .iter()
        .filter(|addon| addon.owner == app.id || attached.contains(&addon.id));
    paging::list(
        &headers,
        addons.map(|addon| views::addon(&platform, addon)).collect(),
        app.behaviour.page_size,
    )
}

/// Lists the add-ons of all apps.
pub(super) async fn list(State(server): Shared, headers: HeaderMap) -> Answer {
    let platform = server.platform();
    let addons = platform.addons.iter().map(|addon| views::addon(&platform, addon));
    paging::list(&headers, addons.collect(), platform.shortest_page())
}

/// Lists the attachments of all apps.
pub(super) async fn attachments(State(server): Shared, headers: HeaderMap) -> Answer {
    let platform = server.platform();
    let listed = platform.attachments.iter().filter(|item| item.state.is_listed());
    let items = listed.map(|item| views::attachment(&platform, item));
    paging::list(&headers, items.collect(), platform.shortest_page())
}

pub(super) async fn of_app_by_name(State(server): Shared, Path((app, addon)): Pair) -> Answer<Json<Value>> {
    let platform = server.platform();
    platform.app(&app)?;
    Ok(Json(views::addon(&platform, platform.addon(&addon)?)))
}

pub(super) async fn info(State(server): Shared, Path(addon): Path<String>) -> Answer<Json<Value>> {
    let platform = server.platform();
    Ok(Json(views::addon(&platform, platform.addon(&addon)?)))
}

/// Returns the add-on's own values, under the names that they had at first.
pub(super) async fn config(State(server): Shared, Path(addon): Path<String>) -> Answer<Json<Value>> {
    let platform = server.platform();
    let addon = platform.addon(&addon)?;
    let values = addon.config_vars.iter().zip(addon.values.values());
    Ok(Json(
        values
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect(),
    ))
}

pub(super) async fn attachments_of_app(State(server): Shared, Path(app): Path<String>, headers: HeaderMap) -> Answer {
    let platform = server.platform();
    let app = platform.app(&app)?;
    let items = platform
        .attachments_of_app(app.id)
        .into_iter()
        .map(|item| views::attachment(&platform, item));
    paging::list(&headers, items.collect(), app.behaviour.page_size)
}

pub(super) async fn attachment_of_app(State(server): Shared, Path((app, name)): Pair) -> Answer<Json<Value>> {
    let platform = server.platform();
    let items = platform.attachments_of_app(platform.app(&app)?.id);
    let found = items.into_iter().find(|item| item.is(&name));
    let found = found.ok_or_else(|| Refusal::not_found("attachment"))?;
    Ok(Json(views::attachment(&platform, found)))
}

pub(super) async fn attachments_of_addon(
    State(server): Shared,
    Path(addon): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let platform = server.platform();
    let addon = platform.addon(&addon)?;
    let page_size = platform.app(&addon.owner.to_string())?.behaviour.page_size;
    let items = platform
        .attachments_of_addon(addon.id)
        .into_iter()
        .map(|item| views::attachment(&platform, item));
    paging::list(&headers, items.collect(), page_size)
}

pub(super) async fn attachment(State(server): Shared, Path(id): Path<String>) -> Answer<Json<Value>> {
    let platform = server.platform();
    Ok(Json(views::attachment(&platform, platform.attachment(&id)?)))
}

/// A name or id, bare or in an object: the platform's own command line sends objects.
#[derive(Deserialize)]
#[serde(untagged)]
enum Reference {
    Bare(String),
    Named { name: String },
    Identified { id: String },
}

impl Reference {
    fn text(self) -> String {
        match self {
            Self::Bare(text) | Self::Named { name: text } | Self::Identified { id: text } => text,
        }
    }
}

#[derive(Deserialize)]
struct NewAttachment {
    addon: Reference,
    app: Reference,
    name: Option<String>,
    confirm: Option<String>,
}

pub(super) async fn attach(State(server): Shared, body: Bytes) -> Answer<(StatusCode, Json<Value>)> {
    let NewAttachment {
        addon,
        app,
        name,
        confirm,
    } = read(&body)?;
    let request = AttachRequest {
        addon: addon.text(),
        app: app.text(),
        name,
        confirm,
    };
    let view = server.change(|platform, now| {
        let (id, actions) = platform.attach(request, now)?;
        Ok((
            views::attachment(platform, platform.attachment(&id.to_string())?),
            actions,
        ))
    })?;
    Ok((StatusCode::CREATED, Json(view)))
}

pub(super) async fn detach(State(server): Shared, Path(id): Path<String>) -> Answer<Json<Value>> {
    let view = server.change(|platform, now| {
        let view = views::attachment(platform, platform.attachment(&id)?);
        Ok((view, platform.detach(&id, now)?))
    })?;
    Ok(Json(view))
}

pub(super) async fn destroy(State(server): Shared, Path((app, addon)): Pair) -> Answer<Json<Value>> {
    let view = server.change(|platform, now| {
        let view = views::addon(platform, platform.addon(&addon)?);
        Ok((view, platform.destroy_addon(&app, &addon, now)?))
    })?;
    Ok(Json(view))
}

#[derive(Deserialize)]
struct ToResolve {
    app: Option<String>,
    addon: Option<String>,
    addon_attachment: Option<String>,
}

/// Returns the add-ons that a word could mean, by their names or their attachments' names.
pub(super) async fn resolve(State(server): Shared, body: Bytes) -> Answer<Json<Value>> {
    let request: ToResolve = read(&body)?;
    let wanted = request.addon.unwrap_or_default();
    let platform = server.platform();
    let app = request.app.map(|app| platform.app(&app)).transpose()?;
    let found = platform.addons.iter().filter(|addon| {
        let attachments = platform.attachments_of_addon(addon.id);
        let mut here = attachments
            .iter()
            .filter(|item| app.is_none_or(|app| item.app == app.id));
        addon.is(&wanted) || here.any(|item| item.name == wanted)
    });
    some(found.map(|addon| views::addon(&platform, addon)), "add-on")
}

pub(super) async fn resolve_attachment(State(server): Shared, body: Bytes) -> Answer<Json<Value>> {
    let request: ToResolve = read(&body)?;
    let wanted = request.addon_attachment.unwrap_or_default();
    let platform = server.platform();
    let app = request.app.map(|app| platform.app(&app)).transpose()?;
    let listed = platform.attachments.iter().filter(|item| item.state.is_listed());
    let here = listed.filter(|item| app.is_none_or(|app| item.app == app.id));
    let found = here.filter(|item| {
        let addon = platform.addons.iter().find(|addon| addon.id == item.addon);
        item.is(&wanted) || addon.is_some_and(|addon| addon.name == wanted)
    });
    some(found.map(|item| views::attachment(&platform, item)), "attachment")
}

fn some(found: impl Iterator<Item = Value>, thing: &str) -> Answer<Json<Value>> {
    let found: Vec<Value> = found.collect();
    if found.is_empty() {
        return Err(Refusal::not_found(thing));
    }
    Ok(Json(Value::Array(found)))
}
