//! PostgreSQL from the operator's side: connections with TLS, the schema, and rows as text.
//!
//! A [`Postgres`] is an address with its credentials and trust, [`Postgres::connect`] gives a [`Session`].
//! Sessions print values in one fixed form and cannot change anything. [`schema`] describes tables
//! and queries, [`snapshot`] holds one state of the database for several sessions, [`read`] reads ranges
//! of it, and [`text`] decodes what COPY sends. [`changes`] reads what has changed since, from the server's log.
//!
//! Deliberately not here: what a row becomes in Redis, which `decide::import` says.

pub mod changes;
mod failure;
pub mod read;
pub mod schema;
pub mod server;
pub mod session;
pub mod snapshot;
mod stream;
pub mod text;

pub use read::{Bounds, Range, Reader};
pub use server::Postgres;
pub use session::Session;
pub use snapshot::Snapshot;
