//! The platform before the app is moved, and on it a demo app with a hosted Redis attached.
//!
//! The app is made and not started: `sandbox app scale` does that.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::addon::{self, Addon};
use crate::names;
use crate::network::BRIDGE_ADDRESS;
use crate::paths::Paths;
use crate::postgres::{self, Cluster};
use crate::settings::Settings;
use crate::source::{Rented, Vars};
use crate::{knobs, platform, random};

/// The platform's API.
pub const PLATFORM_PORT: u16 = 5000;
/// The first hosted Redis.
pub const ADDON_PORT: u16 = 6390;
/// The second port of the first hosted Redis, without TLS.
const ADDON_PLAIN_PORT: u16 = 6391;
/// The hosted PostgreSQL.
pub const POSTGRES_PORT: u16 = 5433;

const ADDON_NAME: &str = "redis-oval-12345";
const POSTGRES_NAME: &str = "postgresql-round-54321";
/// As much as a small plan gives, in bytes.
const ADDON_MEMORY: u64 = 256 << 20;
const LISTENS_WITHIN: Duration = Duration::from_secs(10);

/// The running platform and add-on.
pub struct Hosting {
    pub platform: JoinHandle<Result<()>>,
    pub addon: Option<Addon>,
    pub postgres: Option<Cluster>,
    shutdown: CancellationToken,
}

impl Hosting {
    /// Starts the platform and, unless it is not wanted, the demo app with its add-on.
    pub async fn start(paths: &Paths, settings: &Settings, platform_key: &str) -> Result<Self> {
        let bridge: IpAddr = BRIDGE_ADDRESS
            .to_string()
            .parse()
            .context("read the bridge's address")?;
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, PLATFORM_PORT));
        let shutdown = CancellationToken::new();
        let platform = tokio::spawn(platform::serve(
            platform::Options {
                listen: vec![loopback, SocketAddr::new(bridge, PLATFORM_PORT)],
                api_key: platform_key.to_owned(),
                state_dir: paths.state().to_owned(),
                time_scale: settings.time_scale,
            },
            shutdown.clone(),
        ));
        let mut hosting = Self {
            platform,
            addon: None,
            postgres: None,
            shutdown,
        };
        hosting.wait_until_it_listens(loopback).await?;
        let rented = settings.rented();
        if rented.is_named {
            names::publish(paths, names::ADDON, bridge)?;
        }
        if !settings.no_app {
            let options = addon::Options {
                name: ADDON_NAME.to_owned(),
                state_dir: paths.state().to_owned(),
                host: rented.is_named.then(|| names::ADDON.to_owned()),
                listen: vec![bridge],
                port: ADDON_PORT,
                password: random::hex(24)?,
                tls: rented.tls,
                authority: Some(crate::aws::authority::issuer(paths)?),
                profile: rented.profile,
                persistent: false,
                maxmemory: Some(ADDON_MEMORY),
                connections: rented.connections,
                databases: rented.databases,
                plain_port: (rented.vars == Vars::TwoPorts).then_some(ADDON_PLAIN_PORT),
            };
            // `up` has fetched the engine.
            let program = rented.engine.ensure(paths, &|line| tracing::info!("{line}"))?;
            let addon = addon::start_engine(options, &program).await?;
            create_app(loopback, &addon, rented, settings).await?;
            if settings.knobs {
                turn_knobs(loopback, platform_key).await?;
            }
            hosting.addon = Some(addon);
            if settings.addon_postgres {
                hosting.postgres = Some(rent_postgres(paths, settings, loopback, bridge).await?);
            }
        }
        Ok(hosting)
    }

    /// Ends the app's processes, the platform and the add-on.
    pub async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        // If it has ended already, another task has reported why.
        if !self.platform.is_finished() {
            self.platform.await.context("end the app platform")??;
        }
        if let Some(addon) = self.addon {
            addon.stop().await?;
        }
        if let Some(mut postgres) = self.postgres {
            let stopped = tokio::task::spawn_blocking(move || postgres.stop()).await;
            stopped.context("end the hosted PostgreSQL")??;
        }
        Ok(())
    }

    async fn wait_until_it_listens(&mut self, address: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + LISTENS_WITHIN;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if self.platform.is_finished() {
                (&mut self.platform).await.context("start the app platform")??;
                bail!("start the app platform: it ended at once");
            }
            if Instant::now() > deadline {
                bail!("start the app platform: nothing listens on {address} after {LISTENS_WITHIN:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// Starts a PostgreSQL whose renter may replicate, and attaches it to the demo app as `DATABASE`.
async fn rent_postgres(paths: &Paths, settings: &Settings, platform: SocketAddr, listen: IpAddr) -> Result<Cluster> {
    let options = postgres::Options {
        folder: paths.state().join("postgres"),
        listen: vec![listen],
        port: POSTGRES_PORT,
        tls: settings.rented().tls,
        authority: Some(crate::aws::authority::issuer(paths)?),
        user: "demo".to_owned(),
        password: random::hex(24)?,
        replication: true,
        settings: Vec::new(),
    };
    // The server's user must get through to the folder, whose own mode keeps others out.
    let searchable = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(paths.state(), searchable).context("let PostgreSQL's user into the state folder")?;
    let started = tokio::task::spawn_blocking(move || Cluster::start(options)).await;
    let cluster = started.context("start the hosted PostgreSQL")??;
    let addon = json!({"name": POSTGRES_NAME, "plan": "hosted-postgresql:mini", "url": cluster.url(), "attachment": "DATABASE"});
    post(platform, "apps/demo/addons", &addon).await?;
    Ok(cluster)
}

/// Lets the app's knobs be as `knobs` says, and starts what sleeps or crashes from the beginning.
async fn turn_knobs(platform: SocketAddr, key: &str) -> Result<()> {
    post(platform, "apps/demo/behaviour", &knobs::of_platform()).await?;
    let updates = [knobs::ASLEEP, knobs::CRASHING].map(|kind| json!({"type": kind, "quantity": 1}));
    let request = reqwest::Client::new()
        .patch(format!("http://{platform}/apps/demo/formation"))
        .header("Accept", "application/vnd.heroku+json; version=3")
        .bearer_auth(key)
        .json(&json!({ "updates": updates }));
    let answer = request.send().await.context("start the demo app's idle processes")?;
    answer
        .error_for_status()
        .map(drop)
        .context("start the demo app's idle processes")
}

async fn create_app(platform: SocketAddr, addon: &Addon, rented: Rented, settings: &Settings) -> Result<()> {
    let program = std::env::current_exe()
        .context("find this program's file")?
        .with_file_name("demo-app");
    if !program.is_file() {
        bail!(
            "create the demo app: there is no {}; build it with `cargo build -p sandbox`",
            program.display()
        );
    }
    let reading = |role: &str, var: &str| json!({"command": [program, role, "--var", var], "quantity": 0});
    let worker = reading("worker", rented.vars.of_worker());
    let mut formation = json!({"web": reading("web", "REDIS_URL"), "worker": worker.clone()});
    for kind in [knobs::ASLEEP, knobs::CRASHING].iter().filter(|_| settings.knobs) {
        formation[kind] = worker.clone();
    }
    let url = match rented.database {
        Some(database) => format!("{}?db={database}", addon.url()),
        None => addon.url().to_owned(),
    };
    let mut config = json!({});
    if rented.demo_databases() == 1 {
        config["DEMO_DATABASES"] = json!("1");
    }
    if rented.vars == Vars::WithCopy {
        config["REDIS_URL"] = json!(url);
    }
    if settings.addon_postgres {
        formation["markers"] = json!({"command": [program, "markers"], "quantity": 0});
    }
    post(
        platform,
        "apps",
        &json!({"name": "demo", "region": "us", "formation": formation, "config": config}),
    )
    .await?;
    let values = match (rented.vars, addon.plain_url()) {
        (Vars::TwoPorts, Some(plain)) => json!({"URL": plain, "TLS_URL": url}),
        _ => json!({"URL": url}),
    };
    let attachment = rented.vars.attachment();
    let addon = json!({"name": ADDON_NAME, "plan": "hosted-redis:mini", "values": values, "attachment": attachment});
    post(platform, "apps/demo/addons", &addon).await
}

async fn post(platform: SocketAddr, path: &str, body: &Value) -> Result<()> {
    let doing = || format!("ask the app platform for {path}");
    let request = reqwest::Client::new()
        .post(format!("http://{platform}/_sandbox/{path}"))
        .json(body);
    let response = request.send().await.with_context(doing)?;
    if !response.status().is_success() {
        bail!(
            "{}: it answered {}: {}",
            doing(),
            response.status(),
            response.text().await.unwrap_or_default()
        );
    }
    Ok(())
}
