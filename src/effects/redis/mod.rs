//! Redis from the operator's side: connections with TLS, INFO, the few commands that control a
//! server, the comparison of two data sets, and the tap of a replication stream.
//!
//! A [`Server`] is an address with credentials and trust. [`Server::connect`] opens a
//! [`Connection`] for commands, [`Server::dial`] the bare stream. [`info`] parses INFO. [`control`]
//! pauses writes, and lists and disconnects clients. [`compare`] compares two servers, [`sample`]
//! takes some keys, [`survey`] finds what a copy would lose, [`clients`] records who was connected,
//! [`tap`] follows the stream of writes.
//!
//! Deliberately not here: decisions about a cutover (see `cutover`), changes of a role (`host`
//! makes them, since a role is in a file first), and writes: no function here changes a data set.

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
