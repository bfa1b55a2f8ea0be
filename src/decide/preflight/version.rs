//! Decides which engine can read the source's data.
//!
//! A copy begins with an RDB file, whose version a server may refuse. Redis 5 to 6.2 write 9, Redis
//! 7.0 writes 10, Redis 7.2 and Valkey 7.2 to 8 write 11, Redis 7.4 and later write 12 and more. No
//! Valkey reads 12. Valkey 9 writes `VALKEY080`, which no Redis and no older Valkey reads.

use super::Finding;
use crate::model::config::Engine as Choice;
use crate::model::follow::Follower;
use serde::Serialize;
use wire::info::{Engine, Version};

/// The engine that the pair runs and the oldest version of it that the image brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OwnEngine {
    pub engine: Engine,
    pub version: Version,
}

/// Returns the engine that an image installs. An image given by its id is taken for a Debian 13.
pub fn own_engine(choice: Choice, image: &str) -> OwnEngine {
    let (engine, version) = match (choice, image) {
        (Choice::Redis, "debian-12") => (Engine::Redis, Version::new(7, 0, 0)),
        (Choice::Redis, _) => (Engine::Redis, Version::new(8, 0, 0)),
        (Choice::Valkey, _) => (Engine::Valkey, Version::new(8, 1, 0)),
    };
    OwnEngine { engine, version }
}

/// The format that a server writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// The common format, by its version.
    Rdb(u32),
    /// Valkey's own.
    Valkey,
}

fn written(engine: Engine, version: Version) -> Format {
    match (engine, version.major, version.minor) {
        (Engine::Valkey, 9.., _) => Format::Valkey,
        (Engine::Valkey, ..) => Format::Rdb(11),
        (Engine::Redis, ..5, _) => Format::Rdb(8),
        (Engine::Redis, 5..=6, _) => Format::Rdb(9),
        (Engine::Redis, 7, ..2) => Format::Rdb(10),
        (Engine::Redis, 7, 2..=3) => Format::Rdb(11),
        (Engine::Redis, ..) => Format::Rdb(12),
    }
}

fn reads(own: OwnEngine, format: Format) -> bool {
    match (own.engine, format) {
        (Engine::Valkey, Format::Valkey) => own.version.major >= 9,
        (Engine::Redis, Format::Valkey) => false,
        // Valkey refuses the versions that Redis took after the two projects parted.
        (Engine::Valkey, Format::Rdb(version)) => version <= 11,
        (Engine::Redis, Format::Rdb(version)) => match written(own.engine, own.version) {
            Format::Rdb(newest) => version <= newest,
            Format::Valkey => false,
        },
    }
}

pub fn judge(follower: Follower, engine: Engine, version: Version, own: OwnEngine) -> Finding {
    let found = format!("source {engine:?} {version}, pair {:?} {}", own.engine, own.version);
    // A newer minor version may hold what an older one does not know, also with equal RDB versions.
    let newer = engine == own.engine && (version.major, version.minor) > (own.version.major, own.version.minor);
    let is_read = reads(own, written(engine, version)) && !newer;
    if !is_read && follower == Follower::Copy {
        return Finding::warning(
            "version",
            format!("{found}: the pair does not read the source's format, so its keys are copied by their types"),
            "types that the pair does not know, and hash fields that expire by themselves, cannot be copied. `infra status` names the first such key, and no cutover begins while there is one: choose a newer engine then (redis.engine, hosts.image)",
        );
    }
    if !is_read {
        let remedy = match (engine, own.engine) {
            (Engine::Valkey, _) if version.major >= 9 => {
                "Valkey 9 writes a format that only itself reads: take an image with a Valkey that is not older (redis.engine, hosts.image)"
            }
            (Engine::Redis, Engine::Valkey) => {
                "set redis.engine to redis, since from 7.4 on its data cannot be read by Valkey; or source.follow to copy, which reads keys by their types"
            }
            _ => {
                "choose an engine and image that are not older than the source (redis.engine, hosts.image), or set source.follow to copy, which reads keys by their types"
            }
        };
        return Finding::blocker(
            "version",
            format!("the pair cannot read the source's data: {found}"),
            remedy,
        );
    }
    if engine == Engine::Redis && version < Version::new(5, 0, 0) {
        return Finding::warning(
            "version",
            format!("{found}: nobody tried a source this old"),
            "ask the provider for an upgrade first, or run `infra up` and `infra verify` and see",
        );
    }
    Finding::ok("version", found)
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn a_pair_that_cannot_read_the_sources_data_is_a_blocker() {
        use Engine::{Redis, Valkey};
        let own = |engine, major, minor| OwnEngine {
            engine,
            version: Version::new(major, minor, 0),
        };
        let cases = [
            (Redis, (7, 2, 5), own(Valkey, 8, 1), true),
            (Redis, (7, 3, 240), own(Valkey, 8, 1), true),
            (Redis, (7, 4, 0), own(Valkey, 8, 1), false),
            (Redis, (8, 0, 0), own(Valkey, 9, 0), false),
            (Redis, (6, 2, 1), own(Valkey, 9, 0), true),
            (Valkey, (7, 2, 5), own(Redis, 8, 0), true),
            (Valkey, (8, 1, 0), own(Redis, 8, 0), true),
            (Valkey, (8, 1, 0), own(Redis, 7, 0), false),
            (Valkey, (9, 0, 0), own(Redis, 8, 0), false),
            (Valkey, (9, 0, 0), own(Valkey, 8, 1), false),
            (Valkey, (9, 0, 3), own(Valkey, 9, 0), true),
            (Valkey, (8, 0, 1), own(Valkey, 9, 0), true),
            (Redis, (8, 0, 9), own(Redis, 8, 0), true),
            (Redis, (8, 2, 0), own(Redis, 8, 0), false),
            (Redis, (7, 4, 2), own(Redis, 8, 0), true),
            (Redis, (7, 2, 0), own(Redis, 7, 0), false),
            (Redis, (6, 0, 16), own(Redis, 7, 0), true),
        ];
        for (engine, (major, minor, patch), own, readable) in cases {
            let version = Version::new(major, minor, patch);
            let copied = judge(Follower::Copy, engine, version, own);
            assert_eq!(copied.severity, if readable { Severity::Ok } else { Severity::Warning });
            let finding = judge(Follower::Replication, engine, version, own);
            assert_eq!(
                finding.severity != Severity::Blocker,
                readable,
                "{finding:?} of {own:?}"
            );
        }
    }
}
