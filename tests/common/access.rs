//! The running sandbox, as a client that was given its variables.

use infra::cloud::{Cloud, http_client};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub fn state_dir() -> PathBuf {
    std::env::var_os("INFRA_SANDBOX_DIR").map_or_else(|| "/var/lib/infra-sandbox".into(), PathBuf::from)
}

/// The variables that the sandbox writes for its clients.
pub fn variables() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(state_dir().join("env")).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
        .map(|(name, value)| (name.to_string(), value.trim_matches('\'').to_string()))
        .collect()
}

/// For a client of the AWS SDK.
pub async fn config() -> aws_config::SdkConfig {
    let variables = variables();
    let credentials = aws_sdk_s3::config::Credentials::new(
        &variables["AWS_ACCESS_KEY_ID"],
        &variables["AWS_SECRET_ACCESS_KEY"],
        None,
        None,
        "test",
    );
    aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12())
        .http_client(http_client())
        .credentials_provider(credentials)
        .region(aws_config::Region::new(variables["AWS_REGION"].clone()))
        .endpoint_url(&variables["AWS_ENDPOINT_URL"])
        .load()
        .await
}

pub async fn connect() -> Cloud {
    Cloud::over(&config().await).await.unwrap()
}

/// Every machine there ever was, also those without a tag, with what each was told by user-data.
pub fn instances() -> Vec<Value> {
    let script = "curl -sf \"$AWS_ENDPOINT_URL/_hv/world\"";
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .envs(variables())
        .output()
        .unwrap();
    let world: Value = serde_json::from_slice(&output.stdout).unwrap();
    world["instances"].as_array().unwrap().clone()
}
