//! One state of the database, which several sessions read at the same time.

use super::{Postgres, Session};
use crate::model::error::{Error, Result};

pub struct Snapshot {
    server: Postgres,
    /// Holds the snapshot: it is there as long as its transaction.
    session: Session,
    name: String,
}

impl Snapshot {
    pub async fn take(server: &Postgres) -> Result<Snapshot> {
        let session = server.connect().await?;
        session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let name = session.value("SELECT pg_export_snapshot()").await?;
        let name = name.ok_or_else(|| Error::failed(format!("take a snapshot of {server}: it gave none")))?;
        Ok(Snapshot {
            server: server.clone(),
            session,
            name,
        })
    }

    /// Returns the session that holds the snapshot, which sees it too.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Returns one more session that sees this state and no other.
    pub async fn join(&self) -> Result<Session> {
        let session = self.server.connect().await?;
        let name = super::text::literal(&self.name);
        session
            .run(&format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {name}"
            ))
            .await?;
        Ok(session)
    }
}
