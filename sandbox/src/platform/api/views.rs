//! How the model's things look in the API.

use serde_json::{Value, json};

use crate::platform::model::{Addon, App, Attachment, Coupling, Dyno, Platform, ProcessType, Release};

/// Regions of the platform, with those of AWS below them.
pub(super) const REGIONS: [(&str, &str, &str, &str); 2] = [
    ("us", "Virginia", "United States", "us-east-1"),
    ("eu", "Dublin", "Ireland", "eu-west-1"),
];

const OWNER: &str = "owner@sandbox.invalid";

fn app_ref(platform: &Platform, app: uuid::Uuid) -> Value {
    let name = platform
        .apps
        .iter()
        .find(|item| item.id == app)
        .map(|item| item.name.as_str());
    json!({"id": app, "name": name})
}

pub(super) fn region(index: usize) -> Value {
    let (name, locale, country, provider) = REGIONS[index];
    json!({
        "id": uuid::Uuid::from_u64_pair(0, index as u64 + 1),
        "name": name, "locale": locale, "country": country, "private_capable": false,
        "description": format!("{locale}, {country}"),
        "provider": {"name": "amazon-web-services", "region": provider},
        "created_at": "2012-01-01T12:00:00Z", "updated_at": "2012-01-01T12:00:00Z",
    })
}

pub(super) fn account() -> Value {
    json!({"id": uuid::Uuid::from_u64_pair(1, 1), "email": OWNER, "name": "Owner", "verified": true})
}

pub(super) fn app(app: &App) -> Value {
    let region_index = REGIONS.iter().position(|region| region.0 == app.region).unwrap_or(0);
    json!({
        "id": app.id, "name": app.name, "maintenance": app.maintenance,
        "region": {"id": uuid::Uuid::from_u64_pair(0, region_index as u64 + 1), "name": app.region},
        "space": app.space.as_deref().map(space_ref), "team": null, "owner": {"id": uuid::Uuid::from_u64_pair(1, 1), "email": OWNER},
        "stack": {"id": uuid::Uuid::from_u64_pair(2, 1), "name": "heroku-24"}, "acm": false, "web_url": null,
        "created_at": app.created_at, "updated_at": app.updated_at, "archived_at": null,
        "released_at": app.current_release().map(|release| release.updated_at),
    })
}

pub(super) fn addon(platform: &Platform, addon: &Addon) -> Value {
    let price = json!({"cents": 1500, "unit": "month", "contract": false});
    let service = addon.plan.split(':').next().unwrap_or(&addon.plan);
    json!({
        "id": addon.id, "name": addon.name, "app": app_ref(platform, addon.owner),
        "addon_service": {"id": uuid::Uuid::from_u64_pair(3, 1), "name": service},
        "plan": {"id": uuid::Uuid::from_u64_pair(3, 2), "name": addon.plan, "price": price}, "billed_price": price,
        "billing_entity": {"id": addon.owner, "name": app_ref(platform, addon.owner)["name"], "type": "app"},
        "config_vars": addon.config_vars, "state": "provisioned", "actions": [], "provider_id": addon.name,
        "web_url": null, "created_at": addon.created_at, "updated_at": addon.updated_at,
    })
}

pub(super) fn attachment(platform: &Platform, attachment: &Attachment) -> Value {
    let addon = platform.addons.iter().find(|addon| addon.id == attachment.addon);
    json!({
        "id": attachment.id, "name": attachment.name, "namespace": null,
        "app": app_ref(platform, attachment.app),
        "addon": addon.map(|addon| json!({
            "id": addon.id, "name": addon.name, "app": app_ref(platform, addon.owner), "plan": {"name": addon.plan},
        })),
        "log_input_url": null, "web_url": null,
        "created_at": attachment.created_at, "updated_at": attachment.updated_at,
    })
}

pub(super) fn formation_line(app: &App, kind: &str, line: &ProcessType) -> Value {
    json!({
        "id": line.id, "app": {"id": app.id, "name": app.name}, "type": kind, "command": line.command.join(" "),
        "quantity": line.quantity, "size": line.size, "dyno_size": {"name": line.size},
        "created_at": line.created_at, "updated_at": line.updated_at,
    })
}

pub(super) fn dyno(platform: &Platform, dyno: &Dyno) -> Value {
    let release = platform
        .apps
        .iter()
        .find(|app| app.id == dyno.app)
        .and_then(|app| app.releases.iter().find(|release| release.version == dyno.release))
        .map(|release| json!({"id": release.id, "version": release.version}));
    // No server listens at this URL.
    let attach_url = dyno
        .one_off
        .filter(|one_off| one_off.attached)
        .map(|_| format!("rendezvous://127.0.0.1:9/{}", dyno.id.simple()));
    json!({
        "id": dyno.id, "app": app_ref(platform, dyno.app), "name": dyno.name, "type": dyno.process_type,
        "command": dyno.shown_command(), "size": dyno.size, "state": dyno.state, "release": release,
        "attach_url": attach_url, "created_at": dyno.timing.created_at, "updated_at": dyno.updated_at,
    })
}

pub(super) fn release(app: &App, release: &Release) -> Value {
    let current = app
        .current_release()
        .is_some_and(|current| current.version == release.version);
    json!({
        "id": release.id, "version": release.version, "app": {"id": app.id, "name": app.name},
        "description": release.description, "status": release.status, "current": current,
        "slug": null, "addon_plan_names": [], "output_stream_url": null,
        "user": {"id": uuid::Uuid::from_u64_pair(1, 1), "email": OWNER},
        "created_at": release.created_at, "updated_at": release.updated_at,
    })
}

pub(super) fn coupling(coupling: &Coupling) -> Value {
    json!({
        "id": coupling.id, "app": {"id": coupling.app}, "stage": coupling.stage,
        "pipeline": {"id": coupling.pipeline, "name": coupling.pipeline_name},
        "created_at": coupling.created_at, "updated_at": coupling.created_at,
    })
}

fn space_ref(name: &str) -> Value {
    json!({"id": uuid::Uuid::from_u64_pair(5, 1), "name": name, "shield": false})
}

pub(super) fn space(name: &str) -> Value {
    let mut view = space_ref(name);
    view["state"] = json!("allocated");
    view["region"] = json!({"name": "virginia"});
    view
}

pub(super) fn nat(sources: &[String]) -> Value {
    json!({
        "sources": sources, "state": "enabled",
        "created_at": "2012-01-01T12:00:00Z", "updated_at": "2012-01-01T12:00:00Z",
    })
}

pub(super) fn preboot(app: &App) -> Value {
    json!({
        "id": uuid::Uuid::from_u64_pair(4, 1), "name": "preboot", "enabled": app.behaviour.preboot, "state": "general",
        "description": "Old web dynos serve on while new ones start.", "doc_url": null,
        "created_at": app.created_at, "updated_at": app.updated_at,
    })
}
