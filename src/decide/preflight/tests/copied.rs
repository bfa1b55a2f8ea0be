//! A source that is copied: its watch, and its large keys.

use super::*;

#[test]
fn a_source_that_is_copied_needs_neither_replication_nor_its_list_of_clients() {
    let facts = source(|source| {
        source.follower = Follower::Copy;
        source.permissions.psync = denied();
        source.permissions.client_list = denied();
        source.permissions.client_kill = denied();
        source.monitor = denied();
    });
    assert_eq!(ids(&facts, Severity::Blocker), [] as [&str; 0]);
    assert_eq!(ids(&facts, Severity::Warning), ["clients", "kill"]);
    let found = judge(&facts);
    let line = |id: &str| found.iter().find(|finding| finding.id == id).unwrap().line();
    assert!(
        line("follow").contains("8 MiB a second") || line("follow").contains("8.0"),
        "{}",
        line("follow")
    );
    assert!(
        line("fence-length").contains("all 100,000 keys"),
        "{}",
        line("fence-length")
    );
    let large = source(|source| {
        source.follower = Follower::Copy;
        source.monitor = denied();
        source.keys = 5_000_000;
    });
    assert_eq!(ids(&large, Severity::Warning), ["fence-length"]);
}

#[test]
fn a_source_with_monitor_is_watched_and_its_price_is_named() {
    let line = |facts: &Facts, id: &str| {
        judge(facts)
            .iter()
            .find(|finding| finding.id == id)
            .map(|found| found.line())
    };
    let watched = source(|source| {
        source.follower = Follower::Copy;
        source.keys = 5_000_000;
        source.survey.input_bytes_per_s = 10_000;
    });
    assert_eq!(ids(&watched, Severity::Warning), [] as [&str; 0]);
    let watch = line(&watched, "watch").unwrap();
    assert!(
        watch.contains("every value") && watch.contains("about 9.8 KiB a second"),
        "{watch}"
    );
    assert!(
        line(&watched, "fence-length")
            .unwrap()
            .contains("only keys that were written meanwhile")
    );
    let busy = source(|source| {
        source.follower = Follower::Copy;
        source.survey.input_bytes_per_s = 3 << 20;
    });
    assert!(ids(&busy, Severity::Warning).contains(&"watch"));
    let larger = Facts {
        network: Some(40 << 20),
        ..source(|source| {
            source.follower = Follower::Copy;
            source.survey.input_bytes_per_s = 3 << 20;
        })
    };
    assert!(!ids(&larger, Severity::Warning).contains(&"watch"));
    for (facts, why) in [
        (
            source(|source| {
                source.follower = Follower::Copy;
                source.monitor = denied();
            }),
            "NOPERM",
        ),
        (
            source(|source| {
                source.follower = Follower::Copy;
                source.survey.commands.clear();
            }),
            "commandstats",
        ),
    ] {
        let watch = line(&facts, "watch").unwrap();
        assert!(watch.contains("none") && watch.contains(why), "{watch}");
        assert!(line(&facts, "fence-length").unwrap().contains("all 100,000 keys"));
    }
    assert_eq!(line(&good(), "watch"), None);
}

#[test]
fn a_value_that_monitor_could_not_send_within_the_sources_memory_is_a_warning() {
    let with = |longest: u64, free: u64| {
        source(|source| {
            source.follower = Follower::Copy;
            source.maxmemory = source.used_memory + free;
            source.survey.sizes.longest_string = longest;
        })
    };
    let warns = |facts: &Facts| ids(facts, Severity::Warning).contains(&"watch-memory");
    assert!(!warns(&with(2 << 20, 20 << 20)));
    assert!(warns(&with(3 << 20, 20 << 20)));
    let unlimited = source(|source| {
        source.follower = Follower::Copy;
        source.survey.sizes.longest_string = 1 << 30;
    });
    assert!(!warns(&unlimited), "a source without a limit has room");
}

/// Returns a source with two large keys that are copied whole, of 200 MiB and 3 MiB, and how often each was written.
fn with_large_keys(looked: Option<Duration>, writes: [u64; 2]) -> Facts {
    let large = |name: &str, bytes, writes| Large {
        key: Key {
            database: 0,
            name: name.into(),
        },
        bytes,
        writes,
    };
    source(|source| {
        source.follower = Follower::Copy;
        source.survey.sizes.large = 2;
        source.survey.sizes.looked = looked;
        source.survey.sizes.whole = vec![large("log", 3 << 20, writes[1]), large("events", 200 << 20, writes[0])];
    })
}

#[test]
fn large_keys_that_are_copied_whole_are_named_with_what_they_add_to_the_fence() {
    let facts = with_large_keys(None, [0, 0]);
    let found = judge(&facts);
    let large = found.iter().find(|finding| finding.id == "large-keys").unwrap();
    assert_eq!(large.severity, Severity::Warning);
    assert!(
        large.found.contains("2 of 1,000") && large.found.contains("events") && large.found.contains("10.0 s"),
        "{large:?}"
    );
    let traffic = found.iter().find(|finding| finding.id == "traffic").unwrap();
    assert!(traffic.found.contains("a day"), "{traffic:?}");
}

#[test]
fn how_often_a_large_key_is_written_is_named_if_it_was_seen() {
    let looked = Some(Duration::from_secs(2));
    for (looked, writes, severity, parts) in [
        (
            None,
            [0, 0],
            Severity::Warning,
            &[
                "events is 200.0 MiB large; if it is written all the time",
                "about 10.0 s longer",
            ][..],
        ),
        (
            looked,
            [0, 0],
            Severity::Warning,
            &[
                "events is",
                "was not written in the 2.0 s that were looked at",
                "about 10.0 s longer",
            ],
        ),
        (
            looked,
            [80, 5000],
            Severity::Warning,
            &[
                "events is",
                "written 80 times in 2.0 s: 7.8 GiB a second would have to be copied",
                "about 10.0 s longer",
            ],
        ),
        // The smaller one is more to copy.
        (
            looked,
            [0, 40],
            Severity::Ok,
            &[
                "log is 3.0 MiB large, and was",
                "written 40 times in 2.0 s: 60.0 MiB a second would",
                "about 150 ms longer",
            ],
        ),
        (
            looked,
            [0, 4],
            Severity::Ok,
            &[
                "log is",
                "written 4 times in 2.0 s: 6.0 MiB a second are copied again",
                "up to 150 ms longer",
            ],
        ),
    ] {
        let found = judge(&with_large_keys(looked, writes));
        let large = found.iter().find(|finding| finding.id == "large-keys").unwrap();
        assert_eq!(large.severity, severity, "{large:?}");
        for part in parts {
            assert!(large.found.contains(part), "{part}: {large:?}");
        }
    }
}
