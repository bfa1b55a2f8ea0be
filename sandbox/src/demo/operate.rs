//! Talks to the running platform as an operator does, with the variables that other clients use.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::addon::Provider;
use crate::connect::Target;
use crate::environment;
use crate::paths::Paths;

const ACCEPT: &str = "application/vnd.heroku+json; version=3";

/// The platform's API and the key to it.
pub(crate) struct PlatformClient {
    client: Client,
    url: String,
    api_key: String,
}

impl PlatformClient {
    /// Reads HEROKU_API_URL and HEROKU_API_KEY, or what the sandbox wrote into its state folder.
    pub fn from_environment() -> Result<Self> {
        let written: BTreeMap<String, String> = environment::read(&Paths::from_environment()?)
            .unwrap_or_default()
            .into_iter()
            .collect();
        let variable = |name: &str| {
            std::env::var(name)
                .ok()
                .or_else(|| written.get(name).cloned())
                .with_context(|| {
                    format!("find the app platform: {name} is not set, and no sandbox is up (try: sandbox up)")
                })
        };
        let client = Client::builder()
            .timeout(Duration::from_secs(30))
            .build()
            .context("set up the HTTP client")?;
        Ok(Self {
            client,
            url: variable("HEROKU_API_URL")?,
            api_key: variable("HEROKU_API_KEY")?,
        })
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let doing = || format!("{method} {path} on the app platform at {}", self.url);
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.url));
        request = request.header("Accept", ACCEPT).bearer_auth(&self.api_key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(doing)?;
        let status = response.status();
        let answer: Value = response.json().await.with_context(doing)?;
        if !status.is_success() {
            bail!(
                "{}: it answered {status}: {}",
                doing(),
                answer["message"].as_str().unwrap_or("nothing more")
            );
        }
        Ok(answer)
    }

    /// Returns the app's config vars.
    pub async fn config_vars(&self, app: &str) -> Result<Value> {
        self.get(&format!("/apps/{app}/config-vars")).await
    }

    /// Returns the Redis that a config var of the app names. REDIS_CA verifies that of REDIS_URL.
    pub async fn redis_of_app(&self, app: &str, config_var: &str) -> Result<Target> {
        let vars = self.config_vars(app).await?;
        let url = vars[config_var]
            .as_str()
            .with_context(|| format!("find the Redis of {app}: it has no {config_var}"))?;
        let authority = vars["REDIS_CA"].as_str().filter(|_| config_var == "REDIS_URL");
        Target::parse(url, authority)
    }
}

/// Rotates an add-on's credentials, first where it runs, then on the platform. Returns its name.
pub(super) async fn rotate(app: &str, cut: bool) -> Result<String> {
    let platform = PlatformClient::from_environment()?;
    let addons = platform.get(&format!("/apps/{app}/addons")).await?;
    let owned = addons
        .as_array()
        .into_iter()
        .flatten()
        .find(|addon| addon["app"]["name"] == app);
    let name = owned
        .and_then(|addon| addon["name"].as_str())
        .with_context(|| format!("find the add-on of {app}: it pays for none"))?;
    let provider = Provider::of(&Paths::from_environment()?.state().join(format!("addon-{name}")))?;
    let url = provider.rotate(&crate::random::hex(24)?).await?;
    if cut {
        provider.cut_clients().await?;
    }
    let path = format!("/_sandbox/addons/{name}/url");
    platform.call(Method::POST, &path, Some(&json!({"url": url}))).await?;
    Ok(name.to_owned())
}
