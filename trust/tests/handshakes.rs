//! Real handshakes in memory, with servers that show every kind of certificate, and impostors.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection, SupportedProtocolVersion};
use sandbox::addon::{Authority, Shown, Tls, authority, make_certificate};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trust::{Authorities, Certificate, Digest, Policy, Refusal, Trust, any_certificate, pem};

const NAME: &str = "redis.test";
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
const ALL: [Tls; 4] = [Tls::On, Tls::SelfSigned, Tls::Authority, Tls::V1];

fn shown(tls: Tls) -> Shown {
    shown_by(tls, &authority("an authority").unwrap())
}

fn shown_by(tls: Tls, authority: &Authority) -> Shown {
    make_certificate(tls, &[NAME.into()], Some(authority)).unwrap().unwrap()
}

fn chain(shown: &Shown) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(shown.chain.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap()
}

fn pin(shown: &Shown) -> Trust {
    Trust::Pin(Digest::of(&chain(shown)[0]))
}

fn authorities(pem: &str) -> Trust {
    Trust::Authority(Authorities::from_pem(pem).unwrap())
}

fn server(chain: Vec<CertificateDer<'static>>, key: &str, version: &'static SupportedProtocolVersion) -> ServerConfig {
    let provider = rustls::crypto::ring::default_provider();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let pair = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(pair))
}

/// Carries the bytes of both sides until the client is done or refuses.
fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<HandshakeKind, rustls::Error> {
    let name = ServerName::try_from(NAME).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        let refused = server.process_new_packets().is_err();
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
        assert!(!refused, "the server refused the client");
    }
    assert_eq!(server.protocol_version(), client.protocol_version());
    Ok(client.handshake_kind().unwrap())
}

fn meet(
    trust: &Trust,
    shown: &Shown,
    key: &str,
    version: &'static SupportedProtocolVersion,
) -> Result<HandshakeKind, Refusal> {
    let client = Arc::new(trust.client_config().unwrap());
    handshake(&client, &Arc::new(server(chain(shown), key, version)))
        .map_err(|error| Refusal::of(&error).unwrap_or_else(|| panic!("{error}")).clone())
}

fn other_keys() -> [String; 3] {
    let kinds = [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ];
    kinds.map(|kind| rcgen::KeyPair::generate_for(kind).unwrap().serialize_pem())
}

#[test]
fn a_pin_accepts_its_leaf_whatever_issued_it_and_whatever_its_version_is() {
    for (tls, version) in ALL.into_iter().flat_map(|tls| VERSIONS.map(|version| (tls, version))) {
        let shown = shown(tls);
        meet(&pin(&shown), &shown, &shown.key, version).unwrap_or_else(|why| panic!("{tls:?} {version:?}: {why}"));
        let client = Arc::new(any_certificate().unwrap());
        let server = Arc::new(server(chain(&shown), &shown.key, version));
        handshake(&client, &server).unwrap();
    }
}

#[test]
fn an_impostor_with_the_pinned_certificate_and_another_key_is_refused() {
    for (tls, version) in ALL.into_iter().flat_map(|tls| VERSIONS.map(|version| (tls, version))) {
        let shown = shown(tls);
        for key in other_keys() {
            let refused = meet(&pin(&shown), &shown, &key, version).unwrap_err();
            assert_eq!(refused, Refusal::WrongSignature, "{tls:?} {version:?}");
            if let Some(authority) = &shown.authority {
                let refused = meet(&authorities(authority), &shown, &key, version).unwrap_err();
                assert_eq!(refused, Refusal::WrongSignature, "{tls:?} {version:?}");
            }
            // A look would show an impostor's certificate as the server's own.
            let client = Arc::new(any_certificate().unwrap());
            let server = Arc::new(server(chain(&shown), &key, version));
            let error = handshake(&client, &server).unwrap_err();
            assert_eq!(Refusal::of(&error), Some(&Refusal::WrongSignature));
        }
    }
}

/// Makes a certificate with an RSA key of `bits` by openssl, signed by itself or by `issuer`.
fn rsa(folder: &Path, name: &str, bits: &str, issuer: Option<&str>) {
    let file = |name: &str, end: &str| folder.join(name).with_extension(end);
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-nodes",
        "-newkey",
        &format!("rsa:{bits}"),
        "-days",
        "9",
    ]);
    openssl.args([
        "-subj",
        &format!("/CN={name}"),
        "-addext",
        &format!("subjectAltName=DNS:{NAME}"),
    ]);
    if let Some(issuer) = issuer {
        openssl
            .arg("-CA")
            .arg(file(issuer, "crt"))
            .arg("-CAkey")
            .arg(file(issuer, "key"));
        openssl.args(["-addext", "basicConstraints=critical,CA:false"]);
    }
    let made = openssl
        .arg("-keyout")
        .arg(file(name, "key"))
        .arg("-out")
        .arg(file(name, "crt"));
    let made = made.output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// Runs openssl's server with a key that no server of rustls would take, for one connection.
fn meet_openssl(folder: &Path, name: &str, version: &str, config: ClientConfig) -> Result<(), Refusal> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new("openssl");
    server.args([
        "s_server",
        "-quiet",
        "-naccept",
        "1",
        "-cipher",
        "ALL:@SECLEVEL=0",
        version,
    ]);
    server.args(["-accept", &format!("127.0.0.1:{port}")]);
    server.arg("-cert").arg(folder.join(name).with_extension("crt"));
    server.arg("-key").arg(folder.join(name).with_extension("key"));
    let mut server = server
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    let mut stream = loop {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
            break stream;
        }
        assert!(Instant::now() < end, "openssl does not listen");
        std::thread::sleep(Duration::from_millis(20));
    };
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from(NAME).unwrap()).unwrap();
    let shaken = loop {
        match client.complete_io(&mut stream) {
            Ok(_) if client.is_handshaking() => {}
            shaken => break shaken,
        }
    };
    server.kill().unwrap();
    server.wait().unwrap();
    match shaken {
        Ok(_) => Ok(()),
        Err(error) => Err(Refusal::of(&error).unwrap_or_else(|| panic!("{error}")).clone()),
    }
}

fn from_file(folder: &Path, name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(folder.join(name).with_extension("crt")).unwrap()
}

#[test]
fn a_key_of_a_size_that_is_not_used_is_named_and_not_called_a_wrong_signature() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (name, bits) in [("small", "1024"), ("short", "2040"), ("enough", "2048")] {
        rsa(folder, name, bits, None);
        for version in ["-tls1_2", "-tls1_3"] {
            let pin = Trust::Pin(Digest::of(&from_file(folder, name)));
            for config in [pin.client_config().unwrap(), any_certificate().unwrap()] {
                let met = meet_openssl(folder, name, version, config);
                let expected = match bits.parse().unwrap() {
                    2048 => Ok(()),
                    bits => Err(Refusal::KeySize { bits, is_leaf: true }),
                };
                assert_eq!(met, expected, "{bits} {version}");
            }
        }
    }
}

#[test]
fn an_authority_with_a_small_key_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    rsa(folder, "weak", "1024", None);
    rsa(folder, "leaf", "2048", Some("weak"));
    let [leaf, weak] = ["leaf", "weak"].map(|name| from_file(folder, name));
    let trust = authorities(&pem(&weak));
    let name = ServerName::try_from(NAME).unwrap();
    let judged = trust.judge(&[leaf, weak], &name, jiff::Timestamp::now()).unwrap();
    let refused = judged.unwrap_err();
    assert_eq!(
        refused,
        Refusal::KeySize {
            bits: 1024,
            is_leaf: false
        }
    );
    assert_eq!(
        refused.to_string(),
        "a certificate that its own depends on has an RSA key of 1024 bits; one of 2048 to 8192 is needed"
    );
}

#[test]
fn another_leaf_of_the_same_root_does_not_fit_the_pin() {
    let authority = authority("an authority").unwrap();
    let (pinned, other) = (
        shown_by(Tls::Authority, &authority),
        shown_by(Tls::Authority, &authority),
    );
    for version in VERSIONS {
        let refused = meet(&pin(&pinned), &other, &other.key, version).unwrap_err();
        let expected = Refusal::PinDiffers {
            shown: Digest::of(&chain(&other)[0]),
            pinned: Digest::of(&chain(&pinned)[0]),
        };
        assert_eq!(refused, expected);
    }
}

#[test]
fn the_leaf_is_what_is_pinned_and_not_what_is_sent_with_it() {
    let shown = shown(Tls::On);
    let root = Trust::Pin(Digest::of(&chain(&shown)[1]));
    let refused = meet(&root, &shown, &shown.key, &TLS13).unwrap_err();
    assert!(matches!(refused, Refusal::PinDiffers { .. }), "{refused}");
}

#[test]
fn an_authority_is_enough_together_with_the_name() {
    for tls in [Tls::On, Tls::Authority] {
        let shown = shown(tls);
        let trust = authorities(shown.authority.as_ref().unwrap());
        for version in VERSIONS {
            meet(&trust, &shown, &shown.key, version).unwrap();
        }
    }
}

#[test]
fn each_refusal_of_a_chain_has_its_reason() {
    let shown = shown(Tls::Authority);
    let right = authorities(shown.authority.as_ref().unwrap());
    let judged = |trust: &Trust, chain: &[CertificateDer<'_>], name: &str, year: i16| {
        let now = jiff::civil::date(year, 1, 1)
            .to_zoned(jiff::tz::TimeZone::UTC)
            .unwrap()
            .timestamp();
        let name = ServerName::try_from(name.to_string()).unwrap();
        trust.judge(chain, &name, now).unwrap()
    };
    let whole = chain(&shown);
    assert_eq!(judged(&right, &whole, NAME, 2026), Ok(()));
    // The other authority has the same name, so that only the signature tells them apart.
    let namesake = authorities(&authority("an authority").unwrap().certificate);
    for (trust, chain) in [(&namesake, &whole[..]), (&right, &whole[..1])] {
        let refused = judged(trust, chain, NAME, 2026).unwrap_err();
        assert!(matches!(refused, Refusal::AuthorityUnknown { .. }), "{refused}");
        assert!(
            refused.to_string().contains("CN=infra sandbox intermediate"),
            "{refused}"
        );
    }
    for dialled in ["other.test", "192.0.2.7"] {
        let refused = judged(&right, &whole, dialled, 2026).unwrap_err();
        let expected = Refusal::NameDiffers {
            dialled: dialled.into(),
            names: vec![NAME.into()],
        };
        assert_eq!(refused, expected);
    }
    assert!(matches!(
        judged(&right, &whole, NAME, 5000),
        Err(Refusal::Expired { .. })
    ));
    assert!(matches!(
        judged(&right, &whole, NAME, 1970),
        Err(Refusal::NotYetValid { .. })
    ));
    assert!(matches!(
        judged(&right, &[], NAME, 2026),
        Err(Refusal::Unverifiable { .. })
    ));
    // A pin asks neither for names nor for dates.
    assert_eq!(judged(&pin(&shown), &whole, "other.test", 5000), Ok(()));
}

#[test]
fn version_1_has_no_names_to_verify() {
    let v1 = shown(Tls::V1);
    let root = pem(&chain(&v1)[1]);
    let refused = meet(&authorities(&root), &v1, &v1.key, &TLS13).unwrap_err();
    assert!(refused.to_string().contains("version 1"), "{refused}");
}

#[test]
fn each_connection_shows_its_certificate_anew() {
    let shown = shown(Tls::On);
    for version in VERSIONS {
        let client = Arc::new(pin(&shown).client_config().unwrap());
        let server = Arc::new(server(chain(&shown), &shown.key, version));
        for _ in 0..3 {
            assert_eq!(handshake(&client, &server).unwrap(), HandshakeKind::Full);
        }
    }
}

#[test]
fn a_certificate_of_each_version_is_read() {
    for (tls, version, names) in [(Tls::On, 3, 1), (Tls::V1, 1, 0)] {
        let chain = chain(&shown(tls));
        let said = Certificate::read(&chain[0]).unwrap();
        assert_eq!((said.version, said.names.len()), (version, names));
        assert_eq!(
            (said.issuer.as_str(), said.subject.as_str()),
            ("CN=Hosted Redis root", "CN=hosted redis")
        );
        assert!(!said.self_signed() && said.days_left(jiff::Timestamp::now()) > 3650);
        assert!(Certificate::read(&chain[1]).unwrap().self_signed());
        assert!(Certificate::read(&chain[0][..100]).is_err());
    }
}

#[test]
fn a_policy_and_authorities_make_trust() {
    let shown = shown(Tls::Authority);
    let file = std::env::temp_dir().join(format!("trust-{}.crt", std::process::id()));
    std::fs::write(&file, shown.authority.as_ref().unwrap()).unwrap();
    let trust = "verify"
        .parse::<Policy>()
        .unwrap()
        .with(|| Authorities::from_file(&file))
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    meet(&trust, &shown, &shown.key, &TLS13).unwrap();
    assert!(Authorities::from_file(&file).is_err());
}

#[test]
fn what_a_certificate_says_cannot_steer_a_terminal() {
    let mut params = rcgen::CertificateParams::new([]).unwrap();
    let long = format!("\u{1b}]0;owned\u{7}{}", "x".repeat(1000));
    params.distinguished_name.push(rcgen::DnType::CommonName, long);
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let said = Certificate::read(certificate.der()).unwrap();
    for text in [&said.issuer, &said.subject] {
        assert!(
            text.contains("]0;owned") && !text.contains(char::is_control) && text.len() <= 200,
            "{text}"
        );
    }
}

/// Fuzzes with 10,000 malformed certificates.
#[test]
fn a_malformed_certificate_is_refused_without_a_panic() {
    let kinds = [Tls::On, Tls::V1].map(|tls| chain(&shown(tls)));
    let authority = authorities(&authority("an authority").unwrap().certificate);
    let name = ServerName::try_from(NAME).unwrap();
    let mut runner = TestRunner::new(Config::with_cases(10_000));
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let input = (0..2_usize, any::<Option<prop::sample::Index>>(), changes);
    let result = runner.run(&input, |(kind, length, changes)| {
        let [leaf, root] = kinds[kind].as_slice() else { panic!() };
        let mut bytes = leaf.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(length) = length {
            bytes.truncate(length.index(bytes.len()));
        }
        let _ = Certificate::read(&bytes);
        let chain = [CertificateDer::from(bytes), root.clone()];
        let judged = authority.judge(&chain, &name, jiff::Timestamp::now()).unwrap();
        prop_assert!(judged.is_err());
        Ok(())
    });
    result.unwrap();
}
