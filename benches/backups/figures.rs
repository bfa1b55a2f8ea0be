//! What was measured, a number for each round.

use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Debug, Default, Serialize)]
pub struct Figures {
    /// The agent's most resident memory while it ships and makes a base, by megabytes of data.
    pub agent_rss_mb: BTreeMap<u64, Vec<f64>>,
    /// Of one core, while clients write.
    pub agent_cpu_percent: Vec<f64>,
    /// With the agent minus with one that stands still, the median of several pairs; below zero where the difference is smaller than the noise.
    pub agent_added_p99_us: Vec<f64>,
    /// Bytes of data a second of the agent's base, by those of the pipe.
    pub base_ratio_vs_pipe: Vec<f64>,
    /// Bytes of data, from the wish for a base to its commit record.
    pub base_mb_per_s: Vec<f64>,
    /// The program that puts what the pipe gives.
    pub pipe_program: String,
    /// Download, build and load, by the engine's own load of what was built.
    pub restore_1gb_ratio: Vec<f64>,
    pub restore_1gb_s: Vec<f64>,
    /// With the default `rpo_s` while something is written every second, and 24 bases.
    pub puts_per_day: Vec<f64>,
}
