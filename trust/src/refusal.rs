//! Why a server is not trusted.

use crate::digest::Digest;
use jiff::Timestamp;
use rustls::{CertificateError, OtherError};
use std::error::Error as StdError;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Sizes of RSA keys whose signatures the TLS library verifies.
pub(crate) const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the certificate shown is {shown}, the one pinned is {pinned}")]
    PinDiffers { shown: Digest, pinned: Digest },
    #[error("its certificate was issued by an authority that is not trusted here: {issuer}")]
    AuthorityUnknown { issuer: String },
    #[error("its certificate is not for {dialled} but for {}", listed(names))]
    NameDiffers { dialled: String, names: Vec<String> },
    #[error("its certificate, or one that it depends on, ended at {ended}")]
    Expired { ended: Timestamp },
    #[error("its certificate, or one that it depends on, only begins at {begins}")]
    NotYetValid { begins: Timestamp },
    #[error("it shows a certificate whose private key it does not have: the handshake's signature is wrong")]
    WrongSignature,
    #[error(
        "{} has an RSA key of {bits} bits; one of {} to {} is needed",
        if *is_leaf { "its certificate" } else { "a certificate that its own depends on" },
        RSA_BITS.start(),
        RSA_BITS.end()
    )]
    KeySize { bits: usize, is_leaf: bool },
    #[error("its certificate cannot be verified: {why}")]
    Unverifiable { why: String },
}

impl Refusal {
    /// Finds the refusal in the error of a connection, such as an [`std::io::Error`] or a [`rustls::Error`].
    pub fn of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Refusal> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(refusal) = error.downcast_ref::<Refusal>() {
                return Some(refusal);
            }
            if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) =
                error.downcast_ref()
            {
                return inner.downcast_ref();
            }
            // `source` of an io::Error skips the error that it holds.
            next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
                Some(held) => Some(held),
                None => error.source(),
            };
        }
        None
    }
}

impl From<Refusal> for rustls::Error {
    fn from(refusal: Refusal) -> Self {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "no name at all".to_string(),
        [last] => last.clone(),
        [some @ .., last] if some.len() < 4 => format!("{} and {last}", some.join(", ")),
        more => format!("{} and {} more", more[..3].join(", "), more.len() - 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_found_however_deep_it_lies() {
        let refusal = Refusal::WrongSignature;
        let bare = rustls::Error::from(refusal.clone());
        assert_eq!(Refusal::of(&bare), Some(&refusal));
        let io = std::io::Error::other(bare);
        assert_eq!(Refusal::of(&io), Some(&refusal));
        let twice = std::io::Error::other(io);
        assert_eq!(Refusal::of(&twice), Some(&refusal));
        assert_eq!(Refusal::of(&std::io::Error::from_raw_os_error(111)), None);
        assert_eq!(Refusal::of(&rustls::Error::DecryptError), None);
    }

    #[test]
    fn a_refused_name_lists_a_few_of_those_that_there_are() {
        let names = |count| (0..count).map(|n| format!("n{n}.test")).collect::<Vec<_>>();
        assert_eq!(listed(&names(0)), "no name at all");
        assert_eq!(listed(&names(1)), "n0.test");
        assert_eq!(listed(&names(3)), "n0.test, n1.test and n2.test");
        assert_eq!(listed(&names(40)), "n0.test, n1.test, n2.test and 37 more");
    }
}
