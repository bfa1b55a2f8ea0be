//! `sandbox demo`: the whole move, as a person would do it, on this one computer.
//! It runs the commands of the README, and does not trust what they print about losses: it compares
//! the app's ledgers with the Redis that the app ends on. Figures go to `demo-report.json`.

pub(crate) mod commands;
mod life;
mod report;
mod tweetmarker;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use commands::Runner;
use report::{Conditions, Report, Seconds};
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::addon::{Profile, Tls};
use crate::choice::name_of;
use crate::source::{Source, Vars};

/// In which order the move is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// `infra promote`, then `infra switch-app` within the hold.
    PromoteFirst,
    /// `infra switch-app` alone.
    SwitchOnly,
}

/// Keeps the app from writing to the source during the cutover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fence {
    /// The source's own CLIENT PAUSE
    Pause,
    /// The platform: the add-on is rented from a host that denies CLIENT PAUSE
    Platform,
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Story {
    /// An app moves from a hosted Redis onto the pair.
    Move,
    /// An app moves from PostgreSQL to the hosted Redis first, and then onto the pair.
    Tweetmarker,
    /// A pair lives on after the move: failovers, larger instances, a lost master.
    Life,
}

#[derive(Debug, Args)]
pub struct Arguments {
    /// Which story is told; the order and the number of writes are of `move` alone
    #[arg(long, value_enum, default_value_t = Story::Move)]
    story: Story,
    /// In which order the move is made
    #[arg(long, value_enum, default_value_t = Order::SwitchOnly)]
    order: Order,
    /// What keeps the app from writing to the add-on during the cutover; the pause, where the add-on allows it
    #[arg(long, value_enum)]
    fence: Option<Fence>,
    /// Which kind of hosted Redis the app leaves
    #[arg(long, value_enum, default_value_t = Source::Default, value_name = "SOURCE")]
    source: Source,
    /// Keys that the add-on is filled with before the app starts; for `tweetmarker`, rows of PostgreSQL
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Acknowledged writes to reach before the ledgers are judged
    #[arg(long, default_value_t = 60_000)]
    writes: u64,
    /// Factor on the platform's delays: a dyno's boot (2 s), its 30 s from SIGTERM to SIGKILL, preboot's 3 minutes; 0.1 is
    /// ten times as quick as the real one
    #[arg(long, default_value_t = 1.0)]
    time_scale: f64,
    /// Milliseconds of a round trip between infra and everything that it talks to
    #[arg(long, default_value_t = 0, value_name = "MS")]
    rtt: u64,
    #[arg(
        long,
        value_name = "FILE",
        help = "Where the report is written; demo-report.json, for `life` life-report.json"
    )]
    report: Option<PathBuf>,
    /// Leave the sandbox up, to look around
    #[arg(long)]
    keep: bool,
}

/// Tells the story and removes the sandbox; fails if a write was lost, doubled or unexplained.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let runner = Runner::new()?;
    let told = match arguments.story {
        Story::Move => tell(&runner, arguments).map(Reported::Move),
        Story::Tweetmarker => tweetmarker::tell(&runner, arguments).map(Reported::Tweetmarker),
        Story::Life => life::tell(&runner, arguments).map(Reported::Life),
    };
    if arguments.keep {
        eprintln!("\nthe sandbox is still up: `sandbox run CMD…` uses it, `sandbox down` removes it");
    } else if let Err(error) = runner.sandbox(&["down"]) {
        eprintln!("sandbox: {error:#}");
        told?;
        return Ok(ExitCode::FAILURE);
    }
    let report = told?;
    report.show()?;
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The figures of a story.
enum Reported {
    Move(Report),
    Tweetmarker(tweetmarker::Report),
    Life(life::Report),
}

impl Reported {
    fn show(&self) -> Result<()> {
        match self {
            Self::Move(report) => report.show(),
            Self::Tweetmarker(report) => report.show(),
            Self::Life(report) => report.show(),
        }
    }

    fn is_clean(&self) -> bool {
        match self {
            Self::Move(report) => report.is_clean(),
            Self::Tweetmarker(report) => report.is_clean(),
            Self::Life(report) => report.is_clean(),
        }
    }
}

fn tell(runner: &Runner, arguments: &Arguments) -> Result<Report> {
    let mut seconds = Seconds::default();
    let scale = arguments.time_scale.to_string();
    chapter("A sandbox: AWS, machines, a hosted Redis, an app platform");
    let (source, rented, fence) = (name_of(&arguments.source), arguments.source.rented(), arguments.fence());
    let rtt = arguments.rtt.to_string();
    let mut up = vec!["up", "--time-scale", &scale, "--source", &source, "--rtt", &rtt];
    up.extend(arguments.addon_profile());
    seconds.time("sandbox_up", || runner.sandbox(&up))?;
    let config = runner.write_config(rented.vars)?;

    chapter(&format!(
        "The hosted Redis holds {} keys of every type; the app starts",
        arguments.keys
    ));
    seconds.time("seed", || {
        let (keys, databases) = (arguments.keys.to_string(), rented.demo_databases().to_string());
        runner.sandbox(&["app", "seed", "--keys", &keys, "--databases", &databases])
    })?;
    runner.sandbox(&["app", "scale", "web=2", "worker=1"])?;

    chapter("infra check: what stands in the way?");
    if rented.tls != Tls::Off && rented.vars != Vars::TwoPorts {
        runner.infra(&config, &["check", "--pin"])?;
    }
    seconds.time("check", || runner.infra(&config, &["check"]))?;
    chapter("infra up: two machines that follow the hosted Redis, backups running");
    seconds.time("up", || runner.infra(&config, &["up", "--yes"]))?;
    chapter("infra up, once more: nothing to change");
    seconds.time("up_unchanged", || runner.infra(&config, &["up", "--yes"]))?;
    // A copy never has the newest value of a key that is written all the time.
    if rented.may_replicate() {
        chapter("infra verify: is it all there?");
        seconds.time("verify", || runner.infra(&config, &["verify"]))?;
    }

    let switched = move_app(runner, arguments, &config, &mut seconds)?;

    chapter("The app goes on writing, to its own Redis");
    wait_for_writes(runner, arguments.writes)?;
    wait_for_last_farewell(runner, arguments)?;
    chapter("infra status");
    seconds.time("status", || runner.infra(&config, &["status"]))?;
    chapter("The replica is rebooted, and follows again");
    seconds.time("replica_reboot", || reboot_replica(runner, &config))?;

    chapter("The ledgers: is every acknowledged write there, once?");
    runner.sandbox(&["app", "scale", "web=0", "worker=0"])?;
    let judged = seconds.time("ledger", || runner.ledger())?;
    let conditions = Conditions {
        source,
        fence,
        time_scale: arguments.time_scale,
        rtt_ms: arguments.rtt,
    };
    let report = Report::new(conditions, &switched, &judged, seconds)?;
    report.write(&arguments.report_or("demo-report.json"))?;
    Ok(report)
}

fn move_app(runner: &Runner, arguments: &Arguments, config: &std::path::Path, seconds: &mut Seconds) -> Result<Value> {
    let name = ["--confirm", commands::NAME];
    let grace = format!("{}s", arguments.longest_farewell());
    let fence = ["--fence", arguments.fence().name(), "--grace", &grace];
    if arguments.order == Order::PromoteFirst {
        chapter("infra promote: the self-run master takes over; the app waits");
        let mut promote = [&["promote"], &name[..], &fence[..]].concat();
        if arguments.fence() == Fence::Platform {
            // The app stays stopped between the two commands. infra does that only with `--hold`.
            promote.extend(["--hold", "120s"]);
        }
        seconds.time("promote", || runner.infra(config, &promote))?;
    }
    chapter("infra switch-app: REDIS_URL moves");
    seconds.time("switch_app", || {
        runner.infra_json(config, &[&["switch-app"], &name[..], &fence[..]].concat())
    })
}

impl Arguments {
    /// Returns the arguments that leave infra no other fence than the platform, if that is wanted.
    fn addon_profile(&self) -> Vec<&'static str> {
        let denies = self.fence() == Fence::Platform && self.source.rented().profile == Profile::Default;
        if denies {
            vec!["--addon-profile", "no-pause"]
        } else {
            Vec::new()
        }
    }

    /// Returns the fence: the one that was asked for, else the pause where the add-on allows it.
    fn fence(&self) -> Fence {
        let possible = if self.source.rented().may_pause() {
            Fence::Pause
        } else {
            Fence::Platform
        };
        self.fence.unwrap_or(possible)
    }

    /// Returns where the report is written: where it was asked for, else in a file of this name.
    fn report_or(&self, name: &str) -> PathBuf {
        self.report.clone().unwrap_or_else(|| name.into())
    }

    /// Returns how many seconds a process may live after SIGTERM: 30 of the platform's, and one.
    fn longest_farewell(&self) -> u64 {
        (30.0 * self.time_scale).ceil() as u64 + 1
    }
}

impl Fence {
    fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Platform => "platform",
        }
    }
}

fn wait_for_writes(runner: &Runner, wanted: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(180);
    loop {
        let judged = runner.ledger()?;
        let there = judged.figures["acknowledged"]
            .as_u64()
            .context("read the ledger's report: it has no `acknowledged`")?;
        if there >= wanted {
            eprintln!("  {there} writes acknowledged so far");
            return Ok(());
        }
        if Instant::now() > end {
            bail!(
                "wait for {wanted} acknowledged writes: {there} after three minutes; the app's logs are in the sandbox's folder"
            );
        }
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// Waits until every process that was asked to stop is gone. A worker puts a job back in its last
/// seconds, with its old URL; ledgers that are judged earlier do not show its loss.
fn wait_for_last_farewell(runner: &Runner, arguments: &Arguments) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(arguments.longest_farewell() + 5);
    while runner.is_any_process_ending()? {
        if Instant::now() > end {
            bail!("wait for the app's old processes to end: some are still there after their time");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Reboots the replica's machine and waits until Redis there follows the master again.
fn reboot_replica(runner: &Runner, config: &std::path::Path) -> Result<()> {
    let uptime = |status: &Value| status["servers"]["replica"]["run_id"].as_str().map(str::to_string);
    let before =
        uptime(&runner.infra_json(config, &["status"])?).context("read the status: the replica has no run id")?;
    // The connection ends with the machine, so its exit code says nothing.
    let _ = runner.infra(config, &["ssh", "replica", "sudo", "systemctl", "reboot"]);
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        let status = runner.infra_json(config, &["status"])?;
        let replica = &status["servers"]["replica"];
        if uptime(&status).is_some_and(|now| now != before)
            && replica["role"] == "replica"
            && replica["link_up"] == true
        {
            eprintln!("  the replica follows again, {} bytes behind", replica["lag_bytes"]);
            return Ok(());
        }
        if Instant::now() > end {
            bail!("wait for the replica to follow again after its reboot: still not after 90 s; it says {replica}");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn chapter(title: &str) {
    eprintln!("\n── {title}");
}
