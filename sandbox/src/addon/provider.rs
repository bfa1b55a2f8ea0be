//! What only the host can do with what it rents out.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Addon, files};
use crate::connect::{Connection, Target};

const PATIENCE: Duration = Duration::from_secs(10);

impl Addon {
    /// A connection that may do everything, such as asking what the renter may.
    pub async fn administer(&self) -> Result<Connection> {
        let target = Target::parse(&self.provider_url, self.certificate.as_deref())?;
        let connected = target.connect(0, PATIENCE).await;
        connected.context("log in to the hosted Redis as its host")
    }

    /// Gives the renter a new password; the old one is refused from then on, and who is logged in already stays. Tell the
    /// platform the new URL: attached apps learn it there.
    pub async fn rotate(&mut self, password: &str) -> Result<()> {
        if password.is_empty() || !password.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            bail!("rotate the hosted Redis's credentials: the password must consist of letters and digits");
        }
        let mut redis = self.administer().await?;
        let mut command = redis::cmd("ACL");
        command
            .arg("SETUSER")
            .arg("default")
            .arg("resetpass")
            .arg(format!(">{password}"));
        let set: redis::RedisResult<()> = command.query_async(&mut redis.commands).await;
        set.context("rotate the hosted Redis's credentials")?;
        let (before, after) = self.url.split_once('@').context("read the hosted Redis's URL")?;
        let (scheme, old) = before.split_once("://:").context("read the hosted Redis's URL")?;
        files::replace_password(&self.configuration, old, password)?;
        self.url = format!("{scheme}://:{password}@{after}");
        Ok(())
    }

    /// Cuts all connections of the renter, as hosts do after a rotation or at an incident. They may come again.
    pub async fn cut_clients(&self) -> Result<u64> {
        let mut redis = self.administer().await?;
        let mut command = redis::cmd("CLIENT");
        command.arg("KILL").arg("USER").arg("default");
        command
            .query_async(&mut redis.commands)
            .await
            .context("cut the hosted Redis's connections")
    }
}
