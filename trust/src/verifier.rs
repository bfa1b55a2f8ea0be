//! The policy, and rustls's verifier that applies it.

use crate::authorities::Authorities;
use crate::certificate::{Certificate, public_key, rsa_bits};
use crate::digest::Digest;
use crate::error::Error;
use crate::refusal::{RSA_BITS, Refusal};
use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::sync::Arc;
use webpki::{Error as Reason, RawPublicKeyEntity};

/// Says which certificate of a server is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Exactly this leaf. Its issuer, names, dates and version do not matter.
    Pin(Digest),
    /// A leaf that one of these authorities vouches for, in date, for the name or address that is dialled.
    Authority(Authorities),
}

impl Trust {
    pub fn client_config(&self) -> Result<ClientConfig, Error> {
        config(self.rule()?)
    }

    /// Judges a chain, leaf first, that was only looked at. The look itself has verified the handshake's signature.
    pub fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: Timestamp,
    ) -> Result<Result<(), Refusal>, Error> {
        let Some((leaf, others)) = chain.split_first() else {
            return Ok(Err(Refusal::Unverifiable {
                why: "there is none".into(),
            }));
        };
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        Ok(self.rule()?.apply(leaf, others, name, now))
    }

    fn rule(&self) -> Result<Rule, Error> {
        match self {
            Trust::Pin(pin) => Ok(Rule::Exactly(*pin)),
            Trust::Authority(authorities) => {
                let store = Arc::new(authorities.store()?);
                let verifier = WebPkiServerVerifier::builder_with_provider(store, provider())
                    .build()
                    .map_err(|error| rustls::Error::General(error.to_string()))?;
                Ok(Rule::Authority(verifier))
            }
        }
    }
}

/// Accepts any certificate whose private key the server has: only to look at it, with no data sent.
pub fn any_certificate() -> Result<ClientConfig, Error> {
    config(Rule::Any)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn config(rule: Rule) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = Verifier {
        rule,
        algorithms: provider.signature_verification_algorithms,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // A resumed session shows no certificate, and one that changed would go unnoticed.
    config.resumption = Resumption::disabled();
    Ok(config)
}

#[derive(Debug)]
enum Rule {
    Any,
    Exactly(Digest),
    Authority(Arc<WebPkiServerVerifier>),
}

impl Rule {
    fn apply(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        match self {
            Rule::Any => Ok(()),
            Rule::Exactly(pinned) => {
                let (pinned, shown) = (*pinned, Digest::of(leaf));
                if shown == pinned {
                    return Ok(());
                }
                Err(Refusal::PinDiffers { shown, pinned })
            }
            Rule::Authority(verifier) => verifier
                .verify_server_cert(leaf, others, name, &[], now)
                .map(|_| ())
                .map_err(|error| refusal(error, leaf, others, name)),
        }
    }
}

fn refusal(
    error: rustls::Error,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    name: &ServerName<'_>,
) -> Refusal {
    let said = Certificate::read(leaf);
    let time = |time: UnixTime| i64::try_from(time.as_secs()).map(Timestamp::from_second);
    let rustls::Error::InvalidCertificate(reason) = &error else {
        return Refusal::Unverifiable { why: error.to_string() };
    };
    match (reason, said) {
        (_, Ok(said)) if said.version < 3 => Refusal::Unverifiable {
            why: format!("it is of version {}, which holds no names", said.version),
        },
        // A signature by a key of an unusable size is refused like a wrong one.
        (CertificateError::BadSignature, _) if let Some(bits) = others.iter().find_map(unusable_bits) => {
            Refusal::KeySize { bits, is_leaf: false }
        }
        // Another issuer may use the name of an authority, so the signature decides.
        (CertificateError::UnknownIssuer | CertificateError::BadSignature, Ok(said)) => {
            Refusal::AuthorityUnknown { issuer: said.issuer }
        }
        (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }, Ok(said)) => {
            Refusal::NameDiffers {
                dialled: name.to_str().into_owned(),
                names: said.names,
            }
        }
        (CertificateError::ExpiredContext { not_after, .. }, _) if let Ok(Ok(ended)) = time(*not_after) => {
            Refusal::Expired { ended }
        }
        (CertificateError::NotValidYetContext { not_before, .. }, _) if let Ok(Ok(begins)) = time(*not_before) => {
            Refusal::NotYetValid { begins }
        }
        (CertificateError::Other(other), _) => Refusal::Unverifiable { why: other.to_string() },
        (reason, _) => Refusal::Unverifiable {
            why: reason.to_string(),
        },
    }
}

#[derive(Debug)]
struct Verifier {
    rule: Rule,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.rule.apply(end_entity, intermediates, server_name, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = public_key(certificate).map_err(unreadable)?;
        let key = RawPublicKeyEntity::try_from(&key).map_err(unreadable)?;
        let algorithms = self.algorithms.mapping.iter();
        let fitting = algorithms
            .filter(|(scheme, _)| *scheme == signed.scheme)
            .map(|(_, all)| *all);
        // TLS 1.2 does not say on which curve the key is: each is tried.
        for algorithm in fitting.flatten() {
            match key.verify_signature(*algorithm, message, signed.signature()) {
                Ok(()) => return Ok(HandshakeSignatureValid::assertion()),
                Err(Reason::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
                Err(_) => break,
            }
        }
        Err(wrong_signature(certificate))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = public_key(certificate).map_err(unreadable)?;
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms).map_err(|error| match error {
            rustls::Error::InvalidCertificate(_) => wrong_signature(certificate),
            other => other,
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The library does not tell a wrong signature from one by a key of a size that it does not use.
fn wrong_signature(certificate: &CertificateDer<'_>) -> rustls::Error {
    match unusable_bits(certificate) {
        Some(bits) => Refusal::KeySize { bits, is_leaf: true }.into(),
        None => Refusal::WrongSignature.into(),
    }
}

fn unusable_bits(certificate: &CertificateDer<'_>) -> Option<usize> {
    rsa_bits(certificate).filter(|bits| !RSA_BITS.contains(bits))
}

fn unreadable(error: impl std::fmt::Display) -> rustls::Error {
    let why = error.to_string();
    Refusal::Unverifiable { why }.into()
}
