//! Each machine's metadata service: version 2 only, on 169.254.169.254 in the machine's namespace.
//!
//! Every request but the one for a token needs a valid token. `tree` decides the answers, without
//! effects. Only role credentials are asked of the AWS part each time.

mod tokens;
mod tree;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant as Moment};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::aws::{Hypervisor, Instance};
use crate::network::Namespace;
use tokens::Tokens;

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const STOP_WITHIN: Duration = Duration::from_millis(300);

/// A running service; its listener lives in the machine's namespace.
pub struct Server {
    instance: Arc<RwLock<Instance>>,
    end: CancellationToken,
    task: JoinHandle<()>,
}

struct Service {
    instance: Arc<RwLock<Instance>>,
    launched: jiff::Timestamp,
    hypervisor: Hypervisor,
    tokens: Mutex<Tokens>,
}

/// Starts the service for one machine.
pub async fn serve(namespace: &Namespace, instance: Instance, hypervisor: Hypervisor) -> Result<Server> {
    let listener = namespace
        .listen(ADDRESS)
        .await
        .context("open the machine's metadata service")?;
    serve_on(listener, instance, hypervisor)
}

/// Starts the service on a listener that is open already, such as on loopback.
pub fn serve_on(listener: std::net::TcpListener, instance: Instance, hypervisor: Hypervisor) -> Result<Server> {
    let listener = tokio::net::TcpListener::from_std(listener).context("open the machine's metadata service")?;
    let instance = Arc::new(RwLock::new(instance));
    let service = Arc::new(Service {
        instance: Arc::clone(&instance),
        launched: jiff::Timestamp::now(),
        hypervisor,
        tokens: Mutex::new(Tokens::default()),
    });
    let router = Router::new().fallback(answer).with_state(service);
    let end = CancellationToken::new();
    let ended = end.clone();
    let task = tokio::spawn(async move {
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(ended.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!("metadata service: {error}");
        }
    });
    Ok(Server { instance, end, task })
}

impl Server {
    /// Makes later answers describe the instance as it is here.
    pub fn update(&self, instance: Instance) {
        *self.instance.write().unwrap_or_else(PoisonError::into_inner) = instance;
    }

    /// Ends the service. Its namespace can be removed then.
    pub async fn stop(self) {
        self.end.cancel();
        let aborted = self.task.abort_handle();
        if tokio::time::timeout(STOP_WITHIN, self.task).await.is_err() {
            aborted.abort();
        }
    }
}

async fn answer(State(service): State<Arc<Service>>, request: Request) -> Response {
    let path = request.uri().path();
    if path == "/latest/api/token" {
        return service.token(request.method(), request.headers());
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    if !service.admits(request.headers()) {
        return (StatusCode::UNAUTHORIZED, "Unauthorized").into_response();
    }
    let instance = service.instance.read().unwrap_or_else(PoisonError::into_inner).clone();
    match tree::lookup(path, &instance, service.launched) {
        tree::Answer::Text(text) => plain(text),
        tree::Answer::Bytes(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        tree::Answer::RoleCredentials => match service.hypervisor.role_credentials(&instance.id).await {
            Ok(document) => plain(document),
            Err(error) => {
                tracing::error!("{}: {error:#}", instance.id);
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        },
        tree::Answer::NotFound => (StatusCode::NOT_FOUND, "Not Found").into_response(),
    }
}

fn plain(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain")], text).into_response()
}

impl Service {
    fn token(&self, method: &Method, headers: &HeaderMap) -> Response {
        if method != Method::PUT {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        // A request that came through a proxy must not get a token: that is what version 2 is for.
        if headers.contains_key("x-forwarded-for") {
            return StatusCode::FORBIDDEN.into_response();
        }
        let asked = headers
            .get(TTL_HEADER)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let Some(seconds) = asked.filter(|seconds| (1..=21_600).contains(seconds)) else {
            return (StatusCode::BAD_REQUEST, "Bad Request").into_response();
        };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        match tokens.issue(Duration::from_secs(seconds), Moment::now()) {
            Ok(token) => ([(TTL_HEADER, seconds.to_string())], token).into_response(),
            Err(error) => {
                tracing::error!("make a metadata token: {error:#}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = headers.get(TOKEN_HEADER).and_then(|value| value.to_str().ok()) else {
            return false;
        };
        self.tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_valid(token, Moment::now())
    }
}
