//! Where the sandbox keeps things: in a run's state folder, which `down` removes, and in the cache.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Folder of the run's state; overrides the default.
pub const STATE_VARIABLE: &str = "INFRA_SANDBOX_DIR";
/// Folder of what is built once; overrides the default.
pub const CACHE_VARIABLE: &str = "INFRA_SANDBOX_CACHE";

const DEFAULT_STATE: &str = "/var/lib/infra-sandbox";

/// Every path that the sandbox uses, from its two folders.
#[derive(Debug, Clone)]
pub struct Paths {
    state: PathBuf,
    cache: PathBuf,
}

impl Paths {
    /// The folders named by the environment, or the defaults.
    pub fn from_environment() -> Result<Self> {
        let state = std::env::var_os(STATE_VARIABLE).map_or_else(|| PathBuf::from(DEFAULT_STATE), PathBuf::from);
        let cache = match std::env::var_os(CACHE_VARIABLE) {
            Some(folder) => PathBuf::from(folder),
            None => std::env::home_dir()
                .context("find the cache folder: HOME is not set")?
                .join(".cache/infra-sandbox"),
        };
        Self::new(state, cache)
    }

    /// Both must be absolute, without characters that mean something in overlayfs's mount options.
    pub fn new(state: PathBuf, cache: PathBuf) -> Result<Self> {
        for (variable, folder) in [(STATE_VARIABLE, &state), (CACHE_VARIABLE, &cache)] {
            let text = folder.to_string_lossy();
            if !folder.is_absolute() || text.contains([':', ',', '\\', '"', '\'']) {
                bail!("{variable}={text} cannot be used: give an absolute path without any of : , \\ ' \"");
            }
        }
        Ok(Self { state, cache })
    }

    /// Folder of this run, mode 0700.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Folder that survives `down`: the image and the Python environment.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Returns the file that marks the state folder as the sandbox's, so that it may be removed.
    pub fn state_mark(&self) -> PathBuf {
        self.state.join(".infra-sandbox")
    }

    /// Returns the file of the supervisor's report.
    pub fn record(&self) -> PathBuf {
        self.state.join("sandbox.json")
    }

    /// `export K=V` lines for the operator's shell.
    pub fn environment_file(&self) -> PathBuf {
        self.state.join("env")
    }

    /// Certificates of the AWS API.
    pub fn tls(&self) -> PathBuf {
        self.state.join("tls")
    }

    /// The authority behind them.
    pub fn authority(&self) -> PathBuf {
        self.tls().join("authority.crt")
    }

    /// Its key, with which the add-on's certificate may be issued too.
    pub fn authority_key(&self) -> PathBuf {
        self.tls().join("authority.key")
    }

    /// Returns what clients on this computer trust: its own authorities, and the sandbox's.
    pub fn trusted(&self) -> PathBuf {
        self.tls().join("trusted.crt")
    }

    /// Returns the names that machines resolve, in the form of /etc/hosts.
    pub fn names(&self) -> PathBuf {
        self.state.join("names")
    }

    /// Returns the /etc/hosts of operator and app, if the add-on has a name.
    pub fn hosts(&self) -> PathBuf {
        self.state.join("hosts")
    }

    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// Temporary files of everything that the supervisor starts.
    pub fn temporary(&self) -> PathBuf {
        self.state.join("tmp")
    }

    pub fn machines(&self) -> PathBuf {
        self.state.join("machines")
    }

    /// The Python environment of the AWS part.
    pub fn python_environment(&self) -> PathBuf {
        self.cache.join("venv")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_overlayfs_would_misread_are_refused() {
        for folder in ["relative/folder", "/with:colon", "/with,comma"] {
            assert!(Paths::new(folder.into(), "/cache".into()).is_err(), "{folder} as state");
            assert!(Paths::new("/state".into(), folder.into()).is_err(), "{folder} as cache");
        }
        assert!(Paths::new("/var/lib/infra sandbox".into(), "/cache".into()).is_ok());
    }
}
