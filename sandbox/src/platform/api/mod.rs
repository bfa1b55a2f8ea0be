//! The API over HTTP: routes, and one file for each kind of thing.

mod addons;
mod admin;
mod answers;
mod apps;
mod dynos;
mod guard;
mod logs;
mod paging;
mod pipelines;
mod releases;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::Server;
use guard::Allowance;

pub(super) fn routes(server: Arc<Server>) -> Router {
    let allowance = Arc::new(Allowance::new(server.options.time_scale));
    let api = Router::new()
        .route("/account", get(apps::account))
        .route("/regions", get(apps::regions))
        .route("/regions/{region}", get(apps::region))
        .route("/apps", get(apps::list))
        .route("/apps/{app}", get(apps::info).patch(apps::update))
        .route(
            "/apps/{app}/config-vars",
            get(apps::config_vars).patch(apps::patch_config_vars),
        )
        .route("/apps/{app}/features", get(apps::features))
        .route(
            "/apps/{app}/features/{feature}",
            get(apps::feature).patch(apps::patch_feature),
        )
        .route("/apps/{app}/addons", get(addons::of_app))
        .route(
            "/apps/{app}/addons/{addon}",
            get(addons::of_app_by_name).delete(addons::destroy),
        )
        .route("/apps/{app}/addon-attachments", get(addons::attachments_of_app))
        .route(
            "/apps/{app}/addon-attachments/{attachment}",
            get(addons::attachment_of_app),
        )
        .route("/addons", get(addons::list))
        .route("/addons/{addon}", get(addons::info))
        .route("/addons/{addon}/config", get(addons::config))
        .route("/addons/{addon}/addon-attachments", get(addons::attachments_of_addon))
        .route("/addon-attachments", get(addons::attachments).post(addons::attach))
        .route(
            "/addon-attachments/{attachment}",
            get(addons::attachment).delete(addons::detach),
        )
        .route("/actions/addons/resolve", post(addons::resolve))
        .route("/actions/addon-attachments/resolve", post(addons::resolve_attachment))
        .route("/apps/{app}/formation", get(dynos::formation).patch(dynos::scale))
        .route(
            "/apps/{app}/formation/{kind}",
            get(dynos::formation_line).patch(dynos::scale_one),
        )
        .route(
            "/apps/{app}/dynos",
            get(dynos::list).post(dynos::run).delete(dynos::restart_all),
        )
        .route("/apps/{app}/dynos/{dyno}", get(dynos::info).delete(dynos::restart))
        .route("/apps/{app}/dynos/{dyno}/actions/stop", post(dynos::restart))
        .route("/apps/{app}/log-sessions", post(logs::open))
        .route("/apps/{app}/pipeline-couplings", get(pipelines::of_app))
        .route("/pipelines/{pipeline}/pipeline-couplings", get(pipelines::of_pipeline))
        .route("/spaces/{space}", get(pipelines::space))
        .route("/spaces/{space}/nat", get(pipelines::nat))
        .route("/apps/{app}/releases", get(releases::list))
        .route("/apps/{app}/releases/{release}", get(releases::info))
        .fallback(guard::no_such_endpoint)
        .layer(from_fn_with_state(Arc::clone(&server), guard::misbehave))
        .layer(from_fn_with_state(Arc::clone(&server), guard::fail_as_planned))
        .layer(from_fn_with_state(Arc::clone(&server), guard::check))
        .layer(from_fn_with_state(allowance, guard::spend))
        .layer(from_fn_with_state(Arc::clone(&server), guard::count));
    let admin = Router::new()
        .route("/_sandbox/apps", post(admin::create_app))
        .route("/_sandbox/apps/{app}/addons", post(admin::provide_addon))
        .route("/_sandbox/apps/{app}/logs/{dyno}", get(logs::of_dyno))
        .route("/_sandbox/addons/{addon}/url", post(admin::rotate))
        .route("/_sandbox/spaces/{space}", post(admin::set_space))
        .route(
            "/_sandbox/apps/{app}/behaviour",
            get(admin::behaviour).post(admin::set_behaviour),
        )
        .route("/_sandbox/failures", post(admin::plan_failures))
        .route("/_sandbox/changes", get(admin::changes))
        .route("/_sandbox/report", get(admin::report))
        .route("/_sandbox/requests", get(admin::requests))
        .layer(axum::middleware::from_fn(guard::only_this_computer));
    // The address of a log session holds its own secret.
    let logs = Router::new().route("/_logs/{secret}", get(logs::read));
    api.merge(admin)
        .merge(logs)
        .layer(from_fn_with_state(Arc::clone(&server), guard::be_gone))
        .layer(axum::middleware::from_fn(guard::identify))
        .with_state(server)
}
