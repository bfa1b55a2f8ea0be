//! `sandbox bench`: measures what the commands take over several whole moves in the sandbox.
//! Each round raises a sandbox, fills the add-on, makes the pair and moves the app while it writes
//! at one of the rates. Reports of the benches `compare`, `import`, `copy` and `backups` are added.

mod backups;
mod figure;
mod report;

use anyhow::{Context, Result, bail};
use clap::Args;
use report::Report;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::source::Vars;
use crate::story::commands::{self, Judged, Runner};

/// Writes a second while the app is moved.
const RATES: [u32; 3] = [0, 1000, 5000];
/// How often each round runs a command that changes nothing.
const REPEATS: usize = 3;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Whole moves at each rate of writing
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Keys that the add-on is filled with
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Factor on the platform's delays, such as a dyno's boot of 2 s
    #[arg(long, default_value_t = 1.0)]
    time_scale: f64,
    /// What the bench `compare` wrote
    #[arg(long, value_name = "FILE")]
    verify: Option<PathBuf>,
    /// What the bench `import` wrote
    #[arg(long, value_name = "FILE")]
    import: Option<PathBuf>,
    /// The report of the bench `copy`
    #[arg(long, value_name = "FILE")]
    copy: Option<PathBuf>,
    /// What the bench `backups` wrote
    #[arg(long, value_name = "FILE")]
    backups: Option<PathBuf>,
    /// Where the report is written
    #[arg(long, default_value = "bench-report.json", value_name = "FILE")]
    report: PathBuf,
}

/// Measures, shows a table and writes the report. Removes the last sandbox in any case.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let runner = Runner::new()?;
    let mut report = Report::new(arguments.rounds, arguments.keys, arguments.time_scale);
    if let Some(path) = &arguments.verify {
        report.take_verify(&written(path)?)?;
    }
    if let Some(path) = &arguments.import {
        report.take_import(&written(path)?)?;
    }
    if let Some(path) = &arguments.copy {
        report.take_copy(&written(path)?)?;
    }
    if let Some(path) = &arguments.backups {
        report.take_backups(&written(path)?)?;
    }
    for round in 1..=arguments.rounds {
        for rate in RATES {
            eprintln!("\n── round {round} of {}, {rate} writes a second", arguments.rounds);
            let measured = measure(&runner, arguments, rate, &mut report);
            let removed = runner.sandbox(&["down"]);
            measured?;
            removed?;
        }
    }
    report.write(&arguments.report)?;
    report.show()?;
    Ok(ExitCode::SUCCESS)
}

/// Reads what another bench wrote.
fn written(path: &Path) -> Result<Value> {
    let doing = || format!("read {}", path.display());
    let text = std::fs::read_to_string(path).with_context(doing)?;
    serde_json::from_str(&text).with_context(doing)
}

fn measure(runner: &Runner, arguments: &Arguments, rate: u32, report: &mut Report) -> Result<()> {
    runner.sandbox(&["up", "--time-scale", &arguments.time_scale.to_string()])?;
    let config = runner.write_config(Vars::One)?;
    runner.sandbox(&["app", "seed", "--keys", &arguments.keys.to_string()])?;
    runner.infra(&config, &["check", "--pin"])?;
    let seconds = timed(|| runner.infra(&config, &["up", "--yes"]))?;
    report.up_fresh_s.add(seconds);
    for _ in 0..REPEATS {
        let seconds = timed(|| runner.infra(&config, &["up", "--yes"]))?;
        report.up_unchanged_s.add(seconds);
        let seconds = timed(|| runner.infra_json(&config, &["status"]).map(drop))?;
        report.status_s.add(seconds);
    }
    if rate > 0 {
        // Two web processes and a worker share the rate.
        runner.sandbox(&["app", "set", &format!("DEMO_WRITES_PER_SECOND={rate}")])?;
        runner.sandbox(&["app", "scale", "web=2", "worker=1"])?;
        wait_for_writes(runner, u64::from(rate) * 3)?;
    }
    let switched = runner.infra_json(
        &config,
        &["switch-app", "--confirm", commands::NAME, "--without-rehearsal"],
    )?;
    let fenced = switched["fenced_ms"]
        .as_f64()
        .context("read what switch-app measured: no `fenced_ms`")?;
    report.fenced_ms.entry(rate).or_default().add(fenced);
    if rate > 0 {
        let judged = judge(runner, &config)?;
        let gap = judged["app_write_gap_ms"]
            .as_f64()
            .context("read the ledger's report: no `app_write_gap_ms`")?;
        report.app_write_gap_ms.entry(rate).or_default().add(gap);
    }
    Ok(())
}

/// Judges the ledgers after some more writes. Figures of a run that lost a write do not count.
fn judge(runner: &Runner, config: &Path) -> Result<Value> {
    runner.infra(config, &["status"])?;
    runner.sandbox(&["app", "scale", "web=0", "worker=0"])?;
    let Judged { is_clean, figures } = runner.ledger()?;
    if !is_clean {
        bail!(
            "measure a move: it lost {} writes, doubled {}, and {} values are unexplained",
            figures["lost"],
            figures["duplicated"],
            figures["unexplained"]
        );
    }
    Ok(figures)
}

fn wait_for_writes(runner: &Runner, wanted: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        // Before its first write the app has no ledger.
        let judged = runner.ledger().ok();
        let there = judged
            .and_then(|judged| judged.figures["acknowledged"].as_u64())
            .unwrap_or(0);
        if there >= wanted {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("wait for {wanted} acknowledged writes: {there} after two minutes");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}
