//! Tells engines that refuse the data from engines that cannot judge it.

use super::*;
use infra_agent::manifest;

async fn unloaded(program: &str, folder: &Path) -> Unloaded {
    let run = Engine::run(program.into(), folder, Duration::from_secs(20), None);
    run.await.err().unwrap()
}

/// Writes a data folder with this base and no log.
fn data(base: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join(manifest::FOLDER);
    std::fs::create_dir(&log).unwrap();
    std::fs::write(
        log.join(manifest::FILE),
        "file appendonly.aof.1.base.rdb seq 1 type b\n",
    )
    .unwrap();
    std::fs::write(log.join("appendonly.aof.1.base.rdb"), base).unwrap();
    folder
}

/// The base of an empty engine, of this version, with these bytes before its end.
fn base(version: &str, more: &[u8]) -> Vec<u8> {
    [version.as_bytes(), more, b"\xff", &[0; 8]].concat()
}

#[tokio::test]
async fn an_older_engine_or_one_of_another_kind_has_not_judged_the_data() {
    for (version, words) in [("REDIS0099", "99"), ("VALKEY080", "Bad file format")] {
        let folder = data(&base(version, b""));
        let Unloaded::Unjudged(error) = unloaded("redis-server", folder.path()).await else {
            panic!("{version} is called damaged");
        };
        assert_eq!(error.kind(), Kind::Failed);
        assert!(error.chain().join(" ").contains(words), "{error:?}");
    }
}

#[tokio::test]
async fn an_engine_that_refuses_the_data_has_judged_it_and_its_last_words_are_shown() {
    let folder = data(&base("REDIS0009", b"\xfe\x00\x63"));
    let Unloaded::Failed(error) = unloaded("redis-server", folder.path()).await else {
        panic!("a damaged base is not called damaged");
    };
    assert_eq!(error.kind(), Kind::Unproven);
    let shown = error.chain().join(" ");
    assert!(shown.contains("RDB") && !shown.contains("WARNING"), "{shown}");
}

#[tokio::test]
async fn an_engine_that_does_not_run_says_nothing_of_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("engine");
    for (script, because) in [
        (
            "echo 'error while loading shared libraries' >&2; exit 127",
            "error while loading shared libraries",
        ),
        ("kill -KILL $$", ""),
    ] {
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&program, mode).unwrap();
        let Unloaded::Unjudged(error) = unloaded(program.to_str().unwrap(), folder.path()).await else {
            panic!("{script} is called damaged");
        };
        assert_eq!(error.kind(), Kind::Failed, "{error:?}");
        assert!(error.chain().join(" ").contains(because), "{error:?}");
    }
}
