//! The supervisor's report on itself: one JSON file in the state folder, replaced as a whole.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::files::write_private;
use crate::machines::MachineStatus;
use crate::paths::Paths;

/// How far the sandbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Starting,
    Ready,
    Failed,
}

/// One part of the sandbox beside its machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub name: String,
    /// The address at which the part answers.
    pub address: String,
    /// The process of the part, if it has one of its own.
    pub pid: Option<u32>,
    /// The reason why the part has ended, if it has.
    pub problem: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The run's id.
    pub id: String,
    /// The supervisor's process; `None` until `up` has started it.
    pub supervisor: Option<i32>,
    pub phase: Phase,
    /// The present step of the start; after a failure its reason.
    pub detail: String,
    pub parts: Vec<Part>,
    /// Round trip between what `sandbox run` runs and everything else, in milliseconds; 0 for none.
    #[serde(default)]
    pub rtt_ms: u64,
    pub machines: BTreeMap<String, MachineStatus>,
}

impl Record {
    /// Returns the record of a run that is about to start.
    pub fn new(id: String) -> Self {
        Self {
            id,
            supervisor: None,
            phase: Phase::Starting,
            detail: "supervisor".to_owned(),
            parts: Vec::new(),
            rtt_ms: 0,
            machines: BTreeMap::new(),
        }
    }

    /// Returns the record in the state folder, if there is one that can be read.
    pub fn read(paths: &Paths) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(paths.record()).ok()?).ok()
    }

    pub fn write(&self, paths: &Paths) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("write down the sandbox's record")?;
        write_private(&paths.record(), &text)
    }
}
