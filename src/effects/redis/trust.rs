//! Says which certificate of a server is accepted. The crate `trust` verifies it, on hosts too.

use crate::model::error::{Doing, Result};
use ::trust::{Authorities, Policy, Refusal};
use jiff::Timestamp;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use std::sync::OnceLock;

pub use ::trust::{Certificate, Digest};

/// Says which certificate of a server is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Signed by one of these authorities (PEM) for the host or address that was dialled.
    Authority(String),
    /// Exactly this leaf. Its issuer, names and dates do not matter.
    Pin(Digest),
    /// Signed by an authority of the system's store, for the host or address that was dialled.
    Public,
}

impl From<Policy> for Trust {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Pin(pin) => Trust::Pin(pin),
            Policy::Verify => Trust::Public,
        }
    }
}

impl Trust {
    /// Returns the TLS client that accepts such a certificate and no other.
    pub fn client_config(&self) -> Result<ClientConfig> {
        self.verifiable()?.client_config().doing(|| "set up TLS".into())
    }

    /// Judges a chain, leaf first, that `host` has shown.
    pub fn judge(&self, chain: &[CertificateDer<'_>], host: &str) -> Result<std::result::Result<(), Refusal>> {
        let doing = || format!("judge the certificate of {host}");
        let name = ServerName::try_from(host).doing(doing)?;
        self.verifiable()?.judge(chain, &name, Timestamp::now()).doing(doing)
    }

    fn verifiable(&self) -> Result<::trust::Trust> {
        Ok(match self {
            Trust::Pin(pin) => ::trust::Trust::Pin(*pin),
            Trust::Public => ::trust::Trust::Authority(system().clone()),
            Trust::Authority(pem) => {
                let authorities = Authorities::from_pem(pem).doing(|| "read the authority's certificate".into())?;
                ::trust::Trust::Authority(authorities)
            }
        })
    }
}

/// Returns what to try if a server is refused; `None` if it was only looked at.
pub(super) fn remedy(trust: Option<&Trust>, refusal: &Refusal) -> &'static str {
    match (trust, refusal) {
        (_, Refusal::WrongSignature) => {
            "somebody else may answer at this address with a copy of the certificate: find out who, before anything is sent there"
        }
        (_, Refusal::KeySize { .. }) => {
            "ask the provider for a certificate with another key; a pin does not help, since the server cannot prove with this one who it is"
        }
        (Some(Trust::Pin(_)), _) => {
            "if the provider says that it changed its certificate, run `infra check --pin`; else find out who changed it before trusting the new one"
        }
        (Some(Trust::Public), Refusal::Expired { .. } | Refusal::NotYetValid { .. }) => {
            "see whether this computer's clock is right; if it is, only the provider can renew the certificate"
        }
        (Some(Trust::Public), _) => {
            "run `infra check --pin` and compare what it writes with what the provider says: a pinned certificate needs no authority"
        }
        (Some(Trust::Authority(_)), _) => {
            "the server's certificate is not the trusted one: find out who changed it before trusting the new one"
        }
        (None, _) => "ask the provider which certificate the server should show",
    }
}

/// Reads the system's authorities once; `SSL_CERT_FILE` names others.
fn system() -> &'static Authorities {
    static SYSTEM: OnceLock<Authorities> = OnceLock::new();
    SYSTEM.get_or_init(|| Authorities::of(rustls_native_certs::load_native_certs().certs))
}

/// Accepts any certificate whose key the server has: only to look at it, with no data sent over the connection.
pub(super) fn any_certificate() -> Result<ClientConfig> {
    ::trust::any_certificate().doing(|| "set up TLS".into())
}

/// Reads a certificate that a server shows, in DER form.
pub fn read(certificate: &[u8]) -> Result<Certificate> {
    Certificate::read(certificate).doing(|| "read a certificate".into())
}
