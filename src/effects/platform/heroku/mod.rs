//! The Heroku Platform API, as far as a move of one app's Redis needs it.

mod attachments;
mod config_vars;
mod consumers;
mod egress;
#[cfg(test)]
mod fuzz;
mod http;
mod one_off;
mod processes;
mod releases;
mod survey;
#[cfg(test)]
mod tests;

pub use attachments::{Attachment, owner};
pub use config_vars::ConfigVars;
pub use consumers::{Consumer, Consumers};
pub use one_off::ENDED;
pub use processes::{Crashed, Dyno, Formation};
pub use releases::{Release, ReleaseStatus};
pub use survey::{AppSurvey, ChangeProbe};

use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use http::Http;
use serde::Deserialize;

/// The address of the public API; HEROKU_API_URL names another.
pub const PUBLIC_API: &str = "https://api.heroku.com";

/// One app on the platform, with a key that may change it.
#[derive(Clone)]
pub struct Heroku {
    http: Http,
    app: String,
}

/// Holds the platform's facts of the app itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    pub name: String,
    /// The platform's name of the region, such as `us`.
    pub region: String,
    /// The Private Space of the app, if any; it restarts a quarter of the processes at a time.
    pub space: Option<String>,
    pub maintenance: bool,
}

#[derive(Deserialize)]
struct AppReply {
    name: String,
    region: Named,
    #[serde(default)]
    space: Option<Named>,
    #[serde(default)]
    maintenance: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct Named {
    name: String,
}

impl Heroku {
    /// Uses HEROKU_API_URL (default: the public API) and HEROKU_API_KEY.
    pub fn from_env(app: &str) -> Result<Self> {
        let key = std::env::var("HEROKU_API_KEY")
            .ok()
            .filter(|key| !key.trim().is_empty());
        let Some(key) = key else {
            return Err(Error::usage(format!(
                "speak to the platform about app {app}: HEROKU_API_KEY is not set"
            ))
            .hint("set it in the environment; `heroku authorizations:create` makes one"));
        };
        let api = std::env::var("HEROKU_API_URL")
            .ok()
            .filter(|url| !url.trim().is_empty());
        Self::new(api.as_deref().unwrap_or(PUBLIC_API), Secret::new(key.trim()), app)
    }

    pub fn new(api: &str, key: Secret, app: &str) -> Result<Self> {
        Ok(Heroku {
            http: Http::new(api, key)?,
            app: app.into(),
        })
    }

    pub fn app_name(&self) -> &str {
        &self.app
    }

    pub async fn app(&self) -> Result<App> {
        let reply: AppReply = self.http.get(&self.path(""), &format!("read app {}", self.app)).await?;
        Ok(App {
            name: reply.name,
            region: reply.region.name,
            space: reply.space.map(|space| space.name),
            maintenance: reply.maintenance,
        })
    }

    /// Turns maintenance on or off. Visitors then see a page of the platform; workers continue.
    pub async fn set_maintenance(&self, on: bool) -> Result<()> {
        let doing = format!("turn maintenance {} for app {}", on_off(on), self.app);
        // Setting it twice has the effect of once, so it is set again if the answer was lost.
        let body = serde_json::json!({ "maintenance": on });
        let is_made = || async { Ok(self.app().await?.maintenance == on) };
        self.http
            .make("PATCH", &self.path(""), Some(body), &doing, is_made)
            .await
    }

    /// Returns the AWS region that the app runs in, such as `us-east-1`.
    pub async fn aws_region(&self) -> Result<String> {
        #[derive(Deserialize)]
        struct Region {
            provider: Provider,
        }
        #[derive(Deserialize)]
        struct Provider {
            region: String,
        }
        let region = self.app().await?.region;
        let known = match region.as_str() {
            "us" => Some("us-east-1"),
            "eu" => Some("eu-west-1"),
            _ => None,
        };
        if let Some(known) = known {
            return Ok(known.into());
        }
        let reply: Region = self
            .http
            .get(&format!("/regions/{region}"), &format!("look up the region {region}"))
            .await?;
        Ok(reply.provider.region)
    }

    fn path(&self, rest: &str) -> String {
        format!("/apps/{}{rest}", self.app)
    }
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
