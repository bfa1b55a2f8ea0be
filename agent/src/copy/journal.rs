//! Where a sweep stands, on the host's disk. A cursor of SCAN is good for as long as the source's
//! process runs, also over another connection.

use crate::files::replace;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

const NAME: &str = "copy.json";

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Journal {
    /// The source's process; empty if it does not say.
    pub source_run_id: String,
    /// Sweeps of that process that came to their end.
    pub sweeps: u64,
    /// The database that is being read; `None` between two sweeps.
    pub database: Option<u32>,
    pub cursor: u64,
    /// How the names of temporary keys on the target begin; empty until one is chosen.
    #[serde(default)]
    pub temporary: String,
}

impl Journal {
    /// Begins anew for another process of the source.
    pub fn of(run_id: &str, temporary: String) -> Self {
        Journal {
            source_run_id: run_id.into(),
            temporary,
            ..Journal::default()
        }
    }

    /// Reads the journal. One that is missing or damaged begins anew: a sweep more does no harm.
    pub fn load(home: &Path) -> Result<Journal> {
        std::fs::create_dir_all(home).with_context(|| format!("open {}", home.display()))?;
        let text = std::fs::read(home.join(NAME)).unwrap_or_default();
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    }

    pub fn save(&self, home: &Path) -> Result<()> {
        let path = home.join(NAME);
        replace(&path, &serde_json::to_vec(self)?).with_context(|| format!("write {}", path.display()))
    }

    pub fn is_between_sweeps(&self) -> bool {
        self.database.is_none()
    }

    /// Forgets the place in a sweep.
    pub fn begin_again(&mut self) {
        (self.database, self.cursor) = (None, 0);
    }

    pub fn sweep_ended(&mut self) {
        self.sweeps += 1;
        self.begin_again();
    }
}
