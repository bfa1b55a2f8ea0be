//! The ranges of a table that workers read at the same time.

use super::setup::Ground;
use crate::effects::postgres::{Bounds, Range, Session};
use crate::model::error::Result;

/// Rows of one range, if they are narrow.
const ROWS: u64 = 20_000;
/// Bytes of one range, about.
const BYTES: u64 = 16 << 20;

/// Walks through a table's keys and gives one range after the other.
pub struct Walk<'a> {
    ground: &'a Ground,
    after: Option<Bounds>,
    rows: u64,
    ended: bool,
}

impl<'a> Walk<'a> {
    /// Begins behind this key, or at the first row.
    ///
    /// With a limit of rows a second a range is so small that its statement ends within a third of
    /// a minute.
    pub fn begin(ground: &'a Ground, after: Option<Bounds>, rows_per_s: Option<u32>) -> Self {
        let relation = &ground.relation;
        let width = (relation.bytes / relation.rows.max(1)).max(1);
        let most = rows_per_s.map_or(ROWS, |limit| u64::from(limit) * 20);
        Walk {
            ground,
            after,
            rows: (BYTES / width).clamp(100, ROWS).min(most.max(1)),
            ended: false,
        }
    }

    /// Returns the next range; the last one has no end, so that it takes every row that is left.
    pub async fn next(&mut self, session: &Session) -> Result<Option<Range>> {
        if self.ended {
            return Ok(None);
        }
        let up_to = if self.ground.has_ranges {
            self.ground
                .reader
                .further(session, self.after.as_ref(), self.rows)
                .await?
        } else {
            None
        };
        self.ended = up_to.is_none();
        let after = std::mem::replace(&mut self.after, up_to.clone());
        Ok(Some(Range { after, up_to }))
    }
}
