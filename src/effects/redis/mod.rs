//! Redis from the operator's side: connections with TLS, INFO, the few commands that control a
//! server, the comparison of two data sets, and the tap of a replication stream.
//!
//! A [`Server`] is an address with its credentials and trust; [`Server::connect`] gives a [`Connection`] for commands, [`Server::dial`] the bare
//! stream. What goes over it is read by [`wire`]. [`control`] pauses, lists and disconnects clients and finds out what a host forbids. [`compare`] holds two servers
//! against each other, both ways. [`sample`] takes some keys, [`survey`] looks at what a copy would leave out or choke on, [`clients`] remembers who was connected. [`tap`] follows the stream of writes itself.
//!
//! Deliberately not here: decisions about a cutover (see `cutover`), changes of a role (`host`
//! makes them, since a role is in a file first), and writes: only [`entries`] changes a data set.

mod bare;
mod bounded;
#[cfg(test)]
mod certificate_tests;
pub mod clients;
pub mod compare;
pub mod connection;
pub mod control;
pub mod entries;
pub mod exists;
#[cfg(test)]
mod fuzz;
pub mod key;
pub mod login;
pub mod sample;
pub mod server;
pub mod stream;
pub mod survey;
pub mod tap;
#[cfg(test)]
pub(crate) mod testing;
pub mod trust;
mod written;

pub use bare::logged_in;
pub use clients::Baseline;
pub use connection::Connection;
pub use key::Key;
pub use server::{Server, shown_certificate, shown_chain, takes_connections};
pub use survey::Survey;
pub use tap::Tap;
pub use trust::{Certificate, Digest, Trust};
pub use written::count_writes;
