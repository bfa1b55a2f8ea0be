//! The settings of the demo's processes, from the environment that the platform sets.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::keys;
use super::ledger::Ledger;
use crate::connect::Target;

/// Two web processes and one worker, the standard formation, make this many writes a second.
const WRITES_PER_SECOND: f64 = 2000.0;

pub struct Settings {
    /// The var that the process reads. If REDIS_CA is set, the server must be signed by its PEM certificates.
    pub target: Target,
    /// In SANDBOX_LEDGER_DIR, named for DYNO.
    pub ledger: Arc<Ledger>,
    /// DEMO_DATABASES: how many of its databases the app uses.
    pub databases: usize,
    /// DEMO_WRITES_PER_SECOND: of two web processes and one worker together.
    pub writes_per_second: f64,
    /// DEMO_RESPONSE_TIMEOUT: seconds that a write may wait for its answer, as it does in a pause.
    pub response_timeout: Duration,
    /// DEMO_SHUTDOWN_SECONDS: how long a process waits for what is in flight after SIGTERM.
    pub shutdown_timeout: Duration,
    /// DEMO_LEASE_SECONDS: how long after its last sign of life a worker's jobs may be taken over.
    pub lease: Duration,
    /// DEMO_REPEATS=1: a web process sends what got no answer once more, each write in a form that is done only once.
    pub repeats: bool,
    /// DEMO_PUT_BACK_SECONDS: how long after SIGTERM a worker puts its long job back. Otherwise 25 of each 30 seconds that
    /// the platform gives by SANDBOX_KILL_AFTER_SECONDS; without either there is no long job.
    pub put_back_after: Option<Duration>,
}

/// Sidekiq, Resque and RQ stop waiting for a job 25 s after SIGTERM; the platform kills after 30 s.
const PUT_BACK_AFTER: f64 = 25.0 / 30.0;

impl Settings {
    /// `var` holds the URL of the process's Redis.
    pub fn from_environment(var: &str) -> Result<Self> {
        let url = required(var)?;
        let authority = std::env::var("REDIS_CA").ok().filter(|pem| !pem.trim().is_empty());
        let folder = PathBuf::from(required("SANDBOX_LEDGER_DIR")?);
        Ok(Self {
            target: Target::parse(&url, authority.as_deref())?,
            ledger: Arc::new(Ledger::create(&folder, &required("DYNO")?)?),
            databases: number("DEMO_DATABASES", keys::DATABASES.len())?.clamp(1, keys::DATABASES.len()),
            writes_per_second: number("DEMO_WRITES_PER_SECOND", WRITES_PER_SECOND)?,
            response_timeout: Duration::from_secs(number("DEMO_RESPONSE_TIMEOUT", 60)?),
            shutdown_timeout: Duration::from_secs(number("DEMO_SHUTDOWN_SECONDS", 5)?),
            lease: Duration::from_secs(number("DEMO_LEASE_SECONDS", 90)?),
            repeats: number("DEMO_REPEATS", 0_u8)? > 0,
            put_back_after: put_back_after()?,
        })
    }
}

fn put_back_after() -> Result<Option<Duration>> {
    let given: f64 = number("SANDBOX_KILL_AFTER_SECONDS", -1.0)?;
    let seconds: f64 = number("DEMO_PUT_BACK_SECONDS", given * PUT_BACK_AFTER)?;
    Ok(Duration::try_from_secs_f64(seconds).ok())
}

fn required(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("read the variable {name}, which the platform sets for every process"))
}

fn number<N: FromStr>(name: &str, default: N) -> Result<N> {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .map_err(|_| anyhow!("read the variable {name}: {text:?} is no number")),
        Err(_) => Ok(default),
    }
}
