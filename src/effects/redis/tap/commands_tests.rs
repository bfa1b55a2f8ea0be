use super::command_table;
use crate::effects::redis::testing::{TestServer, command};
use ::redis::{Pipeline, cmd, from_redis_value};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sandbox::addon::Engine;
use std::collections::BTreeSet;
use wire::effect::effect;
use wire::stream::Argument;
use wire::touched::Effect;

fn names(effect: &Effect) -> Vec<String> {
    let keys = match effect {
        Effect::Write(keys) | Effect::Removal(keys) => keys.clone(),
        Effect::FieldRemoval(key, _) => vec![key.clone()],
        other => panic!("{other:?} names no keys"),
    };
    keys.iter()
        .map(|key| String::from_utf8_lossy(&key.name).into_owned())
        .collect()
}

/// Asks an engine for random writes, and checks that our effect has the keys that the engine itself
/// finds in them. Some of the random arguments are words that the commands know.
async fn every_write_is_covered(server: &TestServer) {
    let mut connection = server.connect(0).await;
    let table = command_table(&mut connection).await;
    let writes: Vec<Vec<u8>> = connection
        .query(&command("COMMAND LIST FILTERBY ACLCAT write"))
        .await
        .unwrap();
    assert!(writes.len() > 80, "{}", writes.len());
    let word = proptest::sample::select(vec![
        "1",
        "2",
        "3",
        "a",
        "b",
        "c",
        "d",
        "e",
        "STORE",
        "STOREDIST",
        "DB",
        "FIELDS",
        "KEYS",
        "AND",
        "CREATE",
        "EX",
        "LIMIT",
    ]);
    let drawn = proptest::collection::vec(word, 0..8);
    let mut runner = TestRunner::deterministic();
    let mut uncovered = BTreeSet::new();
    for name in writes {
        let name = String::from_utf8(name).unwrap();
        let mut asked = Pipeline::new();
        let mut lines: Vec<Vec<String>> = Vec::new();
        for _ in 0..60 {
            // A subcommand is listed as `xgroup|create`.
            let mut words: Vec<String> = name.split('|').map(Into::into).collect();
            words.extend(
                drawn
                    .new_tree(&mut runner)
                    .unwrap()
                    .current()
                    .iter()
                    .map(|word| (*word).to_string()),
            );
            asked.add_command(cmd("COMMAND").arg("GETKEYSANDFLAGS").arg(&words).to_owned());
            lines.push(words);
        }
        let mut has_keys = false;
        for (words, answer) in lines.into_iter().zip(connection.ask_all(&asked).await.unwrap()) {
            // An error: these arguments are none for this command.
            let Ok(found) = from_redis_value::<Vec<(String, Vec<String>)>>(answer) else {
                continue;
            };
            has_keys = true;
            let arguments: Vec<Argument> = words.iter().map(|word| Argument::Kept(word.clone().into())).collect();
            let effect = effect(&arguments, &table).unwrap();
            if effect == Effect::Everything {
                continue;
            }
            let ours = names(&effect);
            for (key, flags) in found {
                // COPY and MOVE name a database that the engine does not tell of.
                if !flags.contains(&"RO".to_string()) && !ours.contains(&key) {
                    uncovered.insert(format!("{}: {key} is not in {ours:?}", words.join(" ")));
                }
            }
        }
        // One that names no key changes whole databases, or none: it must not pass for less.
        let plain: Vec<Argument> = name.split('|').map(|word| Argument::Kept(word.into())).collect();
        if !has_keys && !matches!(effect(&plain, &table).unwrap(), Effect::Everything | Effect::Message) {
            uncovered.insert(format!("{name}: no arguments were found for it"));
        }
    }
    assert!(uncovered.is_empty(), "{uncovered:#?}");
}

#[tokio::test]
async fn every_write_of_redis_7_is_covered() {
    every_write_is_covered(&TestServer::start(&[]).await).await;
}

#[tokio::test]
async fn every_write_of_redis_8_is_covered() {
    if let Some(server) = TestServer::start_engine(Engine::Redis8, &[]).await {
        every_write_is_covered(&server).await;
    }
}

#[tokio::test]
async fn every_write_of_valkey_8_is_covered() {
    if let Some(server) = TestServer::start_engine(Engine::Valkey8, &[]).await {
        every_write_is_covered(&server).await;
    }
}
