//! Addresses at which an object can be read without credentials, for a while.

use super::s3::Bucket;
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use aws_sdk_s3::config::{Credentials, ProvideCredentials};
use aws_sdk_s3::presigning::PresigningConfig;
use std::time::{Duration, SystemTime};

/// An address that ends sooner is of no use.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);

impl Bucket {
    /// Returns how long an address that is signed now lives: `wanted`, or as long as the credentials.
    pub async fn life_of_signed(&self, wanted: Duration) -> Result<Duration> {
        Ok(self
            .fresh_credentials()
            .await?
            .1
            .map_or(wanted, |left| left.min(wanted)))
    }

    /// Returns credentials that are as fresh as possible, and how much longer they live. The
    /// credentials that the client keeps may be about to end.
    async fn fresh_credentials(&self) -> Result<(Credentials, Option<Duration>)> {
        let credentials = self.credentials.provide_credentials().await;
        let credentials = credentials.map_err(|error| failed(&self.name, error.to_string()))?;
        let left = credentials
            .expiry()
            .map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
        Ok((credentials, left))
    }

    /// Returns an address of an object. It is a credential with its maker's rights
    /// ([`crate::model::cloud::Permission::GetObject`]), and ends with them.
    pub async fn signed_url(&self, key: &str, lifetime: Duration) -> Result<Secret> {
        let failed = |cause: String| failed(&self.url(key), cause);
        let (credentials, left) = self.fresh_credentials().await?;
        let left = left.unwrap_or(lifetime);
        if left < SHORTEST_LIFE {
            return Err(failed("the credentials that sign it are about to end".into())
                .hint("log in to AWS again, then run the same command again"));
        }
        // Whole seconds, rounded down: the address must not outlive the credentials.
        let lifetime = Duration::from_secs(lifetime.min(left).as_secs());
        let signing = PresigningConfig::expires_in(lifetime).map_err(|error| failed(error.to_string()))?;
        let with = aws_sdk_s3::config::Builder::new().credentials_provider(credentials);
        let get = self.client.get_object().bucket(&self.name).key(key).customize();
        let request = get.config_override(with).presigned(signing).await;
        let request = request.map_err(|error| failed(error.to_string()))?;
        Ok(Secret::new(request.uri().to_string()))
    }
}

fn failed(of: &str, cause: String) -> Error {
    Error::failed(format!("sign an address of {of}")).because(cause)
}
