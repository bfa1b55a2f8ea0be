//! The verbs for the demo app: `sandbox app …` and `sandbox ledger …`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};

use super::check::Check;
use super::ledger::{self, Report, Verdict};
use super::operate::PlatformClient;
use super::seed::Seed;
use crate::connect::Target;
use crate::paths::Paths;

/// The exit code of a check that found something wrong.
const PROOF_FAILED: u8 = 5;

/// The verbs of the demo app.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fill the app's Redis, scale the app, look at it
    #[command(subcommand)]
    App(AppCommand),
    /// Hold what the app's processes wrote down against a Redis
    #[command(subcommand)]
    Ledger(LedgerCommand),
}

#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// Fill a Redis with keys of all types, the same for the same seed
    Seed {
        /// How many keys, in all databases together
        #[arg(long, default_value_t = 100_000)]
        keys: u64,
        /// How many databases to fill
        #[arg(long, default_value_t = 2, value_name = "1|2", value_parser = clap::value_parser!(u32).range(1..=2))]
        databases: u32,
        /// Other numbers make other values
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        redis: Redis,
        #[command(flatten)]
        output: Output,
    },
    /// Set how many processes of each type there are
    Scale {
        /// Such as web=2 worker=1
        #[arg(required = true, value_name = "TYPE=QUANTITY")]
        quantities: Vec<String>,
        #[command(flatten)]
        app: App,
    },
    /// Set config vars of the app, which restarts it
    Set {
        /// Such as DEMO_WRITES_PER_SECOND=5000
        #[arg(required = true, value_name = "NAME=VALUE")]
        vars: Vec<String>,
        #[command(flatten)]
        app: App,
    },
    /// Give the app's add-on a new password, as its host does: attached apps are restarted with it, copies stay stale
    Rotate {
        /// The app that pays for it
        #[arg(long, default_value = "demo")]
        app: String,
        /// Cut the connections that are there; without, they stay
        #[arg(long)]
        cut: bool,
    },
    /// List the app's processes as the platform does
    Ps {
        #[command(flatten)]
        app: App,
        #[command(flatten)]
        output: Output,
    },
    /// Try the way into the Redis that the environment names, as an app's own check does; each flag is a mistake that apps make
    Check(Check),
    /// Print as JSON what the platform did and how the app fared
    Report {
        #[command(flatten)]
        app: App,
    },
}

#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Look for lost and doubled writes; exit code 5 if there are any, or nothing to prove it by
    Check {
        #[command(flatten)]
        redis: Redis,
        /// The folder of the ledgers; the sandbox's own by default
        #[arg(long, value_name = "DIR")]
        ledgers: Option<PathBuf>,
        /// Tell gaps and errors from this time on, in microseconds since 1970; losses are looked for in everything
        #[arg(long, default_value_t = 0, value_name = "TIME")]
        since: u64,
        #[command(flatten)]
        output: Output,
    },
}

/// Which app.
#[derive(Debug, Args)]
pub struct App {
    /// The app's name
    #[arg(long, default_value = "demo")]
    app: String,
}

/// Which Redis.
#[derive(Debug, Args)]
pub struct Redis {
    /// Its URL; visible to all users of this computer while the command runs
    #[arg(long, conflicts_with = "config_var")]
    url: Option<String>,
    /// A PEM file that its certificate must be signed by; any certificate will do without
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
    /// The app's config var that holds its URL
    #[arg(long, value_name = "NAME", default_value = "REDIS_URL")]
    config_var: String,
    /// The app's name
    #[arg(long, default_value = "demo")]
    app: String,
}

#[derive(Debug, Args)]
pub struct Output {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Command {
    /// Runs it; needs a tokio runtime.
    pub async fn run(self) -> Result<ExitCode> {
        match self {
            Self::App(AppCommand::Seed {
                keys,
                databases,
                seed,
                redis,
                output,
            }) => fill(Seed { keys, databases, seed }, redis, &output).await,
            Self::App(AppCommand::Scale { quantities, app }) => scale(&app.app, &quantities).await,
            Self::App(AppCommand::Set { vars, app }) => set(&app.app, &vars).await,
            Self::App(AppCommand::Rotate { app, cut }) => {
                let addon = super::operate::rotate(&app, cut).await?;
                crate::output::line(&format!("{addon} has a new password"))?;
                Ok(ExitCode::SUCCESS)
            }
            Self::App(AppCommand::Ps { app, output }) => list_processes(&app.app, &output).await,
            Self::App(AppCommand::Check(check)) => check.run().await,
            Self::App(AppCommand::Report { app }) => report(&app.app).await,
            Self::Ledger(LedgerCommand::Check {
                redis,
                ledgers,
                since,
                output,
            }) => check(&redis, ledgers, since, &output).await,
        }
    }
}

impl Redis {
    async fn target(&self) -> Result<Target> {
        let Some(url) = &self.url else {
            return PlatformClient::from_environment()?
                .redis_of_app(&self.app, &self.config_var)
                .await;
        };
        let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
        Target::parse(url, self.ca.as_ref().map(read).transpose()?.as_deref())
    }
}

async fn fill(seed: Seed, redis: Redis, output: &Output) -> Result<ExitCode> {
    let target = redis.target().await?;
    let seeded = seed.fill(&target).await?;
    if output.json {
        print_json(&json!({"schema_version": 1, "seeded": seeded}))?;
    } else {
        crate::output::line(&format!(
            "{} keys in {} in {} s, {} of them expire",
            seeded.keys,
            target.address(),
            seeded.seconds,
            seeded.with_expiry
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn scale(app: &str, quantities: &[String]) -> Result<ExitCode> {
    let mut updates = Vec::new();
    for quantity in quantities {
        let parsed = quantity
            .split_once('=')
            .and_then(|(kind, number)| Some((kind, number.parse::<u32>().ok()?)));
        let (kind, number) = parsed.with_context(|| format!("read {quantity:?}: want TYPE=QUANTITY, such as web=2"))?;
        updates.push(json!({"type": kind, "quantity": number}));
    }
    let platform = PlatformClient::from_environment()?;
    platform
        .call(
            Method::PATCH,
            &format!("/apps/{app}/formation"),
            Some(&json!({"updates": updates})),
        )
        .await?;
    crate::output::line(&format!("{app} is scaled to {}", quantities.join(" ")))?;
    Ok(ExitCode::SUCCESS)
}

async fn set(app: &str, vars: &[String]) -> Result<ExitCode> {
    let mut changes = serde_json::Map::new();
    for var in vars {
        let (name, value) = var
            .split_once('=')
            .with_context(|| format!("read {var:?}: want NAME=VALUE"))?;
        changes.insert(name.into(), value.into());
    }
    let path = format!("/apps/{app}/config-vars");
    PlatformClient::from_environment()?
        .call(Method::PATCH, &path, Some(&Value::Object(changes)))
        .await?;
    crate::output::line(&format!("{app} has {} vars set", vars.len()))?;
    Ok(ExitCode::SUCCESS)
}

async fn list_processes(app: &str, output: &Output) -> Result<ExitCode> {
    let dynos = PlatformClient::from_environment()?
        .get(&format!("/apps/{app}/dynos"))
        .await?;
    if output.json {
        print_json(&dynos)?;
        return Ok(ExitCode::SUCCESS);
    }
    let dynos = dynos
        .as_array()
        .context("list the app's processes: the platform's answer is no list")?;
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for dyno in dynos {
        let release = shown(&dyno["release"]["version"]);
        crate::output::line(&format!(
            "{:<12} {:<9} v{release:<5} {}",
            shown(&dyno["name"]),
            shown(&dyno["state"]),
            shown(&dyno["command"])
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn report(app: &str) -> Result<ExitCode> {
    let platform = PlatformClient::from_environment()?.get("/_sandbox/report").await?;
    let folder = ledger_folder(app)?;
    let traffic = if folder.exists() {
        Some(ledger::report(&ledger::read_folder(&folder)?))
    } else {
        None
    };
    print_json(&json!({"schema_version": 1, "platform": platform, "traffic": traffic}))?;
    Ok(ExitCode::SUCCESS)
}

fn ledger_folder(app: &str) -> Result<PathBuf> {
    Ok(Paths::from_environment()?.state().join("ledger").join(app))
}

/// Everything that a check reports.
#[derive(Serialize)]
struct Checked {
    schema_version: u32,
    #[serde(flatten)]
    verdict: Verdict,
    #[serde(flatten)]
    report: Report,
    redis: String,
    ledgers: usize,
}

async fn check(redis: &Redis, ledgers: Option<PathBuf>, since_us: u64, output: &Output) -> Result<ExitCode> {
    let folder = ledgers.map_or_else(|| ledger_folder(&redis.app), Ok)?;
    let target = redis.target().await?;
    let checked = settle(&target, &folder, since_us).await?;
    if output.json {
        print_json(&json!(checked))?;
    } else {
        print_text(&checked)?;
    }
    if checked.report.acknowledged == 0 {
        bail!(
            "check the ledgers in {}: nothing is acknowledged in them, so nothing is proven",
            folder.display()
        );
    }
    Ok(if checked.verdict.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(PROOF_FAILED)
    })
}

/// Checks again if something is wrong while the app writes: a worker that starts between two
/// readings holds jobs that the first one did not look for. Real damage stays.
async fn settle(target: &Target, folder: &std::path::Path, since_us: u64) -> Result<Checked> {
    ensure!(
        folder.is_dir(),
        "check the ledgers in {}: there is no such folder; did the app run?",
        folder.display()
    );
    let mut attempts_left = 3;
    loop {
        attempts_left -= 1;
        let before = ledger::read_folder(folder)?;
        let observed = ledger::observe(target, &before).await?;
        let after = ledger::read_folder_since(folder, since_us)?;
        let verdict = ledger::judge(&before, &after, &observed);
        let is_moving = before.acknowledgements() != after.acknowledgements();
        if verdict.is_clean() || !is_moving || attempts_left == 0 {
            let (report, ledgers) = (ledger::report(&after), after.processes.len());
            return Ok(Checked {
                schema_version: 1,
                verdict,
                report,
                redis: target.address(),
                ledgers,
            });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn print_text(checked: &Checked) -> Result<()> {
    let Checked {
        verdict,
        report,
        redis,
        ledgers,
        ..
    } = checked;
    crate::output::line(&format!(
        "{} acknowledged writes in {ledgers} ledgers, held against {redis}",
        report.acknowledged
    ))?;
    crate::output::line(&format!("{} keys, members and jobs looked at", verdict.checked))?;
    crate::output::line(&format!(
        "lost {}, duplicated {}, unexplained {}",
        verdict.lost, verdict.duplicated, verdict.unexplained
    ))?;
    crate::output::line(&format!(
        "client errors {}, failed connections {}",
        report.client_errors, report.connection_errors
    ))?;
    if let Some(gap) = report.app_write_gap_ms {
        crate::output::line(&format!(
            "app_write_gap_ms {gap:.1}, longest gap of all {:.1} ms",
            report.longest_gap_ms
        ))?;
    }
    for finding in &verdict.findings {
        let kind = json!(finding.kind);
        let kind = kind.as_str().unwrap_or_default();
        crate::output::line(&format!(
            "  {kind}: database {} {}: expected {}, found {}",
            finding.database, finding.key, finding.expected, finding.found
        ))?;
    }
    Ok(())
}

fn print_json(value: &Value) -> Result<()> {
    crate::output::line(&serde_json::to_string_pretty(value).context("write the answer as JSON")?)
}
