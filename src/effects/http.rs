//! HTTP for everything but AWS's SDK: a client without surprises, and bodies of limited size.
//!
//! The server may be broken or an impostor, so bodies have a limit. Their bytes are wiped, since
//! replies of platforms hold URLs with passwords.

use crate::model::error::{Doing, Error, Result};
use reqwest::{Client, Response, Url};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Returns a client that trusts the system's authorities and no redirect, which could leak secrets.
pub fn client(timeout: Duration, connect: Duration, by_proxy: bool) -> Result<Client> {
    let builder = Client::builder()
        .tls_backend_preconfigured(tls()?)
        .timeout(timeout)
        .connect_timeout(connect)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("infra/", env!("CARGO_PKG_VERSION")));
    let builder = if by_proxy { builder } else { builder.no_proxy() };
    builder.build().doing(|| "set up a client for https".into())
}

/// Returns the body if it has at most `most` bytes. Refuses a longer announced one at once.
pub async fn body(mut response: Response, most: usize) -> Result<Zeroizing<Vec<u8>>> {
    let too_long = || Error::failed(format!("read the answer: it has more than {most} bytes"));
    let announced = response.content_length().unwrap_or(0);
    if usize::try_from(announced).map_or(true, |announced| announced > most) {
        return Err(too_long());
    }
    // Each buffer is wiped, since a plain Vec leaves copies behind when it grows.
    let mut whole = Zeroizing::new(Vec::with_capacity(usize::try_from(announced).unwrap_or(0)));
    while let Some(chunk) = response.chunk().await.doing(|| "read the answer".into())? {
        if whole.len() + chunk.len() > most {
            return Err(too_long());
        }
        if whole.capacity() < whole.len() + chunk.len() {
            let mut larger = Zeroizing::new(Vec::with_capacity((whole.len() + chunk.len()) * 2));
            larger.extend_from_slice(&whole);
            whole = larger;
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole)
}

/// Returns true if nobody else can read the traffic: https, or the address of an emulator.
pub fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || url.host_str().is_some_and(is_loopback_or_literal)
}

fn is_loopback_or_literal(host: &str) -> bool {
    host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

/// Trusts the system's authorities. It names ring, since no process-wide provider is assumed.
fn tls() -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    // Without any authority the handshake fails with a reason; plain http needs none.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .doing(|| "set up TLS".into())?
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}
