//! Reads objects by presigned URLs and checks their digests. Transient failures are tried again.

use crate::digest;
use crate::pauses::Pauses;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

const ATTEMPTS: u32 = 6;
/// S3 may answer 404 for an object that is there, some minutes long after its bucket began to keep
/// versions.
const ABSENT_ATTEMPTS: u32 = 4;
/// Larger than any object of a backup.
pub const LARGEST: u64 = 256 << 20;

/// Why an object could not be read. Names the object and never its URL, which is a credential.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error("{name} is not in the bucket")]
    Missing { name: String },
    #[error("{name} has {found}, its record says {wanted}")]
    Checksum {
        name: String,
        found: String,
        wanted: String,
    },
    #[error("{name} could not be read from S3: {why}")]
    Unreachable { name: String, why: String },
}

/// A client that checks certificates against the system's authorities.
pub fn client(timeout: Duration) -> anyhow::Result<ureq::Agent> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<_> = roots
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(provider)
        .build();
    Ok(ureq::Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_global(Some(timeout))
        // The metadata service and S3 are reached directly, whatever proxy the environment names.
        .proxy(None)
        .build()
        .new_agent())
}

/// An object as its record describes it.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub name: &'a str,
    pub url: &'a str,
    pub sha256: &'a str,
}

/// Returns the object's bytes, which match its digest.
pub fn object(client: &ureq::Agent, wanted: &Wanted<'_>) -> Result<Vec<u8>, Unread> {
    let mut pauses = Pauses::doubling(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        match once(client, wanted) {
            Ok(bytes) => {
                let found = digest::of(&bytes);
                if found == wanted.sha256 {
                    return Ok(bytes);
                }
                return Err(Unread::Checksum {
                    name: wanted.name.into(),
                    found: format!("the SHA-256 {found}"),
                    wanted: wanted.sha256.into(),
                });
            }
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Absent) if pauses.attempt() >= ABSENT_ATTEMPTS => {
                return Err(Unread::Missing {
                    name: wanted.name.into(),
                });
            }
            Err(Failure::Passing(why)) if pauses.attempt() >= ATTEMPTS => {
                return Err(Unread::Unreachable {
                    name: wanted.name.into(),
                    why: format!("{why}, {ATTEMPTS} times"),
                });
            }
            Err(Failure::Passing(_) | Failure::Absent) => {
                pauses.again();
            }
        }
    }
}

enum Failure {
    Passing(String),
    Absent,
    Final(Unread),
}

fn once(client: &ureq::Agent, wanted: &Wanted<'_>) -> Result<Vec<u8>, Failure> {
    // The client's error may contain the whole URL; its kind does not.
    let mut answer = client
        .get(wanted.url)
        .call()
        .map_err(|error| Failure::Passing(kind(&error)))?;
    match answer.status().as_u16() {
        200 => {}
        404 => return Err(Failure::Absent),
        status @ (429 | 500..=599) => return Err(Failure::Passing(format!("S3 answers {status}"))),
        status => {
            return Err(Failure::Final(Unread::Unreachable {
                name: wanted.name.into(),
                why: format!("S3 answers {status}"),
            }));
        }
    }
    let announced = answer.body().content_length();
    let mut bytes = Vec::with_capacity(usize::try_from(announced.unwrap_or(0).min(LARGEST)).unwrap_or(0));
    answer
        .body_mut()
        .with_config()
        .limit(LARGEST)
        .reader()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::Passing(error.kind().to_string()))?;
    if announced.is_some_and(|announced| announced != bytes.len() as u64) {
        return Err(Failure::Passing("the answer was cut off".into()));
    }
    Ok(bytes)
}

/// Returns what went wrong, without the URL.
pub fn kind(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.kind().to_string(),
        ureq::Error::Timeout(what) => format!("no answer in time ({what})"),
        ureq::Error::HostNotFound => "the host name is not known".into(),
        ureq::Error::ConnectionFailed => "no connection".into(),
        ureq::Error::Tls(what) => format!("TLS: {what}"),
        ureq::Error::Rustls(error) => format!("TLS: {error}"),
        _ => "the request failed".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    fn answer(mut client: TcpStream, status: &str, body: &str) {
        let mut request = [0; 4096];
        let _ = client.read(&mut request).unwrap();
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        client.write_all(format!("{head}{body}").as_bytes()).unwrap();
    }

    /// Asks a server that answers 404 so many times, and then gives the object.
    fn asked_after(absent: usize) -> Result<Vec<u8>, Unread> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/object", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for (count, client) in listener.incoming().enumerate() {
                let client = client.unwrap();
                if count < absent {
                    answer(client, "404 Not Found", "");
                } else {
                    answer(client, "200 OK", "text");
                }
            }
        });
        let sha256 = digest::of(b"text");
        let wanted = Wanted {
            name: "object",
            url: &url,
            sha256: &sha256,
        };
        object(&client(Duration::from_secs(10)).unwrap(), &wanted)
    }

    #[test]
    fn an_object_that_answers_404_at_first_is_asked_for_again_and_one_that_goes_on_is_missing() {
        assert_eq!(asked_after(2).unwrap(), b"text");
        assert!(matches!(asked_after(100), Err(Unread::Missing { .. })));
    }
}
