//! The plugin's paths under `/_hv/`: the supervisor reads instances and reports on them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::network::{Acl, Rule};

/// The plugin may hold a request for 20 s. No answer well after that is a failure.
const LONG_POLL: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_secs(5);

/// Every instance that the API knows, as of one version.
#[derive(Debug, Clone, Deserialize)]
pub struct World {
    pub version: u64,
    pub instances: Vec<Instance>,
}

/// One instance, as the API wants it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Instance {
    pub id: String,
    /// EC2's name of the state: transitional ones last until they are acknowledged.
    pub state: String,
    /// Rises with every RebootInstances.
    #[serde(default)]
    pub boot_count_wanted: u64,
    pub region: String,
    pub zone: String,
    #[serde(rename = "type")]
    pub instance_type: String,
    /// The memory of that type.
    #[serde(default)]
    pub memory_mib: Option<u64>,
    pub image: String,
    /// Both are gone once the instance is terminated.
    pub mac: Option<String>,
    pub private_ip: Option<String>,
    /// Public and elastic addresses in force.
    #[serde(default)]
    pub addresses: Vec<String>,
    pub public_ip: Option<String>,
    /// Base64, as RunInstances got it; empty when there is none.
    #[serde(default)]
    pub user_data: Option<String>,
    pub key_name: Option<String>,
    pub public_key: Option<String>,
    /// Name of the role behind the instance profile.
    pub role: Option<String>,
    pub profile_arn: Option<String>,
    #[serde(default)]
    pub ingress: Vec<Rule>,
    /// The network ACL of its subnet.
    #[serde(default)]
    pub acl: Option<Acl>,
    #[serde(default)]
    pub tags: std::collections::BTreeMap<String, String>,
    pub account: String,
}

/// Administrator credentials, made once at the plugin's start.
#[derive(Clone, Deserialize)]
pub struct Operator {
    pub access_key_id: String,
    pub secret_access_key: String,
}

/// A client of the plugin's own paths.
#[derive(Debug, Clone)]
pub struct Hypervisor {
    client: reqwest::Client,
    base: String,
}

impl Hypervisor {
    /// `base`: the plugin's URL without a slash at its end.
    pub fn new(base: String) -> Result<Self> {
        // The bridge is not behind this computer's proxy.
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .context("make an HTTP client")?;
        Ok(Self { client, base })
    }

    /// Returns whether the plugin is ready.
    pub async fn is_healthy(&self) -> bool {
        let answer = self
            .client
            .get(format!("{}/_hv/health", self.base))
            .timeout(SHORT)
            .send()
            .await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Returns the world once its version is above `after`, or the same one after 20 s.
    pub async fn world(&self, after: u64) -> Result<World> {
        let text = self.get(&format!("/_hv/world?after={after}"), LONG_POLL).await?;
        serde_json::from_str(&text).context("read the AWS part's list of instances")
    }

    /// Reports that a transition is done.
    pub async fn acknowledge(&self, instance: &str, state: &str) -> Result<()> {
        let body = serde_json::json!({"instance": instance, "state": state}).to_string();
        let request = self.client.post(format!("{}/_hv/ack", self.base)).timeout(SHORT);
        let request = request.header("content-type", "application/json").body(body);
        let answer = request
            .send()
            .await
            .with_context(|| format!("tell the AWS part that {instance} is {state}"))?;
        if !answer.status().is_success() {
            bail!(
                "tell the AWS part that {instance} is {state}: it answered {}",
                answer.status()
            );
        }
        Ok(())
    }

    /// Returns the metadata service's JSON with fresh credentials of the instance's role.
    pub async fn role_credentials(&self, instance: &str) -> Result<String> {
        self.get(&format!("/_hv/role-credentials/{instance}"), SHORT).await
    }

    /// Turns the plugin's knobs.
    pub async fn turn(&self, knobs: &serde_json::Value) -> Result<()> {
        let request = self.client.post(format!("{}/_hv/knobs", self.base)).timeout(SHORT);
        let request = request
            .header("content-type", "application/json")
            .body(knobs.to_string());
        let answer = request.send().await.context("turn the AWS part's knobs")?;
        answer.error_for_status().map(drop).context("turn the AWS part's knobs")
    }

    pub async fn operator(&self) -> Result<Operator> {
        let text = self.get("/_hv/operator", SHORT).await?;
        serde_json::from_str(&text).context("read the operator's credentials")
    }

    async fn get(&self, path: &str, deadline: Duration) -> Result<String> {
        let url = format!("{}{path}", self.base);
        let answer = self
            .client
            .get(&url)
            .timeout(deadline)
            .send()
            .await
            .with_context(|| format!("ask {url}"))?;
        let status = answer.status();
        let text = answer
            .text()
            .await
            .with_context(|| format!("read the answer of {url}"))?;
        if !status.is_success() {
            bail!("ask {url}: it answered {status}");
        }
        Ok(text)
    }
}
