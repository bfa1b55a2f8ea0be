//! The demo app: `demo-app web`, `demo-app worker` or `demo-app markers`. The environment has all other settings.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use sandbox::demo::settings::Settings;
use sandbox::demo::{web, worker};
use sandbox::markers::app as markers;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// An app that writes to Redis and keeps a ledger of what was acknowledged.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
    /// The variable that holds the URL of its Redis
    #[arg(long, global = true, default_value = "REDIS_URL", value_name = "NAME")]
    var: String,
}

#[derive(Subcommand)]
enum Role {
    /// Writes markers, counters, scores and jobs.
    Web,
    /// Does the jobs.
    Worker,
    /// Writes what users have read, to PostgreSQL and to Redis.
    Markers,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Arguments { role, var } = Arguments::parse();
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let asked = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        asked.cancel();
    });
    match role {
        Role::Web => web::run(Settings::from_environment(&var)?, stop).await,
        Role::Worker => worker::run(Settings::from_environment(&var)?, stop).await,
        Role::Markers => markers::run(markers::Settings::from_environment()?, stop).await,
    }
}
