//! The app's process: it writes at a steady rate until it is asked to stop.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use redis::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::database::Database;
use super::ledger::Ledger;
use super::tables::Sizes;
use super::write::{Choice, Write};
use crate::connect::{Connection, Target};

/// How long an answer may take, as it does while the source is paused.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a process waits for what is in flight after it was asked to stop.
const FAREWELL: Duration = Duration::from_secs(5);
const RECONNECT_AFTER: Duration = Duration::from_millis(200);
/// One read comes after so many writes.
const WRITES_PER_READ: u64 = 5;
/// The sizes of the tables for a process that sees Redis alone.
const ASSUMED: Sizes = Sizes {
    users: 10_000,
    sessions: 5_000,
    markers: 20_000,
    apps: 50,
};

/// The environment that the platform sets.
pub struct Settings {
    /// REDIS_URL, and REDIS_CA for the pair's certificate.
    redis: Target,
    /// DATABASE_URL, unless MARKERS_FROM=redis says that Redis alone is used.
    postgres: Option<String>,
    /// MARKERS_WRITES_PER_SECOND.
    writes_per_second: u32,
    ledgers: PathBuf,
    dyno: String,
}

impl Settings {
    pub fn from_environment() -> Result<Self> {
        let required = |name: &str| std::env::var(name).with_context(|| format!("read the variable {name}"));
        let authority = std::env::var("REDIS_CA").ok().filter(|pem| !pem.trim().is_empty());
        let from_redis = std::env::var("MARKERS_FROM").is_ok_and(|from| from == "redis");
        let postgres = if from_redis {
            None
        } else {
            Some(required("DATABASE_URL")?)
        };
        let rate = std::env::var("MARKERS_WRITES_PER_SECOND").unwrap_or_else(|_| "500".to_owned());
        Ok(Self {
            redis: Target::parse(&required("REDIS_URL")?, authority.as_deref())?,
            postgres,
            writes_per_second: rate.parse().context("read MARKERS_WRITES_PER_SECOND")?,
            ledgers: PathBuf::from(required("SANDBOX_LEDGER_DIR")?),
            dyno: required("DYNO")?,
        })
    }
}

/// Writes until the process is asked to stop.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<()> {
    let mut ledger = Ledger::create(&settings.ledgers, &settings.dyno)?;
    let mut app = App {
        settings: &settings,
        postgres: None,
        redis: None,
    };
    let sizes = match (&settings.postgres, app.database().await) {
        (Some(_), Ok(Some(database))) => Sizes::read(database).await?,
        (Some(_), Err(error)) => return Err(error),
        _ => ASSUMED,
    };
    let mut choice = Choice::new(u64::from(std::process::id()), sizes);
    let begun = Instant::now();
    for number in 1_u64.. {
        let due = Duration::from_secs_f64(number as f64 / f64::from(settings.writes_per_second.max(1)));
        tokio::select! {
            () = tokio::time::sleep_until(begun + due) => {}
            () = stop.cancelled() => return Ok(()),
        }
        let write = choice.next();
        let operation = ledger.attempt(&write)?;
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            done = app.write(&write) => match done {
                Ok(counted) => ledger.acknowledged(operation, counted)?,
                Err(error) => {
                    ledger.failed(operation, format!("{error:#}"))?;
                    // Both connections are made anew.
                    (app.postgres, app.redis) = (None, None);
                    tokio::time::sleep(RECONNECT_AFTER).await;
                }
            },
            () = late => return ledger.failed(operation, "unanswered at exit".to_owned()),
        }
        if number.is_multiple_of(WRITES_PER_READ) && app.read(&mut choice).await.is_ok() {
            ledger.read(settings.postgres.is_none())?;
        }
    }
    Ok(())
}

struct App<'a> {
    settings: &'a Settings,
    postgres: Option<Database>,
    redis: Option<Connection>,
}

impl App<'_> {
    /// Returns the connection to PostgreSQL; `None` if Redis alone is used.
    async fn database(&mut self) -> Result<Option<&Database>> {
        if let (None, Some(url)) = (&self.postgres, &self.settings.postgres) {
            self.postgres = Some(Database::connect(url).await?);
        }
        Ok(self.postgres.as_ref())
    }

    async fn store(&mut self) -> Result<&mut Connection> {
        let connection = match self.redis.take() {
            Some(connection) => connection,
            None => {
                let connecting = self.settings.redis.connect(0, RESPONSE_TIMEOUT);
                connecting.await.context("connect to Redis")?
            }
        };
        Ok(self.redis.insert(connection))
    }

    /// Commits in PostgreSQL, then writes in Redis. Returns a number that one of them counted.
    async fn write(&mut self, write: &Write) -> Result<Option<String>> {
        let counted = match self.database().await? {
            Some(database) => database.run(&write.sql()).await?,
            None => None,
        };
        let command = write.command(counted.as_deref());
        let store = self.store().await?;
        let answer: Value = command
            .query_async(&mut store.commands)
            .await
            .context("write to Redis")?;
        Ok(match write {
            Write::Set { .. } => None,
            Write::Hit { .. } => counted.or_else(|| redis::from_redis_value(answer).ok()),
        })
    }

    /// Reads a marker where the app is told to read.
    async fn read(&mut self, choice: &mut Choice) -> Result<()> {
        let (place, sql) = choice.next_read();
        if let Some(database) = self.database().await? {
            database.run(&sql).await?;
            return Ok(());
        }
        let store = self.store().await?;
        let _: Value = place
            .read()
            .query_async(&mut store.commands)
            .await
            .context("read from Redis")?;
        Ok(())
    }
}
