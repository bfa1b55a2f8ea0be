//! The story of a pair that lives on: the app moves onto it, the role of master moves as planned,
//! the instances grow, the master is lost, the replica takes over by force, and the pair is whole
//! again. Figures for each step go to `life-report.json`.
//!
//! Its app connects again when its connection is closed, and repeats what was not acknowledged.

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::commands::{self, Runner};
use super::{Arguments, chapter};
use crate::output;

const CONFIRM: [&str; 2] = ["--confirm", commands::NAME];
/// The writes a second of the whole story, and those of the second planned failover.
const RATE: u32 = 2_000;
const FAST_RATE: u32 = 5_000;
/// Acknowledged writes between two steps.
const BETWEEN: u64 = 4_000;
const PATIENCE: Duration = Duration::from_secs(180);
/// A process that is ended leaves what was not acknowledged to the next one, and a worker its jobs
/// until its lease is over.
const CLIENT: [&str; 3] = ["DEMO_SHUTDOWN_SECONDS=1", "DEMO_REPEATS=1", "DEMO_LEASE_SECONDS=5"];
const REPEATED_WITHIN: Duration = Duration::from_secs(20);

/// The form of `life-report.json`.
#[derive(Debug, Serialize)]
pub struct Report {
    schema_version: u32,
    story: &'static str,
    acknowledged: u64,
    steps: Vec<Step>,
    /// Commands of the story that this build of infra does not have.
    skipped: Vec<String>,
}

/// The effect of a step on the app.
#[derive(Debug, Serialize)]
pub struct Step {
    name: &'static str,
    /// True for a step in which nothing may be lost.
    planned: bool,
    writes_per_second: u32,
    /// Acknowledged writes that this step lost.
    lost: u64,
    /// Writes of which the app did not learn whether they were done, although it sent them again.
    errors: u64,
    /// Writes that were done twice.
    duplicated: u64,
    /// Writes that the app sent again, as their answer had not come.
    repeated: u64,
    /// Those of them that had been done: a connection was closed that owed their answer.
    found_done: u64,
    /// How long infra kept writes back, by its own figures; `None` where it did not.
    pause_ms: Option<u64>,
    /// From the app's last write before the pause, or from the proven fence, to its next
    /// acknowledged one.
    first_write_s: Option<f64>,
    /// The longest time in which no write of the app was acknowledged.
    longest_gap_ms: f64,
    /// For a forced failover: how long the fence took, apart from the failover.
    fence_ms: Option<u64>,
    failover_ms: Option<u64>,
    /// For a forced failover: from how many seconds before it on writes may be missing, as it said.
    missing_s: Option<u64>,
    seconds: f64,
}

impl Report {
    /// Returns whether planned steps lost nothing and showed the app no error, and the forced one
    /// lost no more than it said.
    pub fn is_clean(&self) -> bool {
        self.steps.iter().all(|step| {
            if step.planned {
                return step.lost + step.errors + step.duplicated + step.found_done == 0;
            }
            let bound = step
                .missing_s
                .map_or(0, |seconds| seconds * u64::from(step.writes_per_second));
            // A lost write may be done anew, which shows as a double.
            step.lost <= bound && step.duplicated <= step.lost
        })
    }

    pub fn show(&self) -> Result<()> {
        output::line("")?;
        output::line(HEADING)?;
        for step in &self.steps {
            output::line(&step.line())?;
        }
        for line in self.steps.iter().filter_map(Step::parts) {
            output::line(&line)?;
        }
        for skipped in &self.skipped {
            output::line(&format!("  not told: {skipped}"))?;
        }
        output::line(if self.is_clean() {
            "  No planned step lost a write or showed the app an error, and the forced one lost no more than it said."
        } else {
            "  Not proven: a step lost or doubled writes, or showed the app an error. `sandbox ledger check` names them while the sandbox is up (--keep)."
        })
    }
}

const HEADING: &str = "  step                       lost  errors  repeated  pause ms  first write s  longest gap ms";

impl Step {
    /// Returns the step's line below the heading.
    fn line(&self) -> String {
        let shown = |number: Option<String>| number.unwrap_or_else(|| "-".into());
        format!(
            "  {:<26} {:>4}  {:>6}  {:>8}  {:>8}  {:>13}  {:>14.0}",
            self.name,
            self.lost,
            self.errors,
            self.repeated,
            shown(self.pause_ms.map(|pause| pause.to_string())),
            shown(self.first_write_s.map(|seconds| format!("{seconds:.2}"))),
            self.longest_gap_ms
        )
    }

    /// Returns a line on the parts of a forced failover; `None` for every other step.
    fn parts(&self) -> Option<String> {
        let (fence, failover) = (self.fence_ms?, self.failover_ms?);
        let first = self
            .first_write_s
            .map_or_else(|| "-".into(), |seconds| format!("{seconds:.2}"));
        let missing = self.missing_s.map_or_else(|| "-".into(), |seconds| seconds.to_string());
        Some(format!(
            "  {}: the fence was proven after {fence} ms; from there {failover} ms to the address at the new master, \
             and {first} s to the app's first write; writes of {missing} s may be missing",
            self.name
        ))
    }
}

struct Telling<'a> {
    runner: &'a Runner,
    config: &'a Path,
    writes_per_second: u32,
    lost: u64,
    duplicated: u64,
    steps: Vec<Step>,
    skipped: Vec<String>,
}

pub fn tell(runner: &Runner, arguments: &Arguments) -> Result<Report> {
    let scale = arguments.time_scale.to_string();
    chapter("A sandbox; the app moves onto the pair");
    runner.sandbox(&["up", "--time-scale", &scale])?;
    let config = runner.write_config(arguments.source.rented().vars)?;
    runner.sandbox(&["app", "seed", "--keys", &arguments.keys.to_string()])?;
    runner.sandbox(&[&["app", "set"], &CLIENT[..]].concat())?;
    runner.sandbox(&["app", "scale", "web=2", "worker=1"])?;
    runner.infra(&config, &["check", "--pin"])?;
    runner.infra(&config, &["up", "--yes"])?;
    let mut telling = Telling {
        runner,
        config: &config,
        writes_per_second: RATE,
        lost: 0,
        duplicated: 0,
        steps: Vec::new(),
        skipped: Vec::new(),
    };
    telling.story()?;
    runner.sandbox(&["app", "scale", "web=0", "worker=0"])?;
    let judged = runner.ledger()?;
    let report = Report {
        schema_version: 1,
        story: "life",
        acknowledged: judged.figures["acknowledged"].as_u64().unwrap_or_default(),
        steps: telling.steps,
        skipped: telling.skipped,
    };
    output::report(&arguments.report_or("life-report.json"), &report)?;
    Ok(report)
}

impl Telling<'_> {
    fn story(&mut self) -> Result<()> {
        self.wait_for_writes()?;
        chapter("The move");
        self.step("move", true, &[&["switch-app"], &CONFIRM[..]].concat())?;
        chapter("A planned failover");
        self.step("planned failover", true, &[&["promote"], &CONFIRM[..]].concat())?;
        chapter("A planned failover at 5,000 writes a second");
        self.write_at(FAST_RATE)?;
        self.step("planned failover, fast", true, &[&["promote"], &CONFIRM[..]].concat())?;
        self.write_at(RATE)?;
        chapter("The instances grow");
        if self.runner.knows(self.config, "resize") {
            self.step(
                "resize",
                true,
                &[&["resize", "--type", "t3.small"], &CONFIRM[..]].concat(),
            )?;
        } else {
            self.skipped.push("resize".into());
        }
        chapter("The master is lost, and the replica takes over by force");
        let master = self.runner.instance_of("master")?;
        let lose = |runner: &Runner| runner.power_off(&master);
        let force = [&["promote", "--force"], &CONFIRM[..]].concat();
        self.step_after(lose, "forced failover", false, &force)?;
        chapter("The lost host is replaced");
        self.runner.terminate(&master)?;
        self.step("replaced", true, &["up", "--yes"])
    }

    /// Runs a command while the app writes, and notes what the app saw of it.
    fn step(&mut self, name: &'static str, planned: bool, command: &[&str]) -> Result<()> {
        self.step_after(|_| Ok(()), name, planned, command)
    }

    /// The same, after something has happened that the command is the answer to.
    fn step_after(
        &mut self,
        happen: impl FnOnce(&Runner) -> Result<()>,
        name: &'static str,
        planned: bool,
        command: &[&str],
    ) -> Result<()> {
        // A gap is between two writes, so the window has some from before.
        let since = now_us()? - 500_000;
        happen(self.runner)?;
        let begun = Instant::now();
        let answer = self.runner.infra_json(self.config, command)?;
        let seconds = begun.elapsed().as_secs_f64();
        self.wait_for_farewells()?;
        self.wait_for_writes()?;
        let judged = self.settled_since(since)?;
        let number = |value: &Value| value.as_f64().map(|number| number.round() as u64);
        let lost = number(&judged["lost"]).context("read the ledger: it tells no loss")?;
        let duplicated = number(&judged["duplicated"]).context("read the ledger: it tells no double")?;
        let gap = judged["longest_gap_ms"].as_f64().unwrap_or_default();
        let first_write_s = match answer["fenced_at"].as_str() {
            Some(fenced) => Some(self.first_write_after(fenced)?),
            None if planned && name != "replaced" => Some(gap / 1e3),
            None => None,
        };
        let step = Step {
            name,
            planned,
            writes_per_second: self.writes_per_second,
            lost: lost.saturating_sub(self.lost),
            errors: number(&judged["client_errors"]).context("read the ledger: it tells no errors")?,
            duplicated: duplicated.saturating_sub(self.duplicated),
            repeated: number(&judged["repeated"]).unwrap_or_default(),
            found_done: number(&judged["found_done"]).unwrap_or_default(),
            pause_ms: pause_of(&answer).and_then(number),
            first_write_s,
            longest_gap_ms: gap,
            fence_ms: number(&answer["fence_ms"]),
            failover_ms: number(&answer["failover_ms"]),
            missing_s: number(&answer["missing_s"]),
            seconds: (seconds * 1000.0).round() / 1000.0,
        };
        eprintln!("{HEADING}\n{}", step.line());
        self.steps.push(step);
        (self.lost, self.duplicated) = (lost, duplicated);
        Ok(())
    }

    /// Judges the ledgers once everything that is repeated was. What still failed then is an error.
    fn settled_since(&self, since_us: u64) -> Result<Value> {
        let end = Instant::now() + REPEATED_WITHIN;
        loop {
            let judged = self.runner.ledger_since(since_us)?.figures;
            if judged["client_errors"] == 0 || Instant::now() > end {
                return Ok(judged);
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Returns the seconds from a time until the app's first write that was acknowledged after it.
    fn first_write_after(&self, time: &str) -> Result<f64> {
        let time: jiff::Timestamp = time.parse().with_context(|| format!("read the time {time:?}"))?;
        let since_us = u64::try_from(time.as_microsecond()).context("read the time of the fence")?;
        let judged = self.runner.ledger_since(since_us)?.figures;
        let first = judged["first_acknowledged_us"].as_u64();
        let first = first.context("read the ledger: no write was acknowledged after the fence")?;
        Ok((first - since_us) as f64 / 1e6)
    }

    fn write_at(&mut self, rate: u32) -> Result<()> {
        self.runner
            .sandbox(&["app", "set", &format!("DEMO_WRITES_PER_SECOND={rate}")])?;
        self.writes_per_second = rate;
        self.wait_for_farewells()?;
        self.wait_for_writes()
    }

    fn wait_for_writes(&self) -> Result<()> {
        let acknowledged = || -> Result<u64> {
            let judged = self.runner.ledger()?;
            let count = judged.figures["acknowledged"].as_u64();
            count.context("read the ledger's report: it has no `acknowledged`")
        };
        let wanted = acknowledged()? + BETWEEN;
        let end = Instant::now() + PATIENCE;
        while acknowledged()? < wanted {
            if Instant::now() > end {
                bail!(
                    "wait for {BETWEEN} more acknowledged writes: they did not come within {} s",
                    PATIENCE.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }

    /// Waits until no process of an earlier release is left: its last writes count too.
    fn wait_for_farewells(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.runner.is_any_process_ending()? {
            if Instant::now() > end {
                bail!("wait for the app's old processes to end: some are still there");
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }
}

/// Returns how long a command kept writes back, by its own figure; of a resize that of its failover.
fn pause_of(answer: &Value) -> Option<&Value> {
    let figures = [
        &answer["pause_ms"],
        &answer["fenced_ms"],
        &answer["failovers"][0]["pause_ms"],
    ];
    figures.into_iter().find(|figure| figure.is_number())
}

fn now_us() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
    u64::try_from(since.as_micros()).context("read the clock")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(planned: bool, lost: u64, missing_s: Option<u64>) -> Step {
        Step {
            name: "a step",
            planned,
            writes_per_second: 100,
            lost,
            errors: 0,
            duplicated: 0,
            repeated: 0,
            found_done: 0,
            pause_ms: None,
            first_write_s: None,
            longest_gap_ms: 1.0,
            fence_ms: None,
            failover_ms: None,
            missing_s,
            seconds: 1.0,
        }
    }

    #[test]
    fn a_planned_step_may_lose_nothing_and_a_forced_one_what_it_said() {
        let clean = |steps| {
            let report = Report {
                schema_version: 1,
                story: "life",
                acknowledged: 1,
                steps,
                skipped: Vec::new(),
            };
            report.is_clean()
        };
        assert!(clean(vec![step(true, 0, None), step(false, 300, Some(3))]));
        assert!(!clean(vec![step(true, 1, None)]));
        assert!(!clean(vec![step(false, 301, Some(3))]));
        assert!(!clean(vec![step(false, 1, None)]), "its bound is not known");
        let shown = |change: fn(&mut Step)| {
            let mut shown = step(true, 0, None);
            change(&mut shown);
            clean(vec![shown])
        };
        assert!(shown(|step| step.repeated = 64), "repeated, and then acknowledged");
        assert!(!shown(|step| step.errors = 1));
        assert!(!shown(|step| step.duplicated = 1));
        assert!(!shown(|step| step.found_done = 1), "its connection owed an answer");
    }

    #[test]
    fn the_pause_of_every_kind_of_step_is_found() {
        let answers = [
            json!({"pause_ms": 112}),
            json!({"fenced_ms": 112, "pause_ms": null}),
            json!({"failovers": [{"pause_ms": 112}]}),
        ];
        for answer in answers {
            assert_eq!(pause_of(&answer), Some(&json!(112)), "{answer}");
        }
        assert_eq!(pause_of(&json!({"fence_ms": 1, "failovers": []})), None);
    }

    #[test]
    fn a_forced_failover_tells_its_fence_and_its_failover_apart() {
        let forced = Step {
            fence_ms: Some(1_012),
            failover_ms: Some(116),
            first_write_s: Some(0.754),
            ..step(false, 0, Some(63))
        };
        assert_eq!(
            forced.parts().unwrap(),
            "  a step: the fence was proven after 1012 ms; from there 116 ms to the address at the new master, \
             and 0.75 s to the app's first write; writes of 63 s may be missing"
        );
        assert_eq!(step(true, 0, None).parts(), None);
    }
}
