//! Decides which certificate of a TLS server is accepted, for operator and agent alike.
//!
//! A [`Trust`] is either the pin of one leaf certificate, or authorities and the name that is dialled. [`Trust::client_config`] makes the rustls
//! client of it, [`Trust::judge`] applies it to a chain that was only looked at. A [`Refusal`] says why a server is not trusted;
//! [`Refusal::of`] takes it out of the error of a connection. [`Certificate`] reads what a certificate says of itself.
//!
//! The handshake's signature is always verified with the leaf's public key, whatever the certificate's version and the policy.
//!
//! Deliberately not here: connections, and where a system keeps its authorities.

mod authorities;
mod certificate;
mod digest;
mod error;
mod policy;
mod refusal;
mod verifier;

pub use authorities::Authorities;
pub use certificate::{Certificate, pem};
pub use digest::Digest;
pub use error::Error;
pub use policy::Policy;
pub use refusal::Refusal;
pub use verifier::{Trust, any_certificate};
