//! The scratch server: its files, and its life on the master host.

use crate::effects::host::engine::Layout;
use crate::effects::host::templates::{self, render};
use crate::effects::host::users::{app_rules, digest};
use crate::effects::remote::Session;
use crate::model::cloud::REHEARSAL_PORT;
use crate::model::config::Engine;
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

const FOLDER: &str = "/run/infra-rehearsal";
/// Settings of the pair that an app may notice on its first connection.
const NOTICED: [&str; 2] = ["databases", "notify-keyspace-events"];

/// An empty server that looks like the endpoint to a client that logs in as `app`.
pub struct Scratch {
    pub engine: Engine,
    /// `redis.settings` of the pair; only those that an app may notice are used.
    pub settings: BTreeMap<String, String>,
    pub app_commands: Vec<String>,
    /// The prefix of every key that the app may touch.
    pub prefix: String,
    pub app_password: Secret,
    pub admin_password: Secret,
}

pub struct Files {
    pub configuration: String,
    pub users: Secret,
}

#[derive(Serialize)]
struct Values<'a> {
    folder: &'a str,
    port: i32,
    #[serde(flatten)]
    layout: Layout,
    settings: Vec<Setting<'a>>,
    app: String,
    admin: String,
    prefix: &'a str,
    rules: String,
}

#[derive(Serialize)]
struct Setting<'a> {
    name: &'a str,
    value: &'a str,
}

impl Scratch {
    /// Makes fresh passwords, and a prefix of its own.
    pub fn new(engine: Engine, settings: BTreeMap<String, String>, app_commands: Vec<String>) -> Self {
        let name = Secret::generate().expose().chars().take(8).collect::<String>();
        Scratch {
            engine,
            settings,
            app_commands,
            prefix: format!("infra-rehearsal:{name}:"),
            app_password: Secret::generate(),
            admin_password: Secret::generate(),
        }
    }

    pub fn files(&self) -> Result<Files> {
        let taken = |(name, value): (&'_ String, &'_ String)| -> Option<(String, String)> {
            NOTICED.contains(&name.as_str()).then(|| (name.clone(), value.clone()))
        };
        let settings: Vec<(String, String)> = self.settings.iter().filter_map(taken).collect();
        let values = Values {
            folder: FOLDER,
            port: REHEARSAL_PORT,
            layout: Layout::of(self.engine),
            settings: settings.iter().map(|(name, value)| Setting { name, value }).collect(),
            app: digest(&self.app_password),
            admin: digest(&self.admin_password),
            prefix: &self.prefix,
            rules: app_rules(&self.app_commands)?.to_string(),
        };
        Ok(Files {
            configuration: render("the scratch server's settings", templates::REHEARSAL_CONF, &values)?,
            users: render("the scratch server's users", templates::REHEARSAL_ACL, &values).map(Secret::new)?,
        })
    }

    /// Starts the server, in the place of what an earlier rehearsal left.
    pub async fn start(&self, session: &Session, lifetime: Duration) -> Result<()> {
        let files = self.files()?;
        let owner = format!("root:{}", Layout::of(self.engine).user);
        ask(session, "begin", "make room for a scratch server on").await?;
        for (name, text) in [
            ("server.conf", files.configuration.as_str()),
            ("users.acl", files.users.expose()),
        ] {
            session
                .upload(&format!("{FOLDER}/{name}"), 0o640, &owner, text.as_bytes())
                .await?;
        }
        ask(
            session,
            &format!("start {}", lifetime.as_secs()),
            "start a scratch server on",
        )
        .await?;
        Ok(())
    }

    /// Returns what the server has logged so far.
    pub async fn log(&self, session: &Session) -> Result<String> {
        ask(session, "log", "read the scratch server's log on").await
    }

    pub async fn end(&self, session: &Session) -> Result<()> {
        ask(session, "end", "remove the scratch server from").await.map(drop)
    }
}

async fn ask(session: &Session, action: &str, doing: &str) -> Result<String> {
    let doing = format!("{doing} {}", session.label());
    let script = format!("{}rehearsal {action}\n", templates::REHEARSAL);
    let output = session.run("sudo -n bash -s", Some(script.as_bytes())).await?;
    let output = output
        .expect_success(&doing)
        .map_err(|error: Error| error.hint("run `infra up` first, so that the host is as it should be"))?;
    Ok(output.text())
}
