//! The running sandbox, as a client that was given its variables.

use aws_config::retry::RetryConfig;
use aws_smithy_http_client::{Builder, tls};
use infra::effects::cloud::Cloud;
use infra::model::names::Names;
use sandbox::paths::Paths;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Returns the folders of the sandbox: its state and its cache.
pub fn paths() -> Paths {
    Paths::from_environment().unwrap()
}

pub fn state_dir() -> PathBuf {
    paths().state().to_owned()
}

/// The variables that the sandbox writes for its clients.
pub fn variables() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(paths().environment_file()).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
        .map(|(name, value)| (name.to_string(), value.trim_matches('\'').to_string()))
        .collect()
}

/// Returns the configuration of an SDK client with the operator's keys, over https. It repeats what
/// is refused for coming too fast for longer than the sandbox limits the rate of any service.
pub async fn config() -> aws_config::SdkConfig {
    let variables = variables();
    let operator = Keys {
        id: variables["AWS_ACCESS_KEY_ID"].clone(),
        secret: variables["AWS_SECRET_ACCESS_KEY"].clone(),
        token: None,
    };
    let patient = RetryConfig::standard()
        .with_max_attempts(20)
        .with_max_backoff(Duration::from_secs(2));
    let config = config_of(&operator, &variables["AWS_ENDPOINT_URL_S3"]).await;
    config.into_builder().retry_config(patient).build()
}

/// The keys that a caller signs with.
#[derive(Clone)]
pub struct Keys {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

/// Returns the configuration of an SDK client with these keys at this endpoint.
pub async fn config_of(keys: &Keys, endpoint: &str) -> aws_config::SdkConfig {
    let variables = variables();
    let credentials = aws_sdk_s3::config::Credentials::new(&keys.id, &keys.secret, keys.token.clone(), None, "test");
    // This process was not started with the sandbox's variables: it is told here whom to trust.
    let trusted = std::fs::read(&variables["SSL_CERT_FILE"]).unwrap();
    let trusted = tls::TrustStore::empty().with_pem_certificate(trusted);
    let context = tls::TlsContext::builder().with_trust_store(trusted).build().unwrap();
    let client = Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .tls_context(context)
        .build_https();
    aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12())
        .http_client(client)
        .credentials_provider(credentials)
        .region(aws_config::Region::new(variables["AWS_REGION"].clone()))
        .endpoint_url(endpoint)
        .load()
        .await
}

pub async fn connect() -> Cloud {
    Cloud::over(&config().await, &infra::ui::Ui::silent()).await.unwrap()
}

/// Connects, and names what belongs to the environment of [`World`](crate::world::World).
pub async fn environment() -> (Cloud, Names) {
    let cloud = connect().await;
    let names = Names::new("demo", "production", cloud.account(), cloud.region()).unwrap();
    (cloud, names)
}

/// Every machine there ever was, also those without a tag, with what each was told by user-data.
pub fn instances() -> Vec<Value> {
    supervisor("world")["instances"].as_array().unwrap().clone()
}

/// Turns knobs of the AWS API; see docs/sandbox.md.
pub fn turn(knobs: &Value) {
    let script = "curl -sf -H 'Content-Type: application/json' -d \"$1\" \"$AWS_ENDPOINT_URL/_hv/knobs\"";
    let turned = std::process::Command::new("sh")
        .args(["-c", script, "sh", &knobs.to_string()])
        .envs(variables())
        .output()
        .unwrap();
    assert!(turned.status.success(), "{knobs} was refused");
}

/// Every permission that was ever asked for: caller, action, resource, and whether it was given.
pub fn uses() -> Vec<Value> {
    supervisor("uses")["uses"].as_array().unwrap().clone()
}

fn supervisor(path: &str) -> Value {
    let script = "curl -sf \"$AWS_ENDPOINT_URL/_hv/$1\"";
    let output = std::process::Command::new("sh")
        .args(["-c", script, "sh", path])
        .envs(variables())
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}
