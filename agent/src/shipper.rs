//! The state of the thread that follows the log, makes segments and declares gaps.

use crate::clock;
use crate::engine::Engine;
use crate::generation::Place;
use crate::memory::Memory;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::spool::Spool;
use crate::watch::Watch;
use anyhow::{Context, Result};
use infra_agent::manifest::{FOLDER, Manifest};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

pub struct Shipper {
    pub settings: Settings,
    pub engine: Engine,
    pub spool: Arc<Spool>,
    pub shared: Arc<Shared>,
    pub memory: Memory,
    /// Notes how increments begin; `None` if the kernel refuses.
    pub watch: Option<Watch>,
    /// The folder that is watched.
    pub place: Option<Place>,
    /// Since when it has not been clear whether the log is in force.
    pub unsure_since: Option<Instant>,
    /// Tells which seconds have passed.
    pub passed: clock::Passed,
    /// True if the files on the disk cannot begin a timeline.
    pub needs_rewrite: bool,
}

impl Shipper {
    pub fn folder(&self) -> PathBuf {
        self.settings.data.join(FOLDER)
    }

    pub fn manifest(&self) -> Result<Manifest> {
        Manifest::read(&self.settings.data).context("read the engine's list of its files")
    }
}
