//! The claims of a certificate about itself, of any version. None of them needs trust.

use crate::error::Error;
use base64::Engine;
use jiff::Timestamp;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use std::net::IpAddr;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::public_key::PublicKey;

/// Characters of a name; longer ones are cut.
const LONGEST: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub issuer: String,
    pub subject: String,
    /// DNS names and addresses of the subjectAltName; empty if there are none.
    pub names: Vec<String>,
    /// notAfter.
    pub ends: Timestamp,
    /// Counted from 1, as people do.
    pub version: u32,
}

impl Certificate {
    pub fn read(der: &[u8]) -> Result<Self, Error> {
        let parsed = parse(der)?;
        let ends = parsed.validity().not_after.timestamp();
        Ok(Certificate {
            issuer: plain(&parsed.issuer().to_string()),
            subject: plain(&parsed.subject().to_string()),
            names: names(&parsed),
            ends: Timestamp::from_second(ends).map_err(|error| Error::NoCertificate(error.to_string()))?,
            version: parsed.version().0.saturating_add(1),
        })
    }

    /// Tells only that it names itself as issuer; the signature is not looked at.
    pub fn self_signed(&self) -> bool {
        self.issuer == self.subject
    }

    /// Negative if it has ended.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        (self.ends.as_second() - now.as_second()).div_euclid(86_400)
    }
}

/// Writes a certificate as PEM text.
pub fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: String = lines.map(|line| format!("{line}\n")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

/// Returns the public key of a certificate, of version 1 too, which webpki does not read.
pub(crate) fn public_key(der: &[u8]) -> Result<SubjectPublicKeyInfoDer<'_>, Error> {
    Ok(SubjectPublicKeyInfoDer::from(
        parse(der)?.tbs_certificate.subject_pki.raw,
    ))
}

/// Returns the bits of a certificate's RSA key; `None` for keys of other kinds.
pub(crate) fn rsa_bits(der: &[u8]) -> Option<usize> {
    let parsed = parse(der).ok()?;
    let Ok(PublicKey::RSA(key)) = parsed.tbs_certificate.subject_pki.parsed() else {
        return None;
    };
    let zeros = key.modulus.iter().take_while(|byte| **byte == 0).count();
    let digits = &key.modulus[zeros..];
    let unused = digits.first().map_or(0, |byte| byte.leading_zeros());
    Some((digits.len() * 8).saturating_sub(usize::try_from(unused).ok()?))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(Error::NoCertificate("more bytes follow it".into())),
        Err(error) => Err(Error::NoCertificate(error.to_string())),
    }
}

fn names(parsed: &X509Certificate) -> Vec<String> {
    let Ok(Some(extension)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName| match name {
        GeneralName::DNSName(name) => Some(plain(name)),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

/// Makes text of an unknown server fit for a terminal.
fn plain(text: &str) -> String {
    let shown = text.chars().take(LONGEST);
    shown.map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(bytes.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}
