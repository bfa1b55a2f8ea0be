//! Where the distribution puts the engine: names and paths of Debian's packages.

use crate::config::Engine;

/// Names and paths of one engine on Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub server_package: &'static str,
    pub tools_package: &'static str,
    /// The user and group that the engine runs as.
    pub user: &'static str,
    pub unit: &'static str,
    pub client: &'static str,
    pub rdb_check: &'static str,
    pub config_folder: &'static str,
    pub config_file: &'static str,
    pub data_folder: &'static str,
    /// Where root speaks to the engine without TLS; nobody else may open it.
    pub socket: &'static str,
}

impl Layout {
    pub fn of(engine: Engine) -> Self {
        match engine {
            Engine::Redis => Layout {
                server_package: "redis-server",
                tools_package: "redis-tools",
                user: "redis",
                unit: "redis-server.service",
                client: "redis-cli",
                rdb_check: "redis-check-rdb",
                config_folder: "/etc/redis",
                config_file: "/etc/redis/redis.conf",
                data_folder: "/var/lib/redis",
                socket: "/run/redis/redis-server.sock",
            },
            Engine::Valkey => Layout {
                server_package: "valkey-server",
                tools_package: "valkey-tools",
                user: "valkey",
                unit: "valkey-server.service",
                client: "valkey-cli",
                rdb_check: "valkey-check-rdb",
                config_folder: "/etc/valkey",
                config_file: "/etc/valkey/valkey.conf",
                data_folder: "/var/lib/valkey",
                socket: "/run/valkey/valkey-server.sock",
            },
        }
    }

    /// The unit of the engine that this one is not: both on one host would be one too many.
    pub fn other_unit(&self) -> &'static str {
        match self.unit {
            "valkey-server.service" => "redis-server.service",
            _ => "valkey-server.service",
        }
    }

    pub fn users_file(&self) -> String {
        format!("{}/users.acl", self.config_folder)
    }

    pub fn certificate_file(&self) -> String {
        format!("{}/tls/host.crt", self.config_folder)
    }

    pub fn key_file(&self) -> String {
        format!("{}/tls/host.key", self.config_folder)
    }

    pub fn authorities_file(&self) -> String {
        format!("{}/tls/trusted.crt", self.config_folder)
    }
}
