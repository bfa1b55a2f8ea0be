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
