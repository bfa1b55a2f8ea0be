//! The measured figures, a number for each round.

use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Debug, Default, Serialize)]
pub struct Figures {
    /// The agent's most resident memory while it ships and makes a base, by megabytes of data.
    pub agent_rss_mb: BTreeMap<u64, Vec<f64>>,
    /// Share of one core, while clients write.
    pub agent_cpu_percent: Vec<f64>,
    /// The difference between a run with the agent and one with a stopped agent, median of pairs;
    /// below zero if within the noise.
    pub agent_added_p99_us: Vec<f64>,
    /// Speed of the agent's base, divided by that of the pipe.
    pub base_ratio_vs_pipe: Vec<f64>,
    /// Megabytes of data a second, from the request for a base to its commit record.
    pub base_mb_per_s: Vec<f64>,
    /// The program at the end of the pipe, which puts the dump.
    pub pipe_program: String,
    /// Time for download, build and load, divided by the engine's time for the load alone.
    pub restore_1gb_ratio: Vec<f64>,
    pub restore_1gb_s: Vec<f64>,
    /// With the default `rpo_s` while something is written every second, and 24 bases.
    pub puts_per_day: Vec<f64>,
}
