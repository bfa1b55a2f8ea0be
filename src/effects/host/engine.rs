//! Names and paths of the engines in Debian's packages.

use crate::model::config::Engine;
use serde::Serialize;

/// Names and paths of one engine on Debian; the templates of its files use them.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
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
    pub users_file: &'static str,
    pub certificate_file: &'static str,
    pub key_file: &'static str,
    pub authorities_file: &'static str,
    pub data_folder: &'static str,
    /// The socket for root without TLS; nobody else may open it.
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
                users_file: "/etc/redis/users.acl",
                certificate_file: "/etc/redis/tls/host.crt",
                key_file: "/etc/redis/tls/host.key",
                authorities_file: "/etc/redis/tls/trusted.crt",
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
                users_file: "/etc/valkey/users.acl",
                certificate_file: "/etc/valkey/tls/host.crt",
                key_file: "/etc/valkey/tls/host.key",
                authorities_file: "/etc/valkey/tls/trusted.crt",
                data_folder: "/var/lib/valkey",
                socket: "/run/valkey/valkey-server.sock",
            },
        }
    }

    /// Returns the unit of the other engine: a host must not run both.
    pub fn other_unit(&self) -> &'static str {
        match self.unit {
            "valkey-server.service" => "redis-server.service",
            _ => "valkey-server.service",
        }
    }

    /// Returns true if the version asks modules at logins: Redis 7.2 and up, Valkey, unknown ones.
    pub fn asks_at_login(&self, version: &str) -> bool {
        let upstream = version.split_once(':').map_or(version, |(_, rest)| rest);
        let mut numbers = upstream
            .split(['.', '-', '+', '~'])
            .map_while(|word| word.parse::<u32>().ok());
        let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
            return true;
        };
        (major, minor) >= (7, 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_versions_show_which_engines_ask_a_module_at_a_login() {
        let asks = |version| Layout::of(Engine::Redis).asks_at_login(version);
        for (version, expected) in [
            ("5:7.0.15-1~deb12u5", false),
            ("5:6.0.16-1+deb11u2", false),
            ("7.2~rc1-1", true),
            ("5:8.0.2-3", true),
            ("10.0-1", true),
            ("8.1.1+dfsg1-3", true),
            ("unknown", true),
        ] {
            assert_eq!(asks(version), expected, "{version}");
        }
    }
}
