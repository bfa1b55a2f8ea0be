//! The story of an app that kept what its users have read in PostgreSQL: its tables become keys of the hosted Redis
//! while it writes to both, then that Redis moves onto the pair, and the database goes.

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::commands::{self, Runner};
use super::report::Seconds;
use super::{Arguments, chapter};
use crate::choice::name_of;
use crate::demo::operate::PlatformClient;
use crate::markers::{self, Database, Judged};
use crate::output;
use crate::paths::Paths;
use crate::settings::runtime;

const APP: &str = "demo";
/// The config var that says where the app reads and writes.
const READS: &str = "MARKERS_FROM=redis";
/// How long the comparison is repeated here; two days in the real story.
const WATCH: [&str; 4] = ["--watch", "20s", "--every", "5s"];
/// Writes to Redis alone, and then on the pair, before the next step.
const FURTHER_WRITES: u64 = 2_000;

/// The form of `demo-report.json` for this story.
#[derive(Debug, Serialize)]
pub struct Report {
    schema_version: u32,
    story: &'static str,
    /// Rows that were compared at the end of the import.
    rows: u64,
    looks: u64,
    identical_looks: u64,
    /// Differences after the last round of the last comparison.
    differing: u64,
    #[serde(flatten)]
    judged: Judged,
    /// Keys of the add-on that were compared with the pair's.
    keys_compared: u64,
    fenced_ms: f64,
    late_writes: u64,
    /// True if the app has no URL of a database any more.
    database_gone: bool,
    cost_before_usd_a_month: f64,
    cost_after_usd_a_month: f64,
    seconds: Seconds,
}

impl Report {
    /// Returns true if both sides were identical, and no write was lost or came back.
    pub fn is_clean(&self) -> bool {
        let proven = self.looks > 0 && self.identical_looks == self.looks && self.differing == 0;
        proven && self.judged.lost == 0 && self.judged.resurrected == 0 && self.database_gone
    }

    pub fn show(&self) -> Result<()> {
        let Judged {
            acknowledged,
            failed,
            lost,
            resurrected,
            writes_per_second,
            reads_from_redis,
            ..
        } = self.judged;
        let lines = [
            String::new(),
            format!("  acknowledged writes   {acknowledged:>10}"),
            format!("  writes a second       {writes_per_second:>10.0}"),
            format!("  lost                  {lost:>10}"),
            format!("  resurrected           {resurrected:>10}"),
            format!("  failed                {failed:>10}"),
            format!("  rows compared         {:>10}", self.rows),
            format!("  identical looks       {:>10} of {}", self.identical_looks, self.looks),
            format!("  reads from Redis      {reads_from_redis:>10}"),
            format!("  source fenced         {:>10.0} ms", self.fenced_ms),
            format!(
                "  cost before           {:>10.2} $ a month",
                self.cost_before_usd_a_month
            ),
            format!(
                "  cost after            {:>10.2} $ a month",
                self.cost_after_usd_a_month
            ),
            String::new(),
            self.verdict(),
        ];
        output::line(&lines.join("\n"))?;
        self.judged
            .findings
            .iter()
            .try_for_each(|finding| output::line(&format!("  {finding}")))
    }

    fn verdict(&self) -> String {
        if self.is_clean() {
            return "PostgreSQL is gone. No acknowledged write was lost, and nothing that was deleted came back."
                .to_owned();
        }
        format!(
            "Not proven: {} writes were lost, {} came back, {} of {} looks were identical, {} rows or keys differ.",
            self.judged.lost, self.judged.resurrected, self.identical_looks, self.looks, self.differing
        )
    }
}

pub fn tell(runner: &Runner, arguments: &Arguments) -> Result<Report> {
    let mut seconds = Seconds::default();
    chapter("A sandbox: AWS, machines, a hosted Redis, a hosted PostgreSQL, an app platform");
    let (scale, rtt) = (arguments.time_scale.to_string(), arguments.rtt.to_string());
    let source = name_of(&arguments.source);
    let mut up = vec![
        "up",
        "--addon-postgres",
        "--source",
        &source,
        "--addon-tls",
        "authority",
        "--time-scale",
        &scale,
        "--rtt",
        &rtt,
    ];
    up.extend(arguments.addon_profile());
    seconds.time("sandbox_up", || runner.sandbox(&up))?;
    let config = runner.write_config(arguments.source.rented().vars)?;
    let runtime = runtime()?;
    let story = Story {
        runner,
        arguments,
        config,
        mapping: runner.write_mapping(markers::MAPPING)?,
        platform: PlatformClient::from_environment()?,
        runtime,
    };
    chapter(&format!(
        "PostgreSQL holds {} rows; the app writes to both, 500 times a second",
        arguments.keys
    ));
    seconds.time("seed", || story.fill())?;
    let before = story.rent()?;
    runner.sandbox(&["app", "scale", "markers=1"])?;
    story.wait_for_writes(FURTHER_WRITES)?;

    let (watch, finished) = story.import(&mut seconds)?;
    chapter("The app reads and writes Redis alone");
    story.wait_for_new_process()?;
    story.wait_for_writes(FURTHER_WRITES)?;
    let (switched, after) = story.move_onto_the_pair(&mut seconds)?;
    chapter("PostgreSQL goes");
    let database_gone = seconds.time("return_database", || story.return_database())?;
    story.wait_for_new_process()?;
    story.wait_for_writes(FURTHER_WRITES)?;

    chapter("The ledgers: is every acknowledged write there, and nothing back that was deleted?");
    runner.sandbox(&["app", "scale", "markers=0"])?;
    story.wait_for_new_process()?;
    let judged = seconds.time("ledger", || story.judge())?;
    let report = Report {
        schema_version: 1,
        story: "tweetmarker",
        rows: finished["verdict"]["rows"]
            .as_object()
            .map_or(0, |rows| rows.values().filter_map(Value::as_u64).sum()),
        looks: number(&watch["watch"], "looks")?,
        identical_looks: number(&watch["watch"], "identical")?,
        differing: number(&finished["verdict"], "differing")?,
        judged,
        keys_compared: number(&switched, "keys_compared")?,
        fenced_ms: switched["fenced_ms"].as_f64().context("read `fenced_ms`")?,
        late_writes: number(&switched, "late_writes")?,
        database_gone,
        cost_before_usd_a_month: before,
        cost_after_usd_a_month: after,
        seconds,
    };
    output::report(&arguments.report_or("demo-report.json"), &report)?;
    Ok(report)
}

fn number(value: &Value, name: &str) -> Result<u64> {
    value[name]
        .as_u64()
        .with_context(|| format!("read `{name}`: it is {}", value[name]))
}

struct Story<'a> {
    runner: &'a Runner,
    arguments: &'a Arguments,
    config: PathBuf,
    mapping: PathBuf,
    platform: PlatformClient,
    runtime: tokio::runtime::Runtime,
}

impl Story<'_> {
    fn fill(&self) -> Result<()> {
        self.runtime.block_on(async {
            let vars = self.platform.config_vars(APP).await?;
            let url = vars["DATABASE_URL"]
                .as_str()
                .context("find the database: the app has no DATABASE_URL")?;
            markers::fill(&Database::connect(url).await?, self.arguments.keys).await
        })
    }

    /// Returns what the app's add-ons cost a month, in dollars.
    fn rent(&self) -> Result<f64> {
        let addons = self
            .runtime
            .block_on(self.platform.get(&format!("/apps/{APP}/addons")))?;
        let cents = addons
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|addon| addon["billed_price"]["cents"].as_f64());
        Ok(cents.sum::<f64>() / 100.0)
    }

    /// Imports, follows, compares and finishes. Returns the reports of the watch and of the end.
    fn import(&self, seconds: &mut Seconds) -> Result<(Value, Value)> {
        let file = self.mapping.display().to_string();
        let verb = |words: &[&'static str]| -> Vec<String> {
            let words = words.iter().map(|word| (*word).to_owned());
            ["import".to_owned()]
                .into_iter()
                .chain(words)
                .chain(["--file".to_owned(), file.clone()])
                .collect()
        };
        let run = |words: &[&'static str]| -> Result<()> {
            let words = verb(words);
            self.runner
                .infra(&self.config, &words.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let json = |words: &[&'static str]| -> Result<Value> {
            let words = verb(words);
            self.runner
                .infra_json(&self.config, &words.iter().map(String::as_str).collect::<Vec<_>>())
        };
        chapter("infra import: the tables become keys, while the app goes on writing");
        seconds.time("import_plan", || run(&["plan"]))?;
        seconds.time("import_run", || run(&["run"]))?;
        seconds.time("import_follow", || run(&["follow", "--for", "5s"]))?;
        chapter("infra import verify --watch: are both the same, again and again?");
        let watch = seconds.time("import_watch", || json(&[&["verify"], &WATCH[..]].concat()))?;
        run(&["status"])?;
        chapter("infra import finish: the last comparison; the app's reads move to Redis");
        let finished = seconds.time("import_finish", || json(&["finish", "--set", READS, "--yes"]))?;
        Ok((watch, finished))
    }

    /// Moves the app from the add-on onto the pair. Returns the report of the switch, and what the pair costs a month.
    fn move_onto_the_pair(&self, seconds: &mut Seconds) -> Result<(Value, f64)> {
        let (runner, config) = (self.runner, self.config.as_path());
        chapter("infra up: two machines that follow the hosted Redis, backups running");
        let cost = cost(&runner.infra_text(config, &["up", "--dry-run"])?)?;
        seconds.time("check", || runner.infra(config, &["check"]))?;
        seconds.time("up", || runner.infra(config, &["up", "--yes"]))?;
        seconds.time("verify", || runner.infra(config, &["verify"]))?;
        chapter("infra switch-app: REDIS_URL moves");
        let grace = format!("{}s", self.arguments.longest_farewell());
        let fence = self.arguments.fence().name();
        let words = [
            "switch-app",
            "--confirm",
            commands::NAME,
            "--fence",
            fence,
            "--grace",
            &grace,
        ];
        let switched = seconds.time("switch_app", || runner.infra_json(config, &words))?;
        self.wait_for_new_process()?;
        self.wait_for_writes(FURTHER_WRITES)?;
        seconds.time("status", || runner.infra(config, &["status"]))?;
        Ok((switched, cost))
    }

    /// Ends the database's add-on, as `heroku addons:destroy` does. Returns true if its var is gone.
    fn return_database(&self) -> Result<bool> {
        self.runtime.block_on(async {
            let path = format!("/apps/{APP}/addon-attachments");
            let attachments = self.platform.get(&path).await?;
            let mut attachments = attachments.as_array().into_iter().flatten();
            let database = attachments.find(|attachment| attachment["name"] == "DATABASE");
            let name = database.and_then(|attachment| attachment["addon"]["name"].as_str());
            let name = name.context("find the database: no add-on is attached as DATABASE")?;
            eprintln!("$ heroku addons:destroy {name}");
            let path = format!("/apps/{APP}/addons/{name}");
            self.platform.call(Method::DELETE, &path, None).await?;
            let end = Instant::now() + Duration::from_secs(30);
            while Instant::now() < end {
                if self.platform.config_vars(APP).await?["DATABASE_URL"].is_null() {
                    return Ok(true);
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(false)
        })
    }

    fn ledgers(&self) -> Result<Vec<markers::Process>> {
        markers::read_folder(&ledgers()?)
    }

    /// Waits until this many more writes are acknowledged.
    fn wait_for_writes(&self, further: u64) -> Result<()> {
        let acknowledged = || -> Result<u64> {
            let processes = if ledgers()?.exists() {
                self.ledgers()?
            } else {
                Vec::new()
            };
            let attempts = processes.iter().flat_map(|process| &process.attempts);
            Ok(attempts.filter(|attempt| attempt.acknowledged_us.is_some()).count() as u64)
        };
        let (before, end) = (acknowledged()?, Instant::now() + Duration::from_secs(90));
        loop {
            let there = acknowledged()?;
            if there >= before + further {
                eprintln!("  {there} writes acknowledged so far");
                return Ok(());
            }
            if Instant::now() > end {
                bail!(
                    "wait for {further} further writes: {} after 90 s; the app's logs are in the sandbox's folder",
                    there - before
                );
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Waits until every process that was asked to stop is gone.
    fn wait_for_new_process(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(self.arguments.longest_farewell() + 10);
        while self.runner.is_any_process_ending()? {
            if Instant::now() > end {
                bail!("wait for the app's old process to end: it is still there after its time");
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }

    fn judge(&self) -> Result<Judged> {
        self.runtime.block_on(async {
            let target = self.platform.redis_of_app(APP, "REDIS_URL").await?;
            markers::check(&target, &self.ledgers()?).await
        })
    }
}

fn ledgers() -> Result<PathBuf> {
    Ok(Path::new(Paths::from_environment()?.state()).join("ledger").join(APP))
}

/// Reads the price of the pair in the plan that `infra up --dry-run` shows.
fn cost(plan: &str) -> Result<f64> {
    let line = plan.lines().find_map(|line| line.trim().strip_prefix("Cost: about "));
    let amount = line.and_then(|line| line.split_whitespace().next());
    let amount = amount.context("read the pair's price: the plan of `infra up` has none")?;
    amount
        .parse()
        .with_context(|| format!("read the pair's price {amount:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lost: u64, resurrected: u64, identical_looks: u64, database_gone: bool) -> Report {
        Report {
            schema_version: 1,
            story: "tweetmarker",
            rows: 100,
            looks: 5,
            identical_looks,
            differing: 0,
            judged: Judged {
                lost,
                resurrected,
                ..Judged::default()
            },
            keys_compared: 100,
            fenced_ms: 1.0,
            late_writes: 0,
            database_gone,
            cost_before_usd_a_month: 30.0,
            cost_after_usd_a_month: 25.04,
            seconds: Seconds::default(),
        }
    }

    #[test]
    fn the_story_ends_well_only_if_all_of_it_is_proven() {
        assert!(report(0, 0, 5, true).is_clean());
        for failed in [
            report(1, 0, 5, true),
            report(0, 1, 5, true),
            report(0, 0, 4, true),
            report(0, 0, 5, false),
        ] {
            assert!(!failed.is_clean() && failed.verdict().starts_with("Not proven"));
        }
    }

    #[test]
    fn the_price_is_read_from_the_plan() {
        let plan =
            "In all: 9.\nCost: about 25.04 $ a month for both hosts with disks; the plan x costs 15.00 $ a month.";
        assert_eq!(cost(plan).unwrap(), 25.04);
        assert!(cost("In all: nothing.").is_err());
    }
}
