//! The platform that the app runs on: the part of the Heroku Platform API that a move of a Redis
//! meets, and the app's processes.
//! `model` decides what an API call means, without clock, network or process. `runner` makes the
//! dynos real. `api` translates between HTTP and the two. There is no router for requests.

mod api;
pub mod failures;
mod listener;
mod logs;
pub mod model;
mod runner;
mod schedule;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use listener::{Outage, SeverableListener};
use logs::Sessions;
use model::{Action, Platform, Refusal};
use runner::Runner;

/// How the platform is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The same API on each of them.
    pub listen: Vec<SocketAddr>,
    /// The key that `Authorization: Bearer` must carry.
    pub api_key: String,
    /// Logs go to `logs/<app>`, ledgers to `ledger/<app>` in it.
    pub state_dir: PathBuf,
    /// Factor on the platform's own delays; 1 is as slow as the original.
    pub time_scale: f64,
}

/// The state that every request works on.
pub(crate) struct Server {
    pub options: Options,
    pub platform: Mutex<Platform>,
    pub runner: Runner,
    pub log_sessions: Sessions,
    pub outage: watch::Sender<Option<Outage>>,
    pub failures: Mutex<failures::Failures>,
    /// How often each method and path was asked for.
    pub requests: Mutex<BTreeMap<String, u64>>,
}

impl Server {
    pub fn platform(&self) -> MutexGuard<'_, Platform> {
        self.platform.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn failures(&self) -> MutexGuard<'_, failures::Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn requests(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the platform knows, and then does what follows from that.
    pub fn change<T>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Platform, Timestamp) -> Result<(T, Vec<Action>), Refusal>,
    ) -> Result<T, Refusal> {
        let (value, actions) = change(&mut self.platform(), Timestamp::now())?;
        self.runner.perform(self, actions);
        Ok(value)
    }

    /// Returns a delay of the original platform, scaled.
    pub fn scaled(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64((seconds * self.options.time_scale).max(0.0))
    }
}

/// Serves until `shutdown`, then ends all dynos and returns when they are gone.
pub async fn serve(options: Options, shutdown: CancellationToken) -> Result<()> {
    ensure!(
        options.time_scale.is_finite() && options.time_scale >= 0.0,
        "start the app platform: the time scale must be a number of 0 or more, not {}",
        options.time_scale
    );
    let outage = watch::Sender::new(None);
    let mut listeners = Vec::new();
    for address in &options.listen {
        let listener = SeverableListener::bind(*address, outage.subscribe());
        listeners.push(listener.with_context(|| format!("start the app platform: listen on {address}"))?);
    }
    let seed = format!("{} {}", Timestamp::now(), std::process::id());
    let server = Arc::new(Server {
        runner: Runner::new()?,
        platform: Mutex::new(Platform::new(&seed)),
        log_sessions: Sessions::default(),
        outage,
        failures: Mutex::default(),
        requests: Mutex::default(),
        options,
    });
    server.runner.attend(schedule::follow(Arc::clone(&server)));
    let routes = api::routes(Arc::clone(&server));
    let mut serving = JoinSet::new();
    for listener in listeners {
        let service = routes.clone().into_make_service_with_connect_info::<listener::Peer>();
        let stop = shutdown.clone();
        serving.spawn(async move {
            let serve = axum::serve(listener, service);
            tokio::select! {
                result = serve => result,
                () = stop.cancelled() => Ok(()),
            }
        });
    }
    let mut outcome = Ok(());
    tokio::select! {
        () = shutdown.cancelled() => {}
        Some(ended) = serving.join_next() => {
            outcome = match ended {
                Ok(result) => result.context("serve the app platform"),
                Err(error) => Err(error).context("serve the app platform"),
            };
        }
    }
    serving.shutdown().await;
    server.runner.end_everything().await;
    outcome
}
