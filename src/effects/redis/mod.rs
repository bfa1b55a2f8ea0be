//! Redis from the operator's side: connections that trust exactly one certificate or authority, what a server says of itself, the few commands that
//! steer it, the comparison of two data sets and the tap into a replication stream.
//!
//! A [`Server`] is an address with its credentials and trust; [`Server::connect`] gives a [`Connection`] for commands, [`Server::dial`] the bare
//! stream. [`info`] parses INFO, [`control`] pauses, lists and severs clients and finds out what a host forbids. [`compare`] holds two servers
//! against each other, both ways. [`sample`] takes some keys, [`survey`] looks at what a copy would leave out or choke on, [`clients`] remembers who was connected. [`tap`] follows the stream of writes itself.
//!
//! Deliberately not here: any decision about a cutover (what must hold before what is `cutover`'s business), anything that changes a role
//! (`host` does that, since a role lives in a file first), and any writing of keys: nothing in this room changes a data set.

mod bare;
mod bounded;
pub mod clients;
pub mod compare;
pub mod connection;
pub mod control;
#[cfg(test)]
mod fuzz;
pub mod info;
pub mod key;
pub mod sample;
pub mod server;
pub mod stream;
pub mod survey;
pub mod tap;
#[cfg(test)]
pub(crate) mod testing;
pub mod trust;

pub use bare::logged_in;
pub use clients::Baseline;
pub use connection::Connection;
pub use info::Info;
pub use key::Key;
pub use server::{Server, pinned_certificate, shown_certificate};
pub use survey::Survey;
pub use tap::Tap;
pub use trust::{Digest, Trust};
