//! Looks at every row of a table once.

use super::mend::{Followed, Mender};
use crate::model::error::Result;
use crate::model::size;
use crate::sequences::import::setup::{Ground, Ready};
use crate::ui::Step;

/// Brings every row to its place. Keys without a row are left: `verify` names them.
pub async fn sweep(ready: &Ready, ground: &Ground, step: &Step) -> Result<Followed> {
    let session = ready.source.connect().await?;
    let mut mender = Mender::connect(ready, ground).await?;
    let rows = ground.reader.all(&session).await?;
    let told = |followed: Followed| {
        step.update(format!(
            "{}: {} rows looked at",
            ground.shape.label,
            size::count(followed.looked_at)
        ));
    };
    // A row that the app keeps writing comes again as a change.
    let (followed, _) = mender.mend_rows(rows, told).await?;
    Ok(followed)
}
