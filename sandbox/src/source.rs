//! The kinds of hosted Redis that the sandbox rents: each differs from the others as real hosts do.

use clap::ValueEnum;

use crate::addon::{Engine, Profile, Tls};

/// A kind of hosted Redis, with the config vars by which the app reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// Redis 7 with Heroku's kind of certificate and room for any number of connections
    #[default]
    Default,
    /// A leaf below a self-signed root, 20 connections, no CONFIG
    Heroku,
    /// A public authority's certificate for its name, no PSYNC and no CLIENT PAUSE, database 0 alone; MONITOR is allowed
    Cloud,
    /// As `cloud`, and INFO says little; MONITOR, CLIENT LIST and CLIENT KILL are denied
    Thin,
    /// As `default`, without PSYNC; CLIENT PAUSE and MONITOR are allowed
    NoReplication,
    /// A public authority's certificate for its name
    Public,
    /// As `default`, with a leaf of version 1
    V1,
    /// No TLS
    Plain,
    /// The URL's query names database 2
    Query,
    /// One add-on with two vars: REDIS_URL without TLS, which web reads, and REDIS_TLS_URL on a port of its own, which the worker reads
    TwoVars,
    /// The add-on owns REDISCLOUD_URL, which the worker reads; REDIS_URL is a plain copy of it, which web reads
    CopiedVar,
    /// Redis 6.0: no CLIENT PAUSE of writes alone
    #[value(name = "redis-6")]
    Redis6,
    /// Redis 6.2 without TLS
    #[value(name = "redis-6.2")]
    Redis62,
    /// Redis 8.0
    #[value(name = "redis-8")]
    Redis8,
    /// Valkey 8.1
    #[value(name = "valkey-8")]
    Valkey8,
}

/// The vars that lead the app to the add-on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vars {
    /// REDIS_URL alone.
    #[default]
    One,
    /// REDIS_URL without TLS, and REDIS_TLS_URL.
    TwoPorts,
    /// REDISCLOUD_URL, and REDIS_URL as a plain copy of it.
    WithCopy,
}

/// What an add-on is, and how the app reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rented {
    pub engine: Engine,
    pub tls: Tls,
    pub profile: Profile,
    /// True if the URL has a name in place of an address.
    pub is_named: bool,
    /// The plan's connections; `None` for as many as the server takes.
    pub connections: Option<u32>,
    pub databases: u32,
    /// The database that the URL's query names.
    pub database: Option<u32>,
    pub vars: Vars,
}

impl Source {
    pub fn rented(self) -> Rented {
        let default = Rented {
            engine: Engine::default(),
            tls: Tls::default(),
            profile: Profile::default(),
            is_named: false,
            connections: None,
            databases: 16,
            database: None,
            vars: Vars::default(),
        };
        let public = Rented {
            tls: Tls::Authority,
            is_named: true,
            ..default
        };
        let engine = |engine| Rented { engine, ..default };
        match self {
            Self::Default => default,
            Self::Heroku => Rented {
                connections: Some(20),
                ..default
            },
            Self::Cloud => Rented {
                profile: Profile::Cloud,
                databases: 1,
                ..public
            },
            Self::Thin => Rented {
                profile: Profile::Thin,
                databases: 1,
                ..public
            },
            Self::NoReplication => Rented {
                profile: Profile::NoReplication,
                ..default
            },
            Self::Public => public,
            Self::V1 => Rented {
                tls: Tls::V1,
                ..default
            },
            Self::Plain => Rented {
                tls: Tls::Off,
                ..default
            },
            Self::Query => Rented {
                database: Some(2),
                ..default
            },
            Self::TwoVars => Rented {
                vars: Vars::TwoPorts,
                ..default
            },
            Self::CopiedVar => Rented {
                vars: Vars::WithCopy,
                ..default
            },
            Self::Redis6 => engine(Engine::Redis6),
            Self::Redis62 => Rented {
                tls: Tls::Off,
                ..engine(Engine::Redis62)
            },
            Self::Redis8 => engine(Engine::Redis8),
            Self::Valkey8 => engine(Engine::Valkey8),
        }
    }
}

impl Rented {
    /// Returns whether the renter may hold back all writes by CLIENT PAUSE.
    pub fn may_pause(&self) -> bool {
        self.engine != Engine::Redis6 && matches!(self.profile, Profile::Default | Profile::NoReplication)
    }

    /// Returns whether a replica may follow it.
    pub fn may_replicate(&self) -> bool {
        matches!(self.profile, Profile::Default | Profile::NoPause)
    }

    /// Returns how many of the demo's databases it has.
    pub fn demo_databases(&self) -> u32 {
        self.databases.min(2)
    }
}

impl Vars {
    /// Returns the name of the app's attachment.
    pub fn attachment(self) -> &'static str {
        match self {
            Self::One | Self::TwoPorts => "REDIS",
            Self::WithCopy => "REDISCLOUD",
        }
    }

    /// Returns the var that the add-on itself owns, for `source.config_var`.
    pub fn of_source(self) -> &'static str {
        match self {
            Self::One | Self::TwoPorts => "REDIS_URL",
            Self::WithCopy => "REDISCLOUD_URL",
        }
    }

    /// Returns the var that the worker reads; web reads REDIS_URL.
    pub fn of_worker(self) -> &'static str {
        match self {
            Self::One => "REDIS_URL",
            Self::TwoPorts => "REDIS_TLS_URL",
            Self::WithCopy => "REDISCLOUD_URL",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_without_tls_is_rented_without() {
        for source in Source::value_variants() {
            let rented = source.rented();
            assert!(rented.engine != Engine::Redis62 || rented.tls == Tls::Off, "{source:?}");
        }
    }

    #[test]
    fn hosts_that_deny_pausing_leave_the_platform_as_fence() {
        for (source, may_pause) in [
            (Source::Heroku, true),
            (Source::Cloud, false),
            (Source::Thin, false),
            (Source::NoReplication, true),
            (Source::Redis6, false),
            (Source::Redis62, true),
        ] {
            assert_eq!(source.rented().may_pause(), may_pause, "{source:?}");
        }
    }
}
