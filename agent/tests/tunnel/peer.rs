//! A TLS server of our own, which shows and does things that no engine would.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
use sandbox::addon::Shown;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::spawn;

pub const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

pub type Session = StreamOwned<ServerConnection, TcpStream>;

pub fn chain(shown: &Shown) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(shown.chain.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap()
}

/// Serves each connection on a thread of its own. The key need not be that of the certificate.
pub fn serve(
    listener: TcpListener,
    shown: &Shown,
    versions: &[&'static SupportedProtocolVersion],
    work: impl Fn(Session) + Send + Sync + 'static,
) -> u16 {
    let provider = rustls::crypto::ring::default_provider();
    let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain(shown), key))));
    let (config, work) = (Arc::new(config), Arc::new(work));
    let port = listener.local_addr().unwrap().port();
    spawn(move || {
        for stream in listener.incoming() {
            let (config, work) = (config.clone(), work.clone());
            spawn(move || {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                work(StreamOwned::new(ServerConnection::new(config).unwrap(), stream));
            });
        }
    });
    port
}

pub fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}
