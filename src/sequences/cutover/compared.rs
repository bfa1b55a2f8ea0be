//! The state before the fence, for either way to follow.

use super::gate::{self, copied};
use super::watch::Watch;
use crate::effects::redis::compare::Comparison;
use crate::model::error::Result;

pub enum Compared {
    Followed(gate::Baseline),
    Copied(copied::Baseline),
}

impl Compared {
    pub fn comparison(&self) -> &Comparison {
        match self {
            Compared::Followed(baseline) => &baseline.comparison,
            Compared::Copied(baseline) => &baseline.comparison,
        }
    }

    /// Compares newly written keys again, where the stream says which those are.
    pub async fn shrink(&mut self) -> Result<()> {
        match self {
            Compared::Followed(baseline) => baseline.shrink().await,
            Compared::Copied(_) => Ok(()),
        }
    }

    /// Returns true if it is known which keys were written since the comparison.
    pub fn is_watched(&self) -> bool {
        match self {
            Compared::Followed(_) => true,
            Compared::Copied(baseline) => baseline.is_watched(),
        }
    }

    /// Returns the name of what tells which keys are written, for reports.
    pub fn watch_name(&self) -> &'static str {
        match self {
            Compared::Followed(_) => "replication stream",
            Compared::Copied(baseline) if baseline.is_watched() => "MONITOR",
            Compared::Copied(_) => "none",
        }
    }

    pub fn watch(&self) -> Option<&Watch> {
        match self {
            Compared::Followed(baseline) => Some(baseline.watch()),
            Compared::Copied(_) => None,
        }
    }

    /// Returns the watch, for the time after the promotion.
    pub fn into_watch(self) -> Option<Watch> {
        match self {
            Compared::Followed(baseline) => Some(baseline.into_watch()),
            Compared::Copied(_) => None,
        }
    }
}
