//! The form of `bench-report.json`, and its table.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

use super::backups::Backups;
use super::figure::Figure;
use crate::output;

#[derive(Debug, Default, Serialize)]
pub struct Report {
    schema_version: u32,
    rounds: u32,
    /// In the add-on, before the app writes.
    keys: u64,
    /// Factor on the platform's delays.
    time_scale: f64,
    /// From an empty account to both hosts in sync and the first backup read back, seconds.
    pub up_fresh_s: Figure,
    pub up_unchanged_s: Figure,
    pub status_s: Figure,
    /// Small values, two servers and the tool on the same two cores.
    verify_keys_per_s: Figure,
    /// GET a second, by redis-benchmark from one of these servers in the same run.
    read_limit_keys_per_s: Figure,
    /// At two million keys, megabytes resident.
    verify_peak_mb: Figure,
    /// Narrow rows of PostgreSQL that become keys, both servers and the tool on the same two cores.
    import_rows_per_s: Figure,
    /// Rows that are compared with their keys, and keys with their rows.
    import_verify_rows_per_s: Figure,
    /// At a million rows, megabytes resident.
    import_peak_mb: Figure,
    /// Small values over TLS, both servers, the tunnel and the copy on the same two cores.
    copy_keys_per_s: Figure,
    /// The same from a source 20 ms away.
    copy_far_keys_per_s: Figure,
    /// The same where every key expires: strings, and hashes.
    copy_expiring_keys_per_s: Figure,
    copy_expiring_hashes_per_s: Figure,
    /// Keys that `redis-cli --pipe` writes in a second, of values that were dumped before.
    copy_pipe_keys_per_s: Figure,
    /// Values of 100 kB.
    copy_mb_per_s: Figure,
    /// Over all of these, and a string and a hash of 512 MB, megabytes resident.
    copy_peak_mb: Figure,
    /// From a write on the source to the same on the master, at most, at 2,000 writes a second and at 5,000.
    copy_lag_ms: Figure,
    copy_busy_lag_ms: Figure,
    /// Time of the source's processor that MONITOR takes for a command, and what it sends.
    monitor_us_per_command: Figure,
    monitor_bytes_per_command: Figure,
    /// From the source's pause to the master ready for writes, by writes a second.
    pub fenced_ms: BTreeMap<u32, Figure>,
    /// From the app's last acknowledged write on the old side to its first on the new, by rate.
    pub app_write_gap_ms: BTreeMap<u32, Figure>,
    /// The cost and the speed of backups.
    #[serde(flatten)]
    backups: Backups,
}

impl Report {
    pub fn new(rounds: u32, keys: u64, time_scale: f64) -> Self {
        Report {
            schema_version: 1,
            rounds,
            keys,
            time_scale,
            ..Report::default()
        }
    }

    /// Takes the runs that the bench `compare` wrote.
    pub fn take_verify(&mut self, verify: &Value) -> Result<()> {
        take(
            verify,
            [
                ("verify_keys_per_s", &mut self.verify_keys_per_s),
                ("read_limit_keys_per_s", &mut self.read_limit_keys_per_s),
                ("verify_peak_mb", &mut self.verify_peak_mb),
            ],
        )
    }

    /// Takes the runs that the bench `import` wrote.
    pub fn take_import(&mut self, import: &Value) -> Result<()> {
        take(
            import,
            [
                ("import_rows_per_s", &mut self.import_rows_per_s),
                ("import_verify_rows_per_s", &mut self.import_verify_rows_per_s),
                ("import_peak_mb", &mut self.import_peak_mb),
            ],
        )
    }

    /// Takes the runs that the bench `copy` wrote.
    pub fn take_copy(&mut self, copy: &Value) -> Result<()> {
        take(
            copy,
            [
                ("copy_keys_per_s", &mut self.copy_keys_per_s),
                ("copy_far_keys_per_s", &mut self.copy_far_keys_per_s),
                ("copy_expiring_keys_per_s", &mut self.copy_expiring_keys_per_s),
                ("copy_expiring_hashes_per_s", &mut self.copy_expiring_hashes_per_s),
                ("copy_pipe_keys_per_s", &mut self.copy_pipe_keys_per_s),
                ("copy_mb_per_s", &mut self.copy_mb_per_s),
                ("copy_peak_mb", &mut self.copy_peak_mb),
                ("copy_lag_ms", &mut self.copy_lag_ms),
                ("copy_busy_lag_ms", &mut self.copy_busy_lag_ms),
                ("monitor_us_per_command", &mut self.monitor_us_per_command),
                ("monitor_bytes_per_command", &mut self.monitor_bytes_per_command),
            ],
        )
    }

    /// Takes the runs that the bench `backups` wrote.
    pub fn take_backups(&mut self, report: &Value) -> Result<()> {
        self.backups = Backups::read(report)?;
        Ok(())
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        output::report(path, self)
    }

    pub fn show(&self) -> Result<()> {
        let mut lines = vec![String::new()];
        let mut line = |name: &str, figure: &Figure| lines.push(format!("  {name:<34}{}", figure.shown()));
        line("up_fresh_s", &self.up_fresh_s);
        line("up_unchanged_s", &self.up_unchanged_s);
        line("status_s", &self.status_s);
        line("verify_keys_per_s", &self.verify_keys_per_s);
        line("read_limit_keys_per_s", &self.read_limit_keys_per_s);
        line("verify_peak_mb", &self.verify_peak_mb);
        line("import_rows_per_s", &self.import_rows_per_s);
        line("import_verify_rows_per_s", &self.import_verify_rows_per_s);
        line("import_peak_mb", &self.import_peak_mb);
        line("copy_keys_per_s", &self.copy_keys_per_s);
        line("copy_far_keys_per_s", &self.copy_far_keys_per_s);
        line("copy_expiring_keys_per_s", &self.copy_expiring_keys_per_s);
        line("copy_expiring_hashes_per_s", &self.copy_expiring_hashes_per_s);
        line("copy_pipe_keys_per_s", &self.copy_pipe_keys_per_s);
        line("copy_mb_per_s", &self.copy_mb_per_s);
        line("copy_peak_mb", &self.copy_peak_mb);
        line("copy_lag_ms at 2000 writes/s", &self.copy_lag_ms);
        line("copy_lag_ms at 5000 writes/s", &self.copy_busy_lag_ms);
        line("monitor_us_per_command", &self.monitor_us_per_command);
        line("monitor_bytes_per_command", &self.monitor_bytes_per_command);
        for (name, by_rate) in [
            ("fenced_ms", &self.fenced_ms),
            ("app_write_gap_ms", &self.app_write_gap_ms),
        ] {
            for (rate, figure) in by_rate {
                line(&format!("{name} at {rate} writes/s"), figure);
            }
        }
        for (name, figure) in self.backups.named() {
            line(&name, figure);
        }
        output::line(&lines.join("\n"))
    }
}

/// Adds the runs of each figure.
fn take<const N: usize>(measured: &Value, figures: [(&str, &mut Figure); N]) -> Result<()> {
    for (name, figure) in figures {
        let runs = measured[name]
            .as_array()
            .with_context(|| format!("read the report of a bench: no `{name}`"))?;
        runs.iter()
            .filter_map(Value::as_f64)
            .for_each(|value| figure.add(value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_runs_of_an_import_are_taken_and_half_a_report_is_none() {
        let mut report = Report::new(1, 10, 1.0);
        let runs =
            json!({"import_rows_per_s": [50_000.0], "import_verify_rows_per_s": [40_000.0], "import_peak_mb": [33.0]});
        report.take_import(&runs).unwrap();
        assert_eq!(serde_json::to_value(&report).unwrap()["import_peak_mb"]["median"], 33.0);
        assert!(report.take_import(&json!({"import_peak_mb": [1.0]})).is_err());
    }
}
