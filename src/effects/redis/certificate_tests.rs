//! Connections to real servers that show what hosts show, and to an impostor.

use super::testing::TestServer;
use super::{Digest, Server, Trust, shown_chain};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use sandbox::addon::{Shown, Tls, authority, make_certificate};
use std::process::Command;
use std::sync::Arc;

fn shown(tls: Tls) -> Shown {
    let authority = authority("an authority").unwrap();
    make_certificate(tls, &["127.0.0.1".into()], Some(&authority))
        .unwrap()
        .unwrap()
}

fn pin(chain: &str) -> Trust {
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
    Trust::Pin(Digest::of(&leaf))
}

#[tokio::test]
async fn a_pinned_leaf_is_accepted_whatever_issued_it() {
    for (tls, sent) in [(Tls::On, 2), (Tls::SelfSigned, 1), (Tls::Authority, 2), (Tls::V1, 2)] {
        let shown = shown(tls);
        let server = TestServer::start_tls(&shown.chain, &shown.key, pin(&shown.chain)).await;
        server.run::<String>("PING").await;
        assert_eq!(shown_chain("127.0.0.1", server.port).await.unwrap().len(), sent);
    }
}

/// Certificates of version 1 with RSA keys, as openssl makes them.
#[tokio::test]
async fn a_pinned_leaf_of_version_1_by_openssl_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    for line in [
        "req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.crt -subj /CN=root -days 30",
        "req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=leaf",
        "x509 -req -in leaf.csr -CA root.crt -CAkey root.key -set_serial 7 -out leaf.crt -days 30 -extfile /dev/null",
    ] {
        let mut openssl = Command::new("openssl");
        let output = openssl
            .args(line.split(' '))
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let chain = read("leaf.crt") + &read("root.crt");
    let server = TestServer::start_tls(&chain, &read("leaf.key"), pin(&chain)).await;
    server.run::<String>("PING").await;
    let chain = shown_chain("127.0.0.1", server.port).await.unwrap();
    assert_eq!(super::trust::read(&chain[0]).unwrap().version, 1);
}

#[tokio::test]
async fn an_impostor_with_the_pinned_certificate_and_another_key_is_refused() {
    for (tls, version) in [
        (Tls::On, &TLS12),
        (Tls::On, &TLS13),
        (Tls::V1, &TLS12),
        (Tls::V1, &TLS13),
    ] {
        let real = shown(tls);
        let provider = rustls::crypto::ring::default_provider();
        let thief = rcgen::KeyPair::generate().unwrap().serialize_der();
        let key = PrivateKeyDer::try_from(thief).unwrap();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let chain = CertificateDer::pem_slice_iter(real.chain.as_bytes()).collect::<Result<_, _>>();
        let pair = SingleCertAndKey::from(CertifiedKey::new(chain.unwrap(), key));
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(pair));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.accept(stream).await.map(|_| ())
        });
        let server = Server {
            label: "source".into(),
            host: "127.0.0.1".into(),
            port,
            user: None,
            password: None,
            trust: Some(pin(&real.chain)),
        };
        let error = server.dial().await.err().unwrap();
        let text = error.chain().join(": ");
        assert!(text.contains("private key"), "{tls:?} {version:?}: {text}");
        assert!(served.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn a_certificate_that_no_public_authority_knows_gets_the_advice_to_pin_it() {
    let shown = shown(Tls::On);
    let server = TestServer::start_tls(&shown.chain, &shown.key, pin(&shown.chain)).await;
    let server = Server {
        trust: Some(Trust::Public),
        ..server.server()
    };
    let error = server.dial().await.err().unwrap();
    let text = error.chain().join(": ");
    assert!(text.contains("CN=Hosted Redis root"), "{text}");
    assert!(error.next_step().unwrap().contains("infra check --pin"));
}

/// The second run of the test below gets the port by this variable. Its system has other
/// authorities.
const PORT: &str = "INFRA_TEST_PORT";

#[tokio::test]
async fn a_public_authority_and_the_name_are_enough() {
    if let Ok(port) = std::env::var(PORT) {
        return accepts_by_public_authority(port.parse().unwrap()).await;
    }
    let shown = shown(Tls::Authority);
    let server = TestServer::start_tls(&shown.chain, &shown.key, pin(&shown.chain)).await;
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.crt");
    std::fs::write(&roots, shown.authority.unwrap()).unwrap();
    let mut again = tokio::process::Command::new(std::env::current_exe().unwrap());
    again
        .args(["a_public_authority_and_the_name_are_enough", "--nocapture"])
        .env("SSL_CERT_FILE", roots)
        .env(PORT, server.port.to_string());
    let output = again.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

async fn accepts_by_public_authority(port: u16) {
    let server = |host: &str| Server {
        label: "source".into(),
        host: host.into(),
        port,
        user: None,
        password: None,
        trust: Some(Trust::Public),
    };
    server("127.0.0.1").connect(0).await.unwrap();
    let error = server("localhost").dial().await.err().unwrap();
    let text = error.chain().join(": ");
    assert!(text.contains("is not for localhost but for 127.0.0.1"), "{text}");
}
