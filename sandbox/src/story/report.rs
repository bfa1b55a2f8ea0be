//! What the demo measured.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::Fence;

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

/// The form of `demo-report.json`.
#[derive(Debug, Serialize)]
pub struct Report {
    schema_version: u32,
    /// How nothing could be written to the source: by its own pause, or by the platform.
    fence: Fence,
    /// Writes that a Redis confirmed to the app, by the app's own ledgers.
    pub acknowledged: u64,
    pub lost: u64,
    pub duplicated: u64,
    /// Writes that failed in the app's eyes.
    pub client_errors: u64,
    /// From the source's pause to the master ready for writes.
    pub fenced_ms: f64,
    /// From the app's last acknowledged write on the old side to its first on the new, by the ledgers.
    pub app_write_gap_ms: f64,
    pub keys_compared: u64,
    pub late_writes: u64,
    /// Factor on the platform's delays.
    pub time_scale: f64,
    pub seconds: Seconds,
}

impl Report {
    pub fn new(fence: Fence, switched: &Value, judged: &Value, time_scale: f64, seconds: Seconds) -> Result<Self> {
        let count = |value: &Value, name: &str| {
            value[name]
                .as_u64()
                .with_context(|| format!("read `{name}`: it is {}", value[name]))
        };
        let number = |value: &Value, name: &str| {
            value[name]
                .as_f64()
                .with_context(|| format!("read `{name}`: it is {}", value[name]))
        };
        Ok(Report {
            schema_version: 1,
            fence,
            acknowledged: count(judged, "acknowledged")?,
            lost: count(judged, "lost")?,
            duplicated: count(judged, "duplicated")?,
            client_errors: count(judged, "client_errors")?,
            fenced_ms: number(switched, "fenced_ms")?,
            app_write_gap_ms: number(judged, "app_write_gap_ms")?,
            keys_compared: count(switched, "keys_compared")?,
            late_writes: count(switched, "late_writes")?,
            time_scale,
            seconds,
        })
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("write the report as JSON")?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
    }

    pub fn show(&self) -> Result<()> {
        let seconds: Vec<String> = self
            .seconds
            .0
            .iter()
            .map(|(name, seconds)| format!("{name} {seconds:.1}"))
            .collect();
        let verdict = if self.lost == 0 && self.duplicated == 0 {
            "No acknowledged write was lost, none was done twice.".to_owned()
        } else {
            format!(
                "{} acknowledged writes were lost, {} were done twice.",
                self.lost, self.duplicated
            )
        };
        let lines = [
            String::new(),
            format!("  acknowledged writes   {:>10}", self.acknowledged),
            format!("  lost                  {:>10}", self.lost),
            format!("  done twice            {:>10}", self.duplicated),
            format!("  client errors         {:>10}", self.client_errors),
            format!("  source fenced         {:>10.0} ms", self.fenced_ms),
            format!("  app without writes    {:>10.0} ms", self.app_write_gap_ms),
            format!("  keys compared         {:>10}", self.keys_compared),
            format!("  late writes           {:>10}", self.late_writes),
            format!("  seconds               {}", seconds.join("  ")),
            format!("  platform's delays at  {:>10} of the real ones", self.time_scale),
            String::new(),
            verdict,
        ];
        crate::output::line(&lines.join("\n"))
    }
}
