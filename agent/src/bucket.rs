//! Puts objects into the bucket as the host's role. Never reads, lists or overwrites one.

use crate::role::Role;
use crate::settings::Settings;
use anyhow::{Context, Result, anyhow};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use base64::Engine;
use infra_agent::{digest, download};
use sha2::Digest;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Limit for one put of at most 8 MiB: a link below 70 kB/s could not carry the log anyway.
const PUT: Duration = Duration::from_secs(120);

pub struct Bucket {
    client: ureq::Agent,
    role: Role,
    url: String,
    region: String,
    puts: AtomicU64,
}

/// How a put failed.
#[derive(Debug)]
pub enum Refusal {
    /// No answer, or one that asks to try again later.
    Passing(String),
    /// The bucket refuses it until a person changes something.
    Final(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Passing(why) | Refusal::Final(why) => f.write_str(why),
        }
    }
}

impl Bucket {
    pub fn new(settings: &Settings) -> Result<Self> {
        Ok(Bucket {
            client: download::client(PUT)?,
            role: Role::new(&settings.metadata)?,
            url: settings.bucket_url.clone(),
            region: settings.region.clone(),
            puts: AtomicU64::new(0),
        })
    }

    /// Returns how many objects this process has put.
    pub fn puts(&self) -> u64 {
        self.puts.load(Ordering::Relaxed)
    }

    /// Puts an object if the key is free. A key that is taken counts as put: only this host writes
    /// under it, so the answer to an earlier attempt was lost.
    pub fn put(&self, key: &str, body: &[u8]) -> Result<(), Refusal> {
        let refused = |why: anyhow::Error| Refusal::Passing(format!("{why:#}"));
        let url = format!("{}/{key}", self.url);
        let sum = digest::of(body);
        let headers = self.signed(&url, body, &sum).map_err(refused)?;
        let mut request = self.client.put(&url);
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        let mut answer = request
            .send(body)
            .map_err(|error| Refusal::Passing(format!("put {key}: {}", download::kind(&error))))?;
        let status = answer.status().as_u16();
        if status == 200 || status == 412 {
            self.puts.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let text = answer
            .body_mut()
            .with_config()
            .limit(4096)
            .read_to_string()
            .unwrap_or_default();
        let why = format!("S3 answers {status} {} to the put of {key}", code(&text));
        if status == 403 {
            // AWS may have replaced the credentials early.
            self.role.forget();
        }
        Err(match status {
            409 | 429 | 500..=599 => Refusal::Passing(why),
            _ => Refusal::Final(why),
        })
    }

    fn signed(&self, url: &str, body: &[u8], sum: &str) -> Result<Vec<(String, String)>> {
        let identity = self.role.credentials()?.into();
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .context("sign a request")?
            .into();
        // A bucket with Object Lock refuses a put without this checksum.
        let checksum = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(body));
        let own = [("if-none-match", "*"), ("x-amz-checksum-sha256", checksum.as_str())];
        let request = SignableRequest::new("PUT", url, own.into_iter(), SignableBody::Precomputed(sum.into()))
            .context("sign a request")?;
        let (instructions, _) = sign(request, &parameters).context("sign a request")?.into_parts();
        let mut headers: Vec<(String, String)> = instructions
            .headers()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        headers.extend(own.map(|(name, value)| (name.into(), value.into())));
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        {
            return Err(anyhow!("sign a request: there is no signature"));
        }
        Ok(headers)
    }
}

/// Returns the `<Code>` of S3's answer; empty if it has none.
fn code(text: &str) -> &str {
    text.split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map_or("", |(code, _)| code)
}
