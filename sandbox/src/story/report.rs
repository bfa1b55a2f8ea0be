//! The figures of the demo.

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::Fence;
use super::commands::Judged;
use crate::output;

/// Seconds of each command, in the order of their names.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Seconds(BTreeMap<&'static str, f64>);

impl Seconds {
    pub fn time<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        let result = work()?;
        self.0
            .insert(name, (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0);
        Ok(result)
    }
}

/// How the demo was set up.
#[derive(Debug, Clone, Serialize)]
pub struct Conditions {
    /// The kind of hosted Redis that the app left.
    pub source: String,
    /// The fence of the source: its own pause, or the platform.
    pub fence: Fence,
    /// Factor on the platform's delays.
    pub time_scale: f64,
    /// A round trip between infra and everything that it talks to.
    pub rtt_ms: u64,
}

/// The form of `demo-report.json`.
#[derive(Debug, Serialize)]
pub struct Report {
    schema_version: u32,
    #[serde(flatten)]
    conditions: Conditions,
    /// Writes that a Redis confirmed to the app, by the app's own ledgers.
    pub acknowledged: u64,
    pub lost: u64,
    pub duplicated: u64,
    /// Values in Redis that no ledger accounts for.
    pub unexplained: u64,
    /// Writes that failed in the app's eyes.
    pub client_errors: u64,
    /// From the source's pause to the master ready for writes.
    pub fenced_ms: f64,
    /// From the app's last acknowledged write on the old side to its first on the new one.
    pub app_write_gap_ms: f64,
    pub keys_compared: u64,
    pub late_writes: u64,
    /// `replication` or `copy`; `None` if an earlier command compared.
    pub follow: Option<&'static str>,
    /// The watch that told which keys were written meanwhile.
    pub watch: Option<String>,
    pub seconds: Seconds,
    /// The checker's own verdict on the ledgers.
    #[serde(skip)]
    is_clean: bool,
}

impl Report {
    pub fn new(conditions: Conditions, switched: &Value, judged: &Judged, seconds: Seconds) -> Result<Self> {
        let figures = &judged.figures;
        let watch: Option<String> = read(switched, "watch")?;
        Ok(Report {
            schema_version: 1,
            conditions,
            acknowledged: read(figures, "acknowledged")?,
            lost: read(figures, "lost")?,
            duplicated: read(figures, "duplicated")?,
            unexplained: read(figures, "unexplained")?,
            client_errors: read(figures, "client_errors")?,
            fenced_ms: read(switched, "fenced_ms")?,
            app_write_gap_ms: read(figures, "app_write_gap_ms")?,
            keys_compared: read(switched, "keys_compared")?,
            late_writes: read(switched, "late_writes")?,
            follow: watch.as_deref().map(|watch| match watch {
                "replication stream" => "replication",
                _ => "copy",
            }),
            watch,
            seconds,
            is_clean: judged.is_clean,
        })
    }

    /// Returns whether nothing is lost, done twice or unexplained.
    pub fn is_clean(&self) -> bool {
        self.is_clean
    }

    fn verdict(&self) -> String {
        if self.is_clean {
            return "No acknowledged write was lost, none was done twice.".to_owned();
        }
        format!(
            "Not proven: {} acknowledged writes were lost, {} were done twice, {} values are in no ledger. \
             `sandbox ledger check` names them while the sandbox is up (--keep).",
            self.lost, self.duplicated, self.unexplained
        )
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        output::report(path, self)
    }

    pub fn show(&self) -> Result<()> {
        let seconds: Vec<String> = self
            .seconds
            .0
            .iter()
            .map(|(name, seconds)| format!("{name} {seconds:.1}"))
            .collect();
        let lines = [
            String::new(),
            format!("  acknowledged writes   {:>10}", self.acknowledged),
            format!("  lost                  {:>10}", self.lost),
            format!("  done twice            {:>10}", self.duplicated),
            format!("  unexplained           {:>10}", self.unexplained),
            format!("  client errors         {:>10}", self.client_errors),
            format!("  source fenced         {:>10.0} ms", self.fenced_ms),
            format!("  app without writes    {:>10.0} ms", self.app_write_gap_ms),
            format!("  keys compared         {:>10}", self.keys_compared),
            format!("  late writes           {:>10}", self.late_writes),
            format!("  the app left          {:>10}", self.conditions.source),
            format!("  followed by           {:>10}", self.follow.unwrap_or("not told")),
            format!(
                "  watch                 {:>10}",
                self.watch.as_deref().unwrap_or("not told")
            ),
            format!("  seconds               {}", seconds.join("  ")),
            format!(
                "  platform's delays at  {:>10} of the real ones",
                self.conditions.time_scale
            ),
            format!("  infra's round trip    {:>10} ms", self.conditions.rtt_ms),
            String::new(),
            self.verdict(),
        ];
        output::line(&lines.join("\n"))
    }
}

fn read<T: DeserializeOwned>(value: &Value, name: &str) -> Result<T> {
    let read = serde_json::from_value(value[name].clone());
    read.with_context(|| format!("read `{name}`: it is {}", value[name]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(is_clean: bool, unexplained: u64) -> Report {
        let switched = json!({"fenced_ms": 400, "keys_compared": 1_000, "late_writes": 0});
        let judged = Judged {
            is_clean,
            figures: json!({
                "acknowledged": 60_000, "lost": 0, "duplicated": 0, "unexplained": unexplained, "client_errors": 3,
                "app_write_gap_ms": 2_000.0,
            }),
        };
        let conditions = Conditions {
            source: "default".to_owned(),
            fence: Fence::Pause,
            time_scale: 1.0,
            rtt_ms: 80,
        };
        Report::new(conditions, &switched, &judged, Seconds::default()).unwrap()
    }

    #[test]
    fn the_report_names_how_the_source_was_followed_and_watched() {
        let judged = Judged {
            is_clean: true,
            figures: json!({
                "acknowledged": 1, "lost": 0, "duplicated": 0, "unexplained": 0, "client_errors": 0,
                "app_write_gap_ms": 1.0,
            }),
        };
        for (watch, follow) in [
            (json!("replication stream"), Some("replication")),
            (json!("MONITOR"), Some("copy")),
            (json!("none"), Some("copy")),
            (json!(null), None),
        ] {
            let conditions = Conditions {
                source: "cloud".to_owned(),
                fence: Fence::Platform,
                time_scale: 1.0,
                rtt_ms: 0,
            };
            let switched = json!({"fenced_ms": 400, "keys_compared": 1_000, "late_writes": 0, "watch": watch});
            let report = Report::new(conditions, &switched, &judged, Seconds::default()).unwrap();
            assert_eq!(report.follow, follow, "{watch}");
            assert_eq!(report.watch.as_deref(), watch.as_str());
        }
    }

    #[test]
    fn a_value_that_no_ledger_knows_is_no_success_though_nothing_was_lost() {
        let clean = report(true, 0);
        assert!(clean.is_clean() && clean.verdict().starts_with("No acknowledged write was lost"));
        let unexplained = report(false, 2);
        assert!(!unexplained.is_clean());
        assert!(
            unexplained.verdict().contains("2 values are in no ledger"),
            "{}",
            unexplained.verdict()
        );
        assert_eq!(json!(unexplained)["unexplained"], 2);
        assert_eq!(json!(unexplained)["rtt_ms"], 80);
    }
}
