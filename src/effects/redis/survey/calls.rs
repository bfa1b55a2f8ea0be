//! Reads from INFO commandstats which commands are run, and tells calls of others from ours.

use std::collections::BTreeMap;

/// `cmdstat_get:calls=7,…`. Calls that were refused do not count.
pub(super) fn calls(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            let calls = rest.strip_prefix("calls=")?.split(',').next()?.parse().ok()?;
            Some((name.to_lowercase(), calls))
        })
        .filter(|(_, calls)| *calls > 0)
        .collect()
}

/// Returns the calls between two readings without our own. `sent` names subcommands, which servers
/// before Redis 7 count as their command.
pub(super) fn by_others(
    first: &BTreeMap<String, u64>,
    second: &BTreeMap<String, u64>,
    sent: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let ours = |name: &str| -> u64 {
        let is_it = |of: &str| of == name || of.strip_prefix(name).is_some_and(|rest| rest.starts_with('|'));
        sent.iter().filter(|(of, _)| is_it(of)).map(|(_, count)| count).sum()
    };
    let between = second.iter().map(|(name, calls)| {
        let before = first.get(name).copied().unwrap_or(0);
        (name.clone(), calls.saturating_sub(before).saturating_sub(ours(name)))
    });
    between.filter(|(_, calls)| *calls > 0).collect()
}

/// Returns how often we looked at the server's permissions. Each look tries REPLICAOF once, which
/// the server refuses and counts; nobody else sends it to a source.
pub(super) fn looks(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("cmdstat_replicaof:"));
    let of = |name: &str| -> u64 {
        let pairs = line.into_iter().flat_map(|line| line.trim_end().split(','));
        pairs
            .filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
            .sum()
    };
    of("calls") + of("rejected_calls")
}

#[cfg(test)]
mod tests {
    use super::super::Survey;
    use super::*;
    use crate::effects::redis::testing::{TestServer, command};
    use sandbox::addon::Engine;
    use std::time::Duration;

    #[tokio::test]
    async fn calls_of_others_are_told_from_ours() {
        for engine in [Engine::Redis6, Engine::Redis7, Engine::Valkey8] {
            let Some(server) = TestServer::start_engine(engine, &[]).await else {
                continue;
            };
            let has_subcommands = engine != Engine::Redis6;
            let name = |whole: &'static str| {
                if has_subcommands {
                    whole
                } else {
                    whole.split('|').next().unwrap()
                }
            };
            let theirs: BTreeMap<&str, u64> = [("slowlog|get", 2), ("config|get", 3)]
                .map(|(command, calls)| (name(command), calls))
                .into();
            let mut app = server.connect(0).await;
            for look in 0..3 {
                let mut connection = server.connect(0).await;
                let mut watching = connection.clone();
                let (looked, ()) = tokio::join!(Survey::read(&mut connection, Duration::from_millis(500)), async {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                    for words in [
                        "SLOWLOG GET",
                        "SLOWLOG GET",
                        "CONFIG GET a",
                        "CONFIG GET b",
                        "CONFIG GET c",
                    ] {
                        app.ask(&command(words)).await.unwrap();
                    }
                });
                let (survey, _) = looked.unwrap();
                let watched: BTreeMap<&str, u64> = survey
                    .watched
                    .iter()
                    .filter(|(name, _)| !["ping", "client|setinfo"].contains(&name.as_str()))
                    .map(|(name, calls)| (name.as_str(), *calls))
                    .collect();
                assert_eq!(watched, theirs, "{engine:?}");
                // Redis 6.0 does not count what it refuses, and counts this try as a call.
                assert_eq!(survey.earlier_looks, Some(look), "{engine:?}");
                let _ = watching.ask(&::redis::cmd("PING")).await;
            }
        }
    }
}
