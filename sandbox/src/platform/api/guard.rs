//! Every request passes these before its handler: an id, the allowance, the checks of headers, and
//! the planned failures.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;

use super::answers::Answer;
use crate::platform::Server;
use crate::platform::failures::{Change, Fate};
use crate::platform::listener::{Outage, OutageForm, Peer};
use crate::platform::model::Refusal;

/// Tokens of an account, and how many come back a second.
const ALLOWANCE: f64 = 4500.0;
const REFILL_PER_SECOND: f64 = 75.0 / 60.0;

/// How many requests are left.
pub(super) struct Allowance {
    state: Mutex<(f64, Instant)>,
    refill_per_second: f64,
}

impl Allowance {
    /// Tokens come back as much more quickly as the platform's time passes.
    pub fn new(time_scale: f64) -> Self {
        Self {
            state: Mutex::new((ALLOWANCE, Instant::now())),
            refill_per_second: REFILL_PER_SECOND / time_scale.max(1e-6),
        }
    }

    /// Takes a token. Returns how many are left; `None` if there was none.
    fn take(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let left = (state.0 + now.duration_since(state.1).as_secs_f64() * self.refill_per_second).min(ALLOWANCE);
        let taken = if left >= 1.0 { left - 1.0 } else { left };
        *state = (taken, now);
        (left >= 1.0).then_some(taken as u64)
    }
}

pub(super) async fn identify(request: Request, next: Next) -> Response {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let id = uuid::Uuid::from_u64_pair(u64::from(std::process::id()), REQUESTS.fetch_add(1, Ordering::Relaxed));
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert("Request-Id", value);
    }
    response
}

pub(super) async fn count(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let asked = format!("{} {}", request.method(), request.uri().path());
    *server.requests().entry(asked).or_default() += 1;
    next.run(request).await
}

pub(super) async fn spend(State(allowance): State<Arc<Allowance>>, request: Request, next: Next) -> Response {
    let left = allowance.take();
    let mut response = match left {
        Some(_) => next.run(request).await,
        None => Refusal::new(
            429,
            "rate_limit",
            "Your account reached the API limit. Please wait a few minutes.",
        )
        .into_response(),
    };
    response
        .headers_mut()
        .insert("RateLimit-Remaining", HeaderValue::from(left.unwrap_or(0)));
    response
}

pub(super) async fn check(State(server): State<Arc<Server>>, request: Request, next: Next) -> Answer {
    if !accepts_version_3(request.headers()) {
        return Err(no_such_endpoint().await);
    }
    if !is_authorized(request.headers(), &server.options.api_key) {
        return Err(Refusal::new(401, "unauthorized", "Invalid credentials provided."));
    }
    Ok(next.run(request).await)
}

fn accepts_version_3(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    accept.contains("application/vnd.heroku+json") && accept.replace(' ', "").contains("version=3")
}

/// Returns whether the key is there: as Bearer, or as the password of Basic with any name.
fn is_authorized(headers: &HeaderMap, api_key: &str) -> bool {
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    match value.split_once(' ') {
        Some(("Bearer", key)) => key == api_key,
        Some(("Basic", encoded)) => base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .ok()
            .and_then(|pair| String::from_utf8(pair).ok())
            .is_some_and(|pair| pair.split_once(':').is_some_and(|(_, key)| key == api_key)),
        _ => false,
    }
}

pub(super) async fn no_such_endpoint() -> Refusal {
    Refusal::new(
        404,
        "not_found",
        "There is no such endpoint. Check the method, the path and the Accept header.",
    )
}

/// Returns the platform's error id for a status, if the test asks for no other.
fn usual_id(status: u16) -> &'static str {
    match status {
        400 => "bad_request",
        401 => "unauthorized",
        402 => "delinquent",
        403 => "forbidden",
        404 => "not_found",
        409 => "conflict",
        422 => "invalid_params",
        423 => "confirmation_required",
        429 => "rate_limit",
        503 => "service_unavailable",
        _ => "internal_server_error",
    }
}

/// The failure that the app's knobs plan for a request.
enum Mishap {
    None,
    Fails(Refusal),
    /// The request is carried out, and its answer is lost.
    Cut(uuid::Uuid),
}

/// Fails before, or disconnects after, as often as the app's knobs say. A request without an app in
/// its path counts for any app that has failures left.
pub(super) async fn misbehave(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let peer = request
        .extensions()
        .get::<ConnectInfo<Peer>>()
        .map(|info| info.0.clone());
    let mishap = mishap(&server, request.method(), request.uri().path());
    let app = match mishap {
        Mishap::Fails(refusal) => return refusal.into_response(),
        Mishap::None => return next.run(request).await,
        Mishap::Cut(app) => app,
    };
    let response = next.run(request).await;
    // Only a success counts: a refusal is answered.
    if response.status().is_success() {
        let mut platform = server.platform();
        if let Ok(app) = platform.app_mut(&app.to_string()) {
            app.behaviour.drop_after_commit = app.behaviour.drop_after_commit.saturating_sub(1);
        }
        if let Some(peer) = peer {
            peer.disconnect();
        }
    }
    response
}

fn mishap(server: &Server, method: &Method, path: &str) -> Mishap {
    let changing = !matches!(*method, Method::GET | Method::HEAD);
    let named = path.strip_prefix("/apps/").and_then(|rest| rest.split('/').next());
    let mut platform = server.platform();
    let concerned = platform
        .apps
        .iter_mut()
        .filter(|app| named.is_none_or(|name| app.name == name || app.id.to_string() == name));
    for app in concerned {
        let failures = &mut app.behaviour.api_failures;
        if failures.meet(method.as_str(), path) {
            let id = failures.id.as_deref().unwrap_or_else(|| usual_id(failures.status));
            let message = "This request fails because it was asked to.";
            return Mishap::Fails(Refusal::new(failures.status, id, message));
        }
        if changing && app.behaviour.drop_after_commit > 0 {
            return Mishap::Cut(app.id);
        }
    }
    Mishap::None
}

/// Fails as the plan for the whole platform says, and logs every change that was asked for.
pub(super) async fn fail_as_planned(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let changing = !matches!(*request.method(), Method::GET | Method::HEAD);
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let refusal = |status| Refusal::new(status, usual_id(status), "This request fails because it was asked to.");
    let fate = server.failures().fate(changing);
    let response = match fate {
        Fate::Passes => next.run(request).await,
        Fate::Fails(status) => refusal(status).into_response(),
        Fate::FailsAfterwards(status) => {
            drop(next.run(request).await);
            refusal(status).into_response()
        }
    };
    if changing {
        server.failures().changes.push(Change {
            method,
            path,
            status: response.status().as_u16(),
            at: Instant::now(),
        });
    }
    response
}

/// Gives no answer during an outage, or the same one to everybody.
pub(super) async fn be_gone(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let outage = server.outage.borrow().filter(Outage::is_on);
    let unavailable = || Refusal::new(503, "service_unavailable", "The platform is not available.").into_response();
    match outage.map(|outage| outage.form) {
        None => next.run(request).await,
        Some(OutageForm::Unavailable) if request.uri().path().starts_with("/_sandbox/") => next.run(request).await,
        Some(OutageForm::Unavailable) => unavailable(),
        Some(OutageForm::Refused) => {
            if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<Peer>>() {
                peer.disconnect();
            }
            unavailable()
        }
    }
}

/// Keeps the sandbox's own paths from its machines: they are for this computer alone.
pub(super) async fn only_this_computer(request: Request, next: Next) -> Answer {
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<Peer>>() else {
        return Err(no_such_endpoint().await);
    };
    let from: IpAddr = peer.address.ip();
    if !from.is_loopback() && peer.local.is_none_or(|local| local.ip() != from) {
        return Err(no_such_endpoint().await);
    }
    Ok(next.run(request).await)
}
