//! Looks at every row of a table once.

use super::mend::{Followed, Mender};
use crate::model::error::Result;
use crate::model::size;
use crate::sequences::import::setup::{Ground, Ready};
use crate::ui::Step;

/// Rows that are compared at once.
const ROWS: usize = 2_000;

/// Brings every row to its place. Keys without a row are left: `verify` names them.
pub async fn sweep(ready: &Ready, ground: &Ground, step: &Step) -> Result<Followed> {
    let session = ready.source.connect().await?;
    let mut mender = Mender::connect(ready, ground).await?;
    let mut rows = ground.reader.all(&session).await?;
    let mut followed = Followed::default();
    let mut batch = Vec::new();
    loop {
        let row = rows.next().await?;
        let ended = row.is_none();
        batch.extend(row);
        if batch.len() >= ROWS || ended {
            followed.looked_at += batch.len() as u64;
            // A row that the app keeps writing comes again as a change.
            let mut spots = mender.differing(&batch).await?;
            followed.add(mender.mend(&mut spots).await?);
            batch.clear();
            step.update(format!(
                "{}: {} rows looked at",
                ground.shape.label,
                size::count(followed.looked_at)
            ));
        }
        if ended {
            return Ok(followed);
        }
    }
}
