//! Reads changes of tables, from PostgreSQL's log of changes (its WAL).
//!
//! A [`Slot`] is the server's promise to keep the log from a place on; a publication says for which tables. The server decodes the log by its plugin pgoutput and gives
//! messages; [`Decoder`] makes [`Change`]s of them. Both objects are ours alone, and [`Slot::remove`] takes them away again: nothing else in the database is touched.
//!
//! Changes are peeked at and confirmed later, so that one who dies between the two reads them again. It uses SQL alone, not the replication protocol: a hosted server
//! that allows slots allows this too.
//!
//! Deliberately not here: what a change means for Redis (see `decide::import`).

mod decode;
#[cfg(test)]
mod fuzz;
mod message;
mod slot;
mod support;
#[cfg(test)]
mod tests;

pub use decode::Decoder;
pub use message::{Change, Event, Lsn, Relation, RelationColumn, Tuple, Value};
pub use slot::{Retained, Slot};
pub use support::{Facts, TableFacts, facts};
