//! The environment's certificate authority and its hosts' certificates. Pure but for randomness.
//!
//! Certificates name all addresses of clients: endpoint, private address, the user's domain.

use crate::model::error::{Doing, Error, Result};
use crate::model::secret::Secret;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::net::IpAddr;
use x509_parser::prelude::{GeneralName, X509Certificate};

/// Ten years, since every client needs a new authority when it ends.
const AUTHORITY_DAYS: i64 = 3650;
const HOST_DAYS: i64 = 397;
/// Any run of `up` within this many days of the end renews a host's certificate.
pub const RENEW_DAYS: i64 = 60;
/// `up` renews it earlier. So with fewer days left, `up` has not run for a month, and the end is
/// reported as a danger.
pub const WARN_DAYS: i64 = 30;

/// A certificate and its key, both in PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    pub certificate: String,
    pub key: Secret,
}

/// The names and addresses in a host's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subjects {
    pub addresses: Vec<IpAddr>,
    pub domains: Vec<String>,
}

/// Makes a private key for an authority, in PEM.
pub fn authority_key() -> Result<Secret> {
    let key = KeyPair::generate().doing(|| "make the authority's key".into())?;
    Ok(Secret::new(key.serialize_pem()))
}

/// Makes the certificate of an environment's authority, in PEM; `name` is its name for people.
pub fn make_authority(name: &str, key: &Secret, now: Timestamp) -> Result<String> {
    let key = KeyPair::from_pem(key.expose()).doing(|| "read the authority's key".into())?;
    let mut params = parameters(name, now, AUTHORITY_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params
        .self_signed(&key)
        .doing(|| "sign the authority's certificate".into())?;
    Ok(certificate.pem())
}

/// Issues a host's certificate with a new key.
pub fn issue(authority: &Issued, name: &str, subjects: &Subjects, now: Timestamp) -> Result<Issued> {
    issue_for(authority, name, subjects, now, HOST_DAYS)
}

/// Issues a certificate for this many days.
pub fn issue_for(authority: &Issued, name: &str, subjects: &Subjects, now: Timestamp, days: i64) -> Result<Issued> {
    let authority_key = KeyPair::from_pem(authority.key.expose()).doing(|| "read the authority's key".into())?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, authority_key)
        .doing(|| "read the authority's certificate".into())?;
    let key = KeyPair::generate().doing(|| format!("make the TLS key of {name}"))?;
    let mut params = parameters(name, now, days)?;
    params.subject_alt_names = subjects.addresses.iter().copied().map(SanType::IpAddress).collect();
    for domain in &subjects.domains {
        let domain = domain
            .as_str()
            .try_into()
            .doing(|| format!("name {domain} in a certificate"))?;
        params.subject_alt_names.push(SanType::DnsName(domain));
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params
        .signed_by(&key, &issuer)
        .doing(|| format!("sign the certificate of {name}"))?;
    Ok(Issued {
        certificate: certificate.pem(),
        key: Secret::new(key.serialize_pem()),
    })
}

/// Returns why a stored certificate must be replaced; `None` if it is good.
pub fn renewal_reason(certificate: &str, authority: &str, subjects: &Subjects, now: Timestamp) -> Option<String> {
    let Ok(left) = days_left(certificate, now) else {
        return Some("it cannot be read".into());
    };
    if left < RENEW_DAYS {
        return Some(format!("it ends in {left} days"));
    }
    if !issued_by(certificate, authority) {
        return Some("another authority issued it".into());
    }
    let Some(named) = subjects_in(certificate) else {
        return Some("it cannot be read".into());
    };
    let address = (subjects.addresses.iter()).find(|address| !named.addresses.contains(address));
    let domain = (subjects.domains.iter()).find(|domain| !named.domains.contains(domain));
    (address.map(ToString::to_string))
        .or(domain.cloned())
        .map(|missing| format!("it does not name {missing}"))
}

/// Returns the days until a certificate ends; negative if it has ended.
pub fn days_left(certificate: &str, now: Timestamp) -> Result<i64> {
    let not_after = with_parsed(certificate, |parsed| parsed.validity().not_after.timestamp())?;
    Ok((not_after - now.as_second()).div_euclid(86_400))
}

fn subjects_in(certificate: &str) -> Option<Subjects> {
    with_parsed(certificate, |parsed| {
        let names = parsed.subject_alternative_name().ok().flatten()?;
        let mut subjects = Subjects::default();
        for name in &names.value.general_names {
            match name {
                GeneralName::IPAddress(bytes) => subjects.addresses.extend(match bytes.len() {
                    4 => <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from),
                    16 => <[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from),
                    _ => None,
                }),
                GeneralName::DNSName(domain) => subjects.domains.push((*domain).to_string()),
                _ => {}
            }
        }
        Some(subjects)
    })
    .ok()
    .flatten()
}

/// Compares the names only; the engine and its clients check the signature.
fn issued_by(certificate: &str, authority: &str) -> bool {
    let issuer = with_parsed(certificate, |parsed| parsed.issuer().to_string());
    let subject = with_parsed(authority, |parsed| parsed.subject().to_string());
    let identifiers = (
        with_parsed(certificate, authority_key_identifier),
        with_parsed(authority, subject_key_identifier),
    );
    let same_name = matches!((issuer, subject), (Ok(issuer), Ok(subject)) if issuer == subject);
    same_name && matches!(identifiers, (Ok(named), Ok(own)) if named.is_some() && named == own)
}

fn authority_key_identifier(certificate: &X509Certificate) -> Option<Vec<u8>> {
    use x509_parser::extensions::ParsedExtension;
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(found) => found.key_identifier.as_ref().map(|id| id.0.to_vec()),
            _ => None,
        })
}

fn subject_key_identifier(certificate: &X509Certificate) -> Option<Vec<u8>> {
    use x509_parser::extensions::ParsedExtension;
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(found) => Some(found.0.to_vec()),
            _ => None,
        })
}

fn with_parsed<T>(certificate: &str, read: impl FnOnce(&X509Certificate) -> T) -> Result<T> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).doing(|| "read a certificate".into())?;
    let parsed = pem.parse_x509().doing(|| "read a certificate".into())?;
    Ok(read(&parsed))
}

fn parameters(name: &str, now: Timestamp, days: i64) -> Result<CertificateParams> {
    let today = now.to_zoned(TimeZone::UTC).date();
    // A day early, since the clocks of hosts and clients differ.
    let (begin, end) = (shifted(today, -1)?, shifted(today, days)?);
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(begin.year().into(), begin.month() as u8, begin.day() as u8);
    params.not_after = rcgen::date_time_ymd(end.year().into(), end.month() as u8, end.day() as u8);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn shifted(date: Date, days: i64) -> Result<Date> {
    date.checked_add(Span::new().days(days))
        .map_err(|error| Error::failed("compute when a certificate ends").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T00:00:00Z".parse().unwrap()
    }

    fn an_authority() -> Issued {
        let key = authority_key().unwrap();
        let certificate = make_authority("infra demo production", &key, now()).unwrap();
        Issued { certificate, key }
    }

    fn later(days: i64) -> Timestamp {
        Timestamp::from_second(now().as_second() + days * 86_400).unwrap()
    }

    #[test]
    fn a_certificate_is_kept_until_it_nears_its_end_or_an_address_changes() {
        let authority = an_authority();
        let addresses = Subjects {
            addresses: vec!["10.77.144.2".parse().unwrap(), "10.77.16.4".parse().unwrap()],
            domains: vec!["redis.example.test".into()],
        };
        let issued = issue(&authority, "master", &addresses, now()).unwrap();
        let reason =
            |subjects: &Subjects, at| renewal_reason(&issued.certificate, &authority.certificate, subjects, at);
        assert_eq!(reason(&addresses, now()), None);
        assert_eq!(reason(&addresses, later(336)), None);
        assert_eq!(reason(&addresses, later(338)), Some("it ends in 59 days".into()));
        let moved = Subjects {
            addresses: vec!["10.77.144.3".parse().unwrap()],
            ..addresses.clone()
        };
        assert_eq!(reason(&moved, now()), Some("it does not name 10.77.144.3".into()));
        let renamed = Subjects {
            domains: vec!["other.example.test".into()],
            ..addresses.clone()
        };
        assert_eq!(
            reason(&renamed, now()),
            Some("it does not name other.example.test".into())
        );
        let other = an_authority();
        let found = renewal_reason(&issued.certificate, &other.certificate, &addresses, now());
        assert_eq!(found, Some("another authority issued it".into()));
        assert_eq!(
            renewal_reason("?", &authority.certificate, &addresses, now()),
            Some("it cannot be read".into())
        );
    }

    #[test]
    fn the_key_never_shows() {
        let authority = an_authority();
        assert!(!format!("{authority:?}").contains("PRIVATE"));
    }
}
