//! The certificates of the authorities that may issue a server's.

use crate::error::Error;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

#[derive(Clone, PartialEq, Eq)]
pub struct Authorities(Arc<[CertificateDer<'static>]>);

impl Authorities {
    /// Takes the certificates as they are, such as those of the system's own store.
    pub fn of(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        Authorities(certificates.into_iter().collect())
    }

    /// Reads PEM text; at least one certificate must be in it.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let certificates = CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::NoPem)?;
        if certificates.is_empty() {
            return Err(Error::NoAuthority);
        }
        Ok(Authorities::of(certificates))
    }

    /// Reads a PEM file, such as `/etc/ssl/certs/ca-certificates.crt`.
    pub fn from_file(file: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(file).map_err(|cause| Error::File {
            file: file.display().to_string(),
            cause,
        })?;
        Authorities::from_pem(&text)
    }

    /// Returns both together.
    pub fn and(&self, more: &Authorities) -> Self {
        Authorities::of(self.0.iter().chain(more.0.iter()).cloned())
    }

    /// Systems ship a few authorities that rustls cannot use; those are left out.
    pub(crate) fn store(&self) -> Result<RootCertStore, Error> {
        let mut store = RootCertStore::empty();
        match store.add_parsable_certificates(self.0.iter().cloned()) {
            (0, _) => Err(Error::NoAuthority),
            _ => Ok(store),
        }
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_a_certificate_is_refused() {
        for text in [
            "",
            "no PEM",
            "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n",
        ] {
            assert!(Authorities::from_pem(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_store_of_unusable_certificates_is_refused() {
        let unusable = Authorities::of([CertificateDer::from(b"?".to_vec())]);
        assert!(matches!(unusable.store(), Err(Error::NoAuthority)));
    }
}
