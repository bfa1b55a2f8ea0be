//! What only the host can do with what it rents out.
//!
//! Its own way in is kept in the add-on's folder, so that another process than the one that started the server can be the
//! host too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Addon, files};
use crate::connect::{Connection, Target};

const PATIENCE: Duration = Duration::from_secs(10);

/// The host of an add-on that runs.
pub struct Provider {
    folder: PathBuf,
    target: Target,
    /// The renter's URL around its password.
    around_password: (String, String),
}

impl Provider {
    /// Of the add-on with this folder.
    pub fn of(folder: &Path) -> Result<Self> {
        let doing = || format!("find the host's way into {}", folder.display());
        let url = std::fs::read_to_string(folder.join(files::PROVIDER_URL)).with_context(doing)?;
        // There is none without TLS.
        let certificate = std::fs::read_to_string(folder.join(files::CERTIFICATE)).ok();
        let (scheme, rest) = url.split_once("://").with_context(doing)?;
        let (_, address) = rest.split_once('@').with_context(doing)?;
        Ok(Self {
            folder: folder.to_owned(),
            target: Target::parse(&url, certificate.as_deref())?,
            around_password: (format!("{scheme}://:"), format!("@{address}")),
        })
    }

    /// A connection that may do everything, such as asking what the renter may.
    pub async fn connect(&self) -> Result<Connection> {
        let connected = self.target.connect(0, PATIENCE).await;
        connected.context("log in to the hosted Redis as its host")
    }

    /// Gives the renter a new password, and answers with the new URL. The old one is refused from then on; who is logged in
    /// stays. Tell the platform: attached apps learn it there.
    pub async fn rotate(&self, password: &str) -> Result<String> {
        if password.is_empty() || !password.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            bail!("rotate the hosted Redis's credentials: the password must consist of letters and digits");
        }
        let mut redis = self.connect().await?;
        let mut command = redis::cmd("ACL");
        command
            .arg("SETUSER")
            .arg("default")
            .arg("resetpass")
            .arg(format!(">{password}"));
        let set: redis::RedisResult<()> = command.query_async(&mut redis.commands).await;
        set.context("rotate the hosted Redis's credentials")?;
        files::replace_password(&self.folder, password)?;
        let (before, after) = &self.around_password;
        Ok(format!("{before}{password}{after}"))
    }

    /// Cuts all connections of the renter, as hosts do after a rotation or at an incident. They may come again.
    pub async fn cut_clients(&self) -> Result<u64> {
        let mut redis = self.connect().await?;
        let mut command = redis::cmd("CLIENT");
        command.arg("KILL").arg("USER").arg("default");
        command
            .query_async(&mut redis.commands)
            .await
            .context("cut the hosted Redis's connections")
    }
}

impl Addon {
    /// Its host.
    pub fn provider(&self) -> Result<Provider> {
        Provider::of(&self.folder)
    }

    /// As [`Provider::rotate`], and its own URL follows.
    pub async fn rotate(&mut self, password: &str) -> Result<()> {
        self.url = self.provider()?.rotate(password).await?;
        Ok(())
    }
}
