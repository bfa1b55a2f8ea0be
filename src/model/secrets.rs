//! The environment's secrets as they were read from SSM, behind getters that say which one is missing.

use super::role::Role;
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Names of the parameters under `/infra/<name>/<env>/`.
pub mod parameter {
    use super::{RedisUser, Role};

    /// The operator's private key, OpenSSH PEM.
    pub const SSH_KEY: &str = "ssh-key";
    /// Its public half, one line; not secret.
    pub const SSH_PUBLIC_KEY: &str = "ssh-public-key";
    /// The private key of the environment's certificate authority, PEM.
    pub const CA_KEY: &str = "ca-key";
    /// Its certificate, PEM; not secret.
    pub const CA_CERT: &str = "ca-cert";

    /// The host key that user-data carries until first contact.
    pub fn bootstrap_host_key(role: Role) -> String {
        format!("bootstrap-host-key/{role}")
    }

    pub fn tls_key(role: Role) -> String {
        format!("tls-key/{role}")
    }

    pub fn tls_cert(role: Role) -> String {
        format!("tls-cert/{role}")
    }

    pub fn password(user: RedisUser) -> String {
        format!("password/{}", user.name())
    }

    /// The one that takes its place, while a rotation is under way.
    pub fn next_password(user: RedisUser) -> String {
        format!("next-password/{}", user.name())
    }
}

/// Who logs in to the pair's Redis.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RedisUser {
    /// The app, at the endpoint
    App,
    /// The replica, at the master
    Replication,
    /// The agent that ships the log, on its own host
    Backup,
    /// Whatever watches figures, such as a Prometheus exporter
    Monitoring,
    /// This program
    Admin,
}

impl RedisUser {
    /// Whoever others depend on comes last: the admin, since its password leads to all.
    pub const ALL: [RedisUser; 5] = [
        RedisUser::App,
        RedisUser::Replication,
        RedisUser::Backup,
        RedisUser::Monitoring,
        RedisUser::Admin,
    ];

    /// The name in Redis's ACL and in SSM.
    pub fn name(self) -> &'static str {
        match self {
            RedisUser::App => "app",
            RedisUser::Replication => "replication",
            RedisUser::Backup => "backup",
            RedisUser::Monitoring => "monitoring",
            RedisUser::Admin => "admin",
        }
    }

    /// Whether the engine lets this user in from anywhere that reaches its port; the others come from the pair's own hosts, by the module.
    pub fn comes_from_anywhere(self) -> bool {
        !matches!(self, RedisUser::Replication | RedisUser::Backup)
    }
}

impl fmt::Display for RedisUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What SSM holds for one environment. Its Debug shows names only.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// `/infra/<name>/<env>/`, for messages.
    prefix: String,
    values: BTreeMap<String, Secret>,
}

impl Secrets {
    pub fn new(prefix: impl Into<String>, values: BTreeMap<String, Secret>) -> Self {
        Secrets {
            prefix: prefix.into(),
            values,
        }
    }

    /// The parameter with this name below the prefix, or an error that names it.
    pub fn get(&self, name: &str) -> Result<&Secret> {
        self.find(name).ok_or_else(|| {
            Error::failed(format!("read the SSM parameter {}{name}: there is none", self.prefix))
                .hint("run `infra up`: it makes the parameters that are missing")
        })
    }

    pub fn find(&self, name: &str) -> Option<&Secret> {
        self.values.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Takes in a value that was just stored.
    pub fn insert(&mut self, name: impl Into<String>, value: Secret) {
        self.values.insert(name.into(), value);
    }

    pub fn remove(&mut self, name: &str) {
        self.values.remove(name);
    }

    pub fn ssh_key(&self) -> Result<&Secret> {
        self.get(parameter::SSH_KEY)
    }

    pub fn ssh_public_key(&self) -> Result<&str> {
        self.get(parameter::SSH_PUBLIC_KEY).map(Secret::expose)
    }

    /// Absent once first contact has replaced it.
    pub fn bootstrap_host_key(&self, role: Role) -> Option<&Secret> {
        self.find(&parameter::bootstrap_host_key(role))
    }

    pub fn ca_key(&self) -> Result<&Secret> {
        self.get(parameter::CA_KEY)
    }

    pub fn ca_cert(&self) -> Result<&str> {
        self.get(parameter::CA_CERT).map(Secret::expose)
    }

    /// Absent until the host's addresses are known.
    pub fn tls_key(&self, role: Role) -> Option<&Secret> {
        self.find(&parameter::tls_key(role))
    }

    pub fn tls_cert(&self, role: Role) -> Option<&str> {
        self.find(&parameter::tls_cert(role)).map(Secret::expose)
    }

    pub fn password(&self, user: RedisUser) -> Result<&Secret> {
        self.get(&parameter::password(user))
    }

    pub fn next_password(&self, user: RedisUser) -> Result<&Secret> {
        self.get(&parameter::next_password(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_parameter_is_named_in_full_and_values_never_show() {
        let mut secrets = Secrets::new("/infra/demo/production/", BTreeMap::new());
        secrets.insert(parameter::password(RedisUser::App), Secret::new("hunter2"));
        let error = secrets.password(RedisUser::Admin).unwrap_err();
        assert!(
            error.to_string().contains("/infra/demo/production/password/admin"),
            "{error}"
        );
        assert!(!format!("{secrets:?}").contains("hunter2"));
        assert_eq!(secrets.password(RedisUser::App).unwrap().expose(), "hunter2");
    }
}
