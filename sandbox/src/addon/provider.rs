//! Acts of the provider of an add-on, which nobody else can do.
//! The provider's URL is in the add-on's folder, so that any process can act as the provider.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Addon, Shown, files};
use crate::connect::{Connection, Target};

const PATIENCE: Duration = Duration::from_secs(10);

/// The provider of a running add-on.
pub struct Provider {
    folder: PathBuf,
    target: Target,
    /// The renter's URL around its password.
    around_password: (String, String),
}

impl Provider {
    pub fn of(folder: &Path) -> Result<Self> {
        let doing = || format!("find the host's way into {}", folder.display());
        let url = std::fs::read_to_string(folder.join(files::PROVIDER_URL)).with_context(doing)?;
        let certificate = std::fs::read_to_string(folder.join(files::AUTHORITY)).ok();
        let (scheme, rest) = url.split_once("://").with_context(doing)?;
        let (_, address) = rest.split_once('@').with_context(doing)?;
        Ok(Self {
            folder: folder.to_owned(),
            target: Target::parse(&url, certificate.as_deref())?,
            around_password: (format!("{scheme}://:"), format!("@{address}")),
        })
    }

    /// Connects with all rights, such as asking what the renter may do.
    pub async fn connect(&self) -> Result<Connection> {
        let connected = self.target.connect(0, PATIENCE).await;
        connected.context("log in to the hosted Redis as its host")
    }

    /// Gives the renter a new password and returns the new URL. The old password is refused from
    /// then on; sessions stay. The caller has to report the URL to the platform.
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

    /// Shows another certificate from the next connection on.
    pub async fn show(&self, shown: &Shown) -> Result<()> {
        let mut redis = self.connect().await?;
        let file = |name: &str| self.folder.join(name).display().to_string();
        files::write_shown(&self.folder, shown)?;
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("tls-cert-file").arg(file(files::CERTIFICATE));
        command.arg("tls-key-file").arg(file(files::KEY));
        let set: redis::RedisResult<()> = command.query_async(&mut redis.commands).await;
        set.context("let the hosted Redis show another certificate")
    }

    /// Disconnects all clients of the renter, as providers do after a rotation. They may reconnect.
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
    pub fn provider(&self) -> Result<Provider> {
        Provider::of(&self.folder)
    }

    /// Rotates as [`Provider::rotate`] does, and keeps the new URL.
    pub async fn rotate(&mut self, password: &str) -> Result<()> {
        self.url = self.provider()?.rotate(password).await?;
        Ok(())
    }
}
