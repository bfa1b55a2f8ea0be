//! Decides which certificate is accepted: one of an authority of ours, or exactly the pinned one.
//!
//! System authorities are not used: hosted Redis is mostly self-signed.

use crate::model::error::{Doing, Error, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Says which certificate of a server is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Signed by one of these authorities (PEM) for the host or address that was dialled.
    Authority(String),
    /// Exactly this certificate, whatever its names and dates are.
    Pin(Digest),
}

/// SHA-256 of a certificate in DER form; written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(certificate_der: &[u8]) -> Self {
        Digest(sha2::Sha256::digest(certificate_der).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    /// Accepts upper and lower case, and colons between bytes as openssl writes them.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!(
                "read the certificate pin {text:?}: it is not sha256: and 64 hexadecimal digits"
            ))
            .hint("let `infra check --pin` write it")
        };
        let digits: Vec<u8> = text
            .trim()
            .strip_prefix("sha256:")
            .ok_or_else(wrong)?
            .bytes()
            .filter(|byte| *byte != b':')
            .map(|byte| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()
            .ok_or_else(wrong)?;
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect();
        match bytes.try_into() {
            Ok(bytes) if digits.len() == 64 => Ok(Digest(bytes)),
            _ => Err(wrong()),
        }
    }
}

impl Trust {
    pub(super) fn client_config(&self) -> Result<ClientConfig> {
        match self {
            Trust::Authority(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.doing(|| "read the authority's certificate".into())?;
                    roots
                        .add(certificate)
                        .doing(|| "use the authority's certificate".into())?;
                }
                if roots.is_empty() {
                    return Err(Error::failed("read the authority's certificate: there is none in it"));
                }
                Ok(builder()?.with_root_certificates(roots).with_no_client_auth())
            }
            Trust::Pin(digest) => exactly(Some(*digest)),
        }
    }
}

/// Accepts any certificate: only to look at it, with no data sent over the connection.
pub(super) fn any_certificate() -> Result<ClientConfig> {
    exactly(None)
}

fn exactly(expected: Option<Digest>) -> Result<ClientConfig> {
    let verifier = ExactCertificate {
        expected,
        provider: provider(),
    };
    Ok(builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .doing(|| "set up TLS".into())
}

/// Accepts one certificate by its digest (or any, if `None`) if the server has its private key.
#[derive(Debug)]
struct ExactCertificate {
    expected: Option<Digest>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ExactCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = Digest::of(end_entity);
        match self.expected {
            Some(expected) if expected != shown => Err(rustls::Error::General(format!(
                "the certificate shown is {shown}, the one pinned is {expected}"
            ))),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pin_survives_being_written_and_read(content in any::<Vec<u8>>()) {
            let digest = Digest::of(&content);
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        }

        #[test]
        fn reading_a_pin_never_panics(text in ".*") {
            let _ = text.parse::<Digest>();
        }
    }

    #[test]
    fn a_pin_in_the_form_of_openssl_is_read() {
        let colons =
            "sha256:E3:B0:C4:42:98:FC:1C:14:9A:FB:F4:C8:99:6F:B9:24:27:AE:41:E4:64:9B:93:4C:A4:95:99:1B:78:52:B8:55";
        assert_eq!(colons.parse::<Digest>().unwrap(), Digest::of(b""));
    }

    #[test]
    fn a_short_or_unnamed_pin_is_a_usage_error() {
        let whole = Digest::of(b"").to_string();
        for wrong in [
            &whole[..whole.len() - 1],
            &whole[..whole.len() - 2],
            &whole[7..],
            "sha256:",
            "",
            "md5:00",
        ] {
            assert_eq!(
                wrong.parse::<Digest>().unwrap_err().kind(),
                crate::model::error::Kind::Usage,
                "{wrong}"
            );
        }
    }
}
