//! The figures of backups in the report; the bench `backups` measures them.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

use super::figure::Figure;

/// Written and read under the same names. A figure that was not measured is empty.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Backups {
    /// The agent's most resident memory while it ships and makes a base, by megabytes of data.
    agent_rss_mb: BTreeMap<u64, Figure>,
    /// Share of one core at 5,000 writes a second, upload included.
    agent_cpu_percent: Figure,
    /// The agent's addition to the 99th percentile at that rate; below zero if within the noise.
    agent_added_p99_us: Figure,
    /// Speed of a base against `redis-cli --rdb - | zstd -1 | aws s3 cp -`; above 1 is faster.
    base_ratio_vs_pipe: Figure,
    /// Megabytes of data a second, from the request for a base to its commit record.
    base_mb_per_s: Figure,
    /// The program that puts the pipe's output.
    pipe_program: String,
    /// Time to download, build and load about a gigabyte, divided by the load alone.
    restore_1gb_ratio: Figure,
    restore_1gb_s: Figure,
    /// At steady writes with the default `rpo_s`, with the objects of hourly bases of 100 MB.
    puts_per_day: Figure,
}

impl Backups {
    pub fn read(report: &Value) -> Result<Self> {
        Backups::deserialize(report).context("read the report of backups")
    }

    /// Returns the figures under the names of the table.
    pub fn named(&self) -> Vec<(String, &Figure)> {
        let by_size = self
            .agent_rss_mb
            .iter()
            .map(|(size, figure)| (format!("agent_rss_mb at {size} MB of data"), figure));
        let rest = [
            ("agent_cpu_percent", &self.agent_cpu_percent),
            ("agent_added_p99_us", &self.agent_added_p99_us),
            ("base_ratio_vs_pipe", &self.base_ratio_vs_pipe),
            ("base_mb_per_s", &self.base_mb_per_s),
            ("restore_1gb_ratio", &self.restore_1gb_ratio),
            ("restore_1gb_s", &self.restore_1gb_s),
            ("puts_per_day", &self.puts_per_day),
        ];
        by_size
            .chain(rest.map(|(name, figure)| (name.to_string(), figure)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn runs_are_read_and_written_as_median_and_spread() {
        let runs = json!({
            "agent_rss_mb": {"100": [20.0, 22.0], "600": [21.0]}, "agent_cpu_percent": [1.0], "agent_added_p99_us": [-3.0, 5.0],
            "base_ratio_vs_pipe": [2.0], "base_mb_per_s": [90.0], "pipe_program": "boto3", "restore_1gb_ratio": [], "restore_1gb_s": [],
            "puts_per_day": [17280.0],
        });
        let backups = Backups::read(&runs).unwrap();
        let written = serde_json::to_value(&backups).unwrap();
        assert_eq!(written["agent_rss_mb"]["100"]["median"], 21.0);
        assert_eq!(written["agent_added_p99_us"]["min"], -3.0);
        assert!(written["restore_1gb_ratio"].is_null());
        assert_eq!(backups.named().len(), 9);
        assert!(
            Backups::read(&json!({"agent_rss_mb": {}})).is_err(),
            "half a report is none"
        );
    }
}
