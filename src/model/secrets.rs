//! The environment's secrets from SSM, with getters that name a missing one.

use super::role::Role;
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use strum::{Display, IntoStaticStr};

/// Names of the parameters under `/infra/<name>/<env>/`.
pub mod parameter {
    use super::{RedisUser, Role};

    /// The operator's private key, in OpenSSH's PEM.
    pub const SSH_KEY: &str = "ssh-key";
    /// The operator's public key, one line; not secret.
    pub const SSH_PUBLIC_KEY: &str = "ssh-public-key";
    /// The private key of the environment's certificate authority, in PEM.
    pub const CA_KEY: &str = "ca-key";
    /// The authority's certificate, in PEM; not secret.
    pub const CA_CERT: &str = "ca-cert";

    /// Returns the name of the host key that user-data holds until first contact.
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

    /// Returns the name of the next password during a rotation.
    pub fn next_password(user: RedisUser) -> String {
        format!("next-password/{}", user.name())
    }
}

/// The users of the pair's Redis.
#[derive(
    Clone, Copy, Debug, Deserialize, Display, IntoStaticStr, Serialize, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum RedisUser {
    /// The app, at the endpoint
    App,
    /// The replica, at the master
    Replication,
    /// The agent that ships the log, on its own host
    Backup,
    /// A program that reads metrics, such as a Prometheus exporter
    Monitoring,
    /// This program
    Admin,
}

impl RedisUser {
    /// All users. The admin comes last, since its password gives access to the others.
    pub const ALL: [RedisUser; 5] = [
        RedisUser::App,
        RedisUser::Replication,
        RedisUser::Backup,
        RedisUser::Monitoring,
        RedisUser::Admin,
    ];

    /// Returns the name in Redis's ACL and in SSM.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns true if the user may log in from anywhere; the module limits the others to the pair.
    pub fn comes_from_anywhere(self) -> bool {
        !matches!(self, RedisUser::Replication | RedisUser::Backup)
    }
}

/// The parameters of one environment in SSM. Debug shows names only.
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

    /// Returns the parameter with this name below the prefix, or an error that names it.
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

    /// Returns `None` once first contact has replaced it.
    pub fn bootstrap_host_key(&self, role: Role) -> Option<&Secret> {
        self.find(&parameter::bootstrap_host_key(role))
    }

    pub fn ca_key(&self) -> Result<&Secret> {
        self.get(parameter::CA_KEY)
    }

    pub fn ca_cert(&self) -> Result<&str> {
        self.get(parameter::CA_CERT).map(Secret::expose)
    }

    /// Returns `None` until the host's addresses are known.
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
