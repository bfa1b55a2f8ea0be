//! Finds the address that AWS sees for this computer.

use super::Cloud;
use crate::effects::http;
use crate::model::error::{Error, Result};
use std::net::Ipv4Addr;
use std::time::Duration;

/// AWS's own service; it answers with the caller's address and a line feed.
const PUBLIC: &str = "https://checkip.amazonaws.com";
/// Names another service, which emulators need.
const VARIABLE: &str = "INFRA_CHECKIP_URL";
const PATIENCE: Duration = Duration::from_secs(10);
/// An address and white space.
const LONGEST_ANSWER: usize = 64;

/// Asks the service of the environment or `checkip`, else AWS unless there is an emulator.
pub async fn of_caller(cloud: &Cloud, checkip: Option<&str>) -> Result<Ipv4Addr> {
    let named = std::env::var(VARIABLE).ok().filter(|url| !url.trim().is_empty());
    let url = match named.as_deref().or(checkip) {
        Some(url) => url.trim(),
        None if cloud.is_emulated() => {
            return Err(Error::usage(
                "tell this computer's own address: AWS is not asked while its requests go to an endpoint of their own",
            )
            .hint(HINT));
        }
        None => PUBLIC,
    };
    ask(url).await
}

const HINT: &str = "name who may use ssh in hosts.admin_cidrs of infra.yml, such as [203.0.113.7/32]";

async fn ask(url: &str) -> Result<Ipv4Addr> {
    let doing = || format!("ask {url} for this computer's own address");
    let failed = |cause: String| Error::failed(doing()).because(cause).hint(HINT);
    // The answer decides who may use ssh, so it must come over a safe connection.
    let parsed = reqwest::Url::parse(url).map_err(|error| failed(error.to_string()))?;
    if !http::is_safe(&parsed) {
        return Err(failed("it is not https".into()));
    }
    // No proxy is used, since ssh goes without one and needs its own address.
    let client = http::client(PATIENCE, PATIENCE, false).map_err(|error| error.while_doing(doing()))?;
    let response = client
        .get(parsed)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| Error::failed(doing()).because(error).hint(HINT))?;
    let body = http::body(response, LONGEST_ANSWER)
        .await
        .map_err(|error| error.while_doing(doing()).hint(HINT))?;
    let text = String::from_utf8_lossy(&body);
    match text.trim().parse::<Ipv4Addr>() {
        Ok(address) if !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast() => Ok(address),
        _ => Err(failed(format!(
            "it answered {:?}, which is no IPv4 address",
            text.trim()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Answers one request with this body. Returns the address of the server.
    async fn answering(body: Vec<u8>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        });
        format!("http://{address}/")
    }

    #[tokio::test]
    async fn only_an_address_is_accepted() {
        let url = answering(b"203.0.113.7\n".to_vec()).await;
        assert_eq!(ask(&url).await.unwrap(), Ipv4Addr::new(203, 0, 113, 7));
        for body in [
            &b"0.0.0.0"[..],
            b"0.0.0.0/0",
            b"2001:db8::1",
            b"<html>",
            b"",
            &[b'1'; 1 << 20],
        ] {
            let error = ask(&answering(body.to_vec()).await).await.unwrap_err();
            assert!(error.next_step().unwrap().contains("hosts.admin_cidrs"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn an_address_without_https_is_not_asked() {
        let error = ask("http://checkip.test/").await.unwrap_err();
        assert!(error.chain().join(": ").contains("not https"), "{error:?}");
    }
}
