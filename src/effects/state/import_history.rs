//! The history of `infra import verify --watch` in the environment's folder.

use super::Stored;
use super::store::Store;
use crate::effects::cloud::s3::Etag;
use crate::model::error::Result;
use crate::model::import::History;

const FILE: &str = "import-history.json";

/// Returns the history; `None` if there is none yet.
pub async fn read(store: &Store) -> Result<Option<Stored<History>>> {
    store.read(FILE).await
}

/// Writes the history over what was read. Returns `None` if somebody else wrote it since.
pub async fn write(store: &Store, history: &History, over: Option<&Etag>) -> Result<Option<Etag>> {
    store.write(FILE, history, over).await
}

/// Returns the history's address for people.
pub fn url(store: &Store) -> String {
    store.bucket().url(&store.key(FILE))
}
