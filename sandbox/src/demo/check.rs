//! The demo app's own check of its way into Redis, with the mistakes that apps make there.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::connect::Target;

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct Check {
    /// Speak no TLS whatever the URL says
    #[arg(long)]
    without_tls: bool,
    /// Trust another authority than the one in REDIS_CA
    #[arg(long)]
    without_authority: bool,
    /// Send the password alone
    #[arg(long)]
    without_user: bool,
    /// Ask for all keys, as some libraries do
    #[arg(long)]
    with_keys: bool,
}

impl Check {
    /// Writes and reads one key below INFRA_REHEARSAL_PREFIX.
    pub async fn run(self) -> Result<ExitCode> {
        let var = |name: &str| std::env::var(name).with_context(|| format!("read the variable {name}"));
        let mut url = var("REDIS_URL")?;
        if self.without_tls {
            url = url.replacen("rediss://", "redis://", 1);
        }
        if self.without_user {
            url = without_user(&url);
        }
        let authority = if self.without_authority {
            rcgen::generate_simple_self_signed(vec!["elsewhere.test".to_owned()])
                .context("make up another authority")?
                .cert
                .pem()
        } else {
            var("REDIS_CA")?
        };
        let key = var("INFRA_REHEARSAL_PREFIX")? + "check";
        let connection = Target::parse(&url, Some(&authority))?
            .connect(0, PATIENCE)
            .await
            .context("connect to Redis")?;
        let mut commands = connection.commands.clone();
        if self.with_keys {
            redis::cmd("KEYS")
                .arg("*")
                .query_async::<Vec<String>>(&mut commands)
                .await?;
        }
        redis::cmd("SET")
            .arg(&key)
            .arg("written")
            .query_async::<()>(&mut commands)
            .await?;
        let read: String = redis::cmd("GET").arg(&key).query_async(&mut commands).await?;
        ensure!(read == "written", "read {key}: it is not what was written");
        println!("wrote and read {key}");
        Ok(ExitCode::SUCCESS)
    }
}

/// `rediss://app:password@host` becomes `rediss://:password@host`.
fn without_user(url: &str) -> String {
    match url
        .split_once("://")
        .and_then(|(scheme, rest)| Some((scheme, rest.split_once(':')?)))
    {
        Some((scheme, (_, rest))) => format!("{scheme}://:{rest}"),
        None => url.to_owned(),
    }
}
