//! The connection to an account and region.

use super::failure::Explain;
use super::patience::{Patience, Repeating};
use crate::model::cloud::Permission;
use crate::model::error::{Error, Result};
use crate::ui::Ui;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sts::config::{SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder as HttpClientBuilder, tls};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// An account and region of AWS, with credentials. Cheap to clone.
#[derive(Clone)]
pub struct Cloud {
    pub(crate) ec2: aws_sdk_ec2::Client,
    pub(crate) iam: aws_sdk_iam::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) ssm: aws_sdk_ssm::Client,
    pub(super) patience: Patience,
    pub(super) credentials: SharedCredentialsProvider,
    account: String,
    region: String,
    caller: String,
    s3_endpoint: Option<String>,
    cloudwatch_endpoint: String,
    emulated: bool,
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account {} in {}", self.account, self.region)
    }
}

impl Cloud {
    /// Connects with the usual chain of credentials and asks for the account. `region` overrides
    /// the environment's; AWS_ENDPOINT_URL overrides `endpoint`, for emulators.
    pub async fn connect(region: Option<&str>, endpoint: Option<&str>, ui: &Ui) -> Result<Self> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(Duration::from_secs(30))
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http_client(ui))
            .timeout_config(timeouts);
        if let Some(region) = region {
            loader = loader.region(Region::new(region.to_string()));
        }
        let mut config = loader.load().await;
        if config.endpoint_url().is_none()
            && let Some(endpoint) = endpoint
        {
            config = config.into_builder().endpoint_url(endpoint).build();
        }
        Self::over(&config, ui).await
    }

    /// Connects with the region, credentials, endpoint and HTTP client of `config`.
    pub async fn over(config: &SdkConfig, ui: &Ui) -> Result<Self> {
        let Some(region) = config.region().map(|region| region.to_string()) else {
            return Err(Error::usage(
                "tell which AWS region to work in: neither infra.yml nor the environment names one",
            )
            .hint("set `region` in infra.yml, for example `region: us-east-1`"));
        };
        if region.starts_with("cn-") {
            return Err(
                Error::usage(format!("work in {region}: AWS in China is apart from the rest of AWS"))
                    .because("its addresses and its public images are others, and nothing of this was tried there")
                    .hint("set another `region` in infra.yml"),
            );
        }
        let credentials = config.credentials_provider().ok_or_else(no_credentials)?;
        let identity = aws_sdk_sts::Client::new(config)
            .get_caller_identity()
            .send()
            .await
            .explain(Permission::GetCallerIdentity, || format!("log in to AWS ({region})"))?;
        let s3_endpoint = s3_endpoint(config);
        let ec2 = aws_sdk_ec2::config::Builder::from(config);
        let iam = aws_sdk_iam::config::Builder::from(config);
        let s3 =
            aws_sdk_s3::config::Builder::from(config).force_path_style(s3_endpoint.as_deref().is_some_and(names_an_ip));
        let ssm = aws_sdk_ssm::config::Builder::from(config);
        #[cfg(feature = "fault-points")]
        let (ec2, iam, s3, ssm) = (
            ec2.interceptor(crate::effects::fault::Requests),
            iam.interceptor(crate::effects::fault::Requests),
            s3.interceptor(crate::effects::fault::Requests),
            ssm.interceptor(crate::effects::fault::Requests),
        );
        Ok(Cloud {
            ec2: aws_sdk_ec2::Client::from_conf(ec2.build()),
            iam: aws_sdk_iam::Client::from_conf(iam.build()),
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            ssm: aws_sdk_ssm::Client::from_conf(ssm.build()),
            patience: Patience::new(ui),
            credentials,
            account: identity.account.ok_or_else(no_credentials)?,
            cloudwatch_endpoint: cloudwatch_endpoint(config, &region),
            region,
            caller: identity.arn.unwrap_or_default(),
            s3_endpoint,
            emulated: config.endpoint_url().is_some() || names_an_endpoint(std::env::vars()),
        })
    }

    /// Returns the twelve digits of the account.
    pub fn account(&self) -> &str {
        &self.account
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    /// Returns the ARN of the owner of the credentials.
    pub fn caller(&self) -> &str {
        &self.caller
    }

    /// Returns the address of S3, if it is not AWS's own.
    pub fn s3_endpoint(&self) -> Option<&str> {
        self.s3_endpoint.as_deref()
    }

    /// Returns the address of CloudWatch.
    pub(super) fn cloudwatch_endpoint(&self) -> &str {
        &self.cloudwatch_endpoint
    }

    /// Returns true if requests do not go to AWS.
    pub fn is_emulated(&self) -> bool {
        self.emulated
    }

    /// Returns true if S3 uses https, so that a TLS-only bucket policy is possible.
    pub fn s3_over_tls(&self) -> bool {
        self.s3_endpoint
            .as_deref()
            .is_none_or(|endpoint| endpoint.starts_with("https://"))
    }
}

/// Uses TLS by ring explicitly, since a process-wide default depends on what else installs one.
/// It repeats throttled calls, and shows that on `ui`.
pub fn http_client(ui: &Ui) -> SharedHttpClient {
    let client = HttpClientBuilder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https();
    Repeating::over(client, ui)
}

fn no_credentials() -> Error {
    Error::failed("log in to AWS: no credentials were found")
        .hint("set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws login`")
}

fn s3_endpoint(config: &SdkConfig) -> Option<String> {
    std::env::var("AWS_ENDPOINT_URL_S3")
        .ok()
        .filter(|url| !url.is_empty())
        .or_else(|| config.endpoint_url().map(str::to_string))
}

fn cloudwatch_endpoint(config: &SdkConfig, region: &str) -> String {
    let named = std::env::var("AWS_ENDPOINT_URL_CLOUDWATCH").ok();
    named
        .filter(|url| !url.is_empty())
        .or_else(|| config.endpoint_url().map(str::to_string))
        .unwrap_or_else(|| format!("https://monitoring.{region}.amazonaws.com"))
}

/// Returns true if the environment names an endpoint for some service.
fn names_an_endpoint(mut variables: impl Iterator<Item = (String, String)>) -> bool {
    variables.any(|(name, value)| name.starts_with("AWS_ENDPOINT_URL") && !value.is_empty())
}

/// Buckets cannot be host names under an IP address, so their names go into the path.
fn names_an_ip(endpoint: &str) -> bool {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    if let Some(v6) = host.strip_prefix('[') {
        return v6.contains(']');
    }
    host.rsplit_once(':')
        .map_or(host, |(host, _)| host)
        .parse::<IpAddr>()
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ip_addresses_need_path_style() {
        assert!(names_an_ip("http://10.77.0.1:4566"));
        assert!(names_an_ip("http://127.0.0.1"));
        assert!(names_an_ip("https://[::1]:4566/"));
        assert!(!names_an_ip("https://s3.us-east-1.amazonaws.com"));
    }
}
