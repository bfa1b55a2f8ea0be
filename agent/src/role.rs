//! Gets the role's credentials from IMDSv2, renews them in time, and holds them in memory only.

use anyhow::{Context, Result, bail};
use aws_credential_types::Credentials;
use infra_agent::download;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Limit for one answer. The service is on the machine itself.
const ANSWER: Duration = Duration::from_secs(5);
/// How long before the end new credentials are asked for; AWS has them five minutes before.
const RENEW: Duration = Duration::from_secs(240);
/// Credentials are renewed at least this often, even if they live longer.
const LONGEST: Duration = Duration::from_secs(3600);

pub struct Role {
    client: ureq::Agent,
    url: String,
    held: Mutex<Option<Held>>,
}

struct Held {
    credentials: Credentials,
    until: Instant,
}

#[derive(serde::Deserialize)]
struct Document {
    #[serde(rename = "AccessKeyId")]
    key_id: String,
    #[serde(rename = "SecretAccessKey")]
    secret: String,
    #[serde(rename = "Token")]
    token: String,
    #[serde(rename = "Expiration")]
    expiration: jiff::Timestamp,
}

impl Role {
    pub fn new(metadata: &str) -> Result<Self> {
        Ok(Role {
            client: download::client(ANSWER)?,
            url: format!("{}/latest", metadata.trim_end_matches('/')),
            held: Mutex::default(),
        })
    }

    /// Drops credentials that were refused; the next use asks for new ones.
    pub fn forget(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub fn credentials(&self) -> Result<Credentials> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.as_ref().filter(|held| Instant::now() < held.until) {
            return Ok(held.credentials.clone());
        }
        match self.ask() {
            Ok(fresh) => Ok(held.insert(fresh).credentials.clone()),
            // The service may fail for a while: the old credentials are still valid.
            Err(error) => match held.as_ref() {
                Some(old) if old.credentials.expiry().is_some_and(|end| end > SystemTime::now()) => {
                    Ok(old.credentials.clone())
                }
                _ => Err(error),
            },
        }
    }

    fn ask(&self) -> Result<Held> {
        let token = self.text(
            self.client
                .put(format!("{}/api/token", self.url))
                .header("x-aws-ec2-metadata-token-ttl-seconds", "300")
                .send_empty(),
        )?;
        let get = |path: &str| {
            let request = self
                .client
                .get(format!("{}/meta-data/iam/security-credentials/{path}", self.url));
            self.text(request.header("x-aws-ec2-metadata-token", &token).call())
        };
        let name = get("").context("the instance has no role: its instance profile is missing")?;
        let Some(name) = name.lines().next().filter(|name| !name.is_empty()) else {
            bail!("the instance has no role: its instance profile is missing");
        };
        let document: Document =
            serde_json::from_str(&get(name)?).context("understand the credentials of the instance's role")?;
        let now = SystemTime::now();
        let end = SystemTime::from(document.expiration);
        let left = end.duration_since(now).unwrap_or_default();
        Ok(Held {
            credentials: Credentials::new(
                document.key_id,
                document.secret,
                Some(document.token),
                Some(end),
                "imds",
            ),
            until: Instant::now() + left.saturating_sub(RENEW).min(LONGEST),
        })
    }

    fn text(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<String> {
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(error) => bail!("ask the metadata service: {}", download::kind(&error)),
        };
        if answer.status() != 200 {
            bail!("ask the metadata service: it answers {}", answer.status().as_u16());
        }
        answer
            .body_mut()
            .with_config()
            .limit(64 << 10)
            .read_to_string()
            .context("read the metadata service's answer")
    }
}
