//! A server's stream of writes, watched in the background: which keys it touched, when, and whether it touched any.

use crate::error::Result;
use crate::redis::Server;
use crate::redis::compare::Key;
use jiff::Timestamp;
use std::time::Duration;

/// What was written since the last time it was asked for.
pub enum Dirty {
    Keys(Vec<Key>),
    /// A command that touches more than can be listed; which.
    Everything(String),
}

/// What the stream showed since the mark.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub writes: u64,
    pub first_write_at: Option<Timestamp>,
    pub last_write_at: Option<Timestamp>,
    /// The first keys that were written, for people.
    pub keys: Vec<String>,
}

pub struct Watch {}

impl Watch {
    /// Continues the stream after `offset` of the replication id; nothing where the server cannot.
    pub async fn begin(_server: &Server, _replid: &str, _offset: u64) -> Result<Option<Watch>> {
        Ok(None)
    }

    pub async fn reach(&self, _offset: u64, _deadline: Duration) -> Result<()> {
        Ok(())
    }

    pub fn unbroken(&self) -> Result<()> {
        Ok(())
    }

    pub fn take_dirty(&self) -> Dirty {
        Dirty::Keys(vec![])
    }

    pub fn put_back(&self, _dirty: Dirty) {}

    pub fn seen(&self) -> Seen {
        Seen::default()
    }

    /// Counts anew from here on.
    pub fn mark(&self) {}
}

impl Dirty {
    pub fn is_nothing(&self) -> bool {
        matches!(self, Dirty::Keys(keys) if keys.is_empty())
    }
}
