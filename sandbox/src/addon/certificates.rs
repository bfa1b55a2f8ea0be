//! The certificates that hosted Redis shows.

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SigningKey,
};
use rustls::pki_types::CertificateDer;

/// The TLS of an add-on: none, or the certificate that it shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Tls {
    /// A leaf below a self-signed root, both sent, as Heroku's
    #[default]
    On,
    /// No TLS
    Off,
    /// A leaf that signed itself
    SelfSigned,
    /// A leaf below an intermediate of the sandbox's authority, which this computer's operator and the machines trust
    Authority,
    /// As `on`, with a leaf of version 1
    V1,
}

/// The certificate and key of an authority, in PEM.
#[derive(Clone, Debug)]
pub struct Authority {
    pub certificate: String,
    pub key: String,
}

/// Certificate and key of a server, in PEM.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The leaf, and what is sent after it.
    pub chain: String,
    pub key: String,
    /// The authority that a client verifies it by; `None` for version 1, which has no names to verify.
    pub authority: Option<String>,
}

/// Makes what a server of these names shows; `None` without TLS. `authority`: who issues for [`Tls::Authority`].
pub fn make(tls: Tls, names: &[String], authority: Option<&Authority>) -> Result<Option<Shown>> {
    match tls {
        Tls::Off => return Ok(None),
        Tls::SelfSigned => self_signed(names),
        Tls::On => below_a_root(names, false),
        Tls::V1 => below_a_root(names, true),
        Tls::Authority => match authority {
            Some(authority) => below_an_intermediate(names, authority),
            None => bail!("there is no authority to issue it"),
        },
    }
    .map(Some)
    .context("make the hosted Redis's certificate")
}

fn self_signed(names: &[String]) -> Result<Shown> {
    let own = rcgen::generate_simple_self_signed(names)?;
    Ok(Shown {
        chain: own.cert.pem(),
        key: own.signing_key.serialize_pem(),
        authority: Some(own.cert.pem()),
    })
}

fn below_a_root(names: &[String], of_version_1: bool) -> Result<Shown> {
    let root = CertifiedIssuer::self_signed(issuing("Hosted Redis root")?, KeyPair::generate()?)?;
    let (leaf, key) = leaf(names, &root)?;
    let leaf = if of_version_1 {
        without_extensions(&leaf, root.key())?
    } else {
        leaf
    };
    Ok(Shown {
        chain: format!("{}{}", trust::pem(&leaf), root.pem()),
        key: key.serialize_pem(),
        authority: (!of_version_1).then(|| root.pem()),
    })
}

fn below_an_intermediate(names: &[String], authority: &Authority) -> Result<Shown> {
    let root = Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
    let intermediate = CertifiedIssuer::signed_by(issuing("infra sandbox intermediate")?, KeyPair::generate()?, &root)?;
    let (leaf, key) = leaf(names, &intermediate)?;
    Ok(Shown {
        chain: format!("{}{}", trust::pem(&leaf), intermediate.pem()),
        key: key.serialize_pem(),
        authority: Some(authority.certificate.clone()),
    })
}

fn issuing(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new([])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

fn leaf(names: &[String], issuer: &Issuer<'_, KeyPair>) -> Result<(CertificateDer<'static>, KeyPair)> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "hosted redis");
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.der().clone(), key))
}

/// Returns an authority that may have intermediates.
pub fn authority(name: &str) -> Result<Authority> {
    let mut params = issuing(name)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let own = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    Ok(Authority {
        certificate: own.pem(),
        key: own.key().serialize_pem(),
    })
}

/// The tags of DER that begin the parts of a certificate.
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// Makes it one of version 1, as `openssl x509 -req` does unless it is given extensions.
pub fn without_extensions(certificate: &[u8], signer: &impl SigningKey) -> Result<CertificateDer<'static>> {
    let parts = elements(content(certificate)?)?;
    let [to_sign, algorithm, _] = parts.as_slice() else {
        bail!("a certificate has {} parts", parts.len());
    };
    let kept: Vec<&[u8]> = elements(content(to_sign)?)?
        .into_iter()
        .filter(|element| !matches!(element.first(), Some(&VERSION | &EXTENSIONS)))
        .collect();
    let to_sign = wrapped(SEQUENCE, &kept.concat());
    let signature = wrapped(BIT_STRING, &[&[0], signer.sign(&to_sign)?.as_slice()].concat());
    let whole = [to_sign.as_slice(), algorithm, signature.as_slice()].concat();
    Ok(wrapped(SEQUENCE, &whole).into())
}

/// Splits a row of DER elements.
fn elements(mut row: &[u8]) -> Result<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !row.is_empty() {
        let (header, length) = measured(row)?;
        let (element, rest) = row
            .split_at_checked(header + length)
            .context("an element is cut short")?;
        found.push(element);
        row = rest;
    }
    Ok(found)
}

fn content(element: &[u8]) -> Result<&[u8]> {
    let (header, length) = measured(element)?;
    element.get(header..header + length).context("an element is cut short")
}

/// Returns how long an element's header and its content are.
fn measured(element: &[u8]) -> Result<(usize, usize)> {
    let first = usize::from(*element.get(1).context("an element has no length")?);
    if first < 0x80 {
        return Ok((2, first));
    }
    let header = 2 + (first & 0x7f);
    let bytes = element.get(2..header).context("an element has no length")?;
    let length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    Ok((header, length))
}

fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut element = vec![tag];
    match significant {
        [] => element.push(0),
        [short] if *short < 0x80 => element.push(*short),
        long => {
            element.push(0x80 | u8::try_from(long.len()).unwrap_or_default());
            element.extend(long);
        }
    }
    element.extend(content);
    element
}
