//! Follows a table by a column that grows with each change.

use super::mend::{Followed, Mender};
use crate::effects::postgres::Session;
use crate::model::error::{Error, Result};
use crate::model::import::{Column, ColumnKind};
use std::time::Duration;

/// How far behind the largest number a row may become visible, for a column that is no time.
const NUMBERS: u64 = 10_000;

pub struct Growing<'a> {
    mender: Mender<'a>,
    session: Session,
    column: Column,
    lookback: Duration,
}

impl<'a> Growing<'a> {
    pub fn new(mender: Mender<'a>, session: Session, column: &str, lookback: Duration) -> Result<Self> {
        let found = mender.ground.relation.columns.iter().find(|known| known.name == column);
        let label = &mender.ground.shape.label;
        let column = found.cloned().ok_or_else(|| {
            let names = mender.ground.relation.columns.iter().map(|column| column.name.as_str());
            let error = Error::usage(format!("follow {label}: it has no column {column}"));
            match crate::decide::import::shape::nearest(column, names) {
                Some(near) => error.hint(format!("did you mean {near}?")),
                None => error.hint("correct `grows` in import.yml"),
            }
        })?;
        if !matches!(column.kind, ColumnKind::Integer | ColumnKind::Time(_)) {
            return Err(Error::usage(format!(
                "follow {label}: the column {} is neither a time nor a number",
                column.name
            ))
            .hint("name a column such as updated_at in `grows`"));
        }
        Ok(Growing {
            mender,
            session,
            column,
            lookback,
        })
    }

    pub fn label(&self) -> &str {
        &self.mender.ground.shape.label
    }

    /// Brings the rows up to date that changed since `high`. Returns the new largest value, and true if nothing is left.
    pub async fn look(&mut self, high: Option<&str>) -> Result<(Followed, Option<String>, bool)> {
        let reader = &self.mender.ground.reader;
        // A row that is committed after this question has a larger value, or one within the lookback.
        let newest = reader.largest(&self.session, &self.column.name).await?;
        let since = high.map(|high| (high, self.back()));
        let rows = reader.since(&self.session, &self.column, since).await?;
        let (followed, is_clear) = self.mender.mend_rows(rows, |_| {}).await?;
        // Rows that the app kept writing are looked at again from the same value on.
        let high = if is_clear {
            newest.or(high.map(str::to_owned))
        } else {
            high.map(str::to_owned)
        };
        Ok((followed, high, is_clear))
    }

    /// Returns the lookback as SQL subtracts it.
    fn back(&self) -> String {
        if matches!(self.column.kind, ColumnKind::Time(_)) {
            format!("interval '{} milliseconds'", self.lookback.as_millis())
        } else {
            NUMBERS.to_string()
        }
    }
}
