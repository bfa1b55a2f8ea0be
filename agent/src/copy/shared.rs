//! The status, shared with the thread that writes it down.

use crate::record::{CopyStatus, SCHEMA_VERSION};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The copy's status, shared with the thread that writes it to disk.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<CopyStatus>>);

impl Shared {
    /// Begins with the trouble of the process before, which stands until a connection does.
    pub fn new(name: &str, path: &Path) -> Self {
        let before = std::fs::read(path).ok();
        let before = before.and_then(|text| serde_json::from_slice::<CopyStatus>(&text).ok());
        Shared(Arc::new(Mutex::new(CopyStatus {
            trouble: before.and_then(|before| before.trouble),
            schema_version: SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION").into(),
            source: name.into(),
            ..CopyStatus::default()
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, CopyStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the status to its file.
    pub fn tell(&self, path: &Path, now: i64) {
        let text = {
            let mut status = self.lock();
            status.at = now;
            serde_json::to_vec(&*status)
        };
        // No sync: the next second writes a new status.
        let new = path.with_extension("json.new");
        let written = text
            .map_err(std::io::Error::other)
            .and_then(|text| std::fs::write(&new, text))
            .and_then(|()| std::fs::rename(&new, path));
        if let Err(error) = written {
            eprintln!("infra-agent: copy: cannot write {}: {error}", path.display());
        }
    }
}
