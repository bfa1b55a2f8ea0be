//! `infra verify`: compares source and master both ways, or the master with any other Redis. Exits
//! with 5 if they are not identical.

use crate::effects::redis::compare::{Comparison, Options, compare};
use crate::effects::redis::{Server, Trust, login};
use crate::model::error::{Error, ExitCode, Result};
use crate::model::follow::Follower;
use crate::model::role::Role;
use crate::model::secret::Secret;
use crate::model::size;
use crate::sequences::arguments::Verify;
use crate::sequences::context::Context;
use crate::ui::Ui;
use serde_json::{Value, json};
use wire::info::Fields;

pub async fn run(context: &Context, arguments: &Verify) -> Result<ExitCode> {
    context.interrupt.or(look(context, arguments)).await
}

async fn look(context: &Context, arguments: &Verify) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let pair = environment.pair().await?;
    let master = pair.server(Role::Master)?;
    let (source, target) = match &arguments.against {
        Some(name) => (master, other(name).await?),
        None => (context.source().await?, master),
    };
    let names = [source.label.clone(), target.label.clone()];
    let options = Options {
        rounds: arguments.rounds,
        pause: arguments.pause,
        first: arguments.first as usize,
        leave_out: match pair.state.source.follower {
            Follower::Copy => context.config.source.leave_out.clone(),
            Follower::Replication => Vec::new(),
        },
        ..Options::default()
    };
    let step = context.ui.step("verify");
    let comparison = compare(&source, &target, &options, |progress| {
        step.update(format!(
            "round {}: {} of {} keys, {} differ",
            progress.round,
            size::count(progress.done),
            size::count(progress.total.max(progress.done)),
            size::count(progress.differing)
        ));
    })
    .await?;
    if comparison.identical() {
        step.done(format!(
            "identical: {} keys in {} rounds",
            size::count(comparison.compared),
            comparison.rounds.len()
        ));
    } else {
        step.failed("not identical");
    }
    show(&context.ui, &comparison, &names);
    if comparison.identical() {
        return Ok(ExitCode::Done);
    }
    Err(Error::unproven(format!(
        "prove that {} are identical: after {} rounds {} keys are missing, {} are extra, {} differ, {} cannot be compared",
        names.join(" and "),
        comparison.rounds.len(),
        comparison.missing,
        comparison.extra,
        comparison.different,
        comparison.uncomparable
    ))
    .hint(match pair.state.source.follower {
        _ if arguments.against.is_some() => "look at the keys named above; --rounds gives more time to converge while the other one follows",
        Follower::Replication => "look at the keys named above; `infra status` tells whether the master still follows, --rounds gives more time to converge",
        Follower::Copy => "look at the keys named above: those that the app writes all the time differ while the source is copied, and are compared when it waits; `infra status` tells whether the copy goes on",
    }))
}

fn fields(comparison: &Comparison) -> Value {
    json!({ "identical": comparison.identical(), "comparison": comparison })
}

/// Returns the server whose URL an environment variable holds. A certificate of it must be of a
/// public authority.
async fn other(name: &str) -> Result<Server> {
    let url = std::env::var(name).map_err(|_| {
        Error::usage(format!(
            "read the other Redis's URL: the environment variable {name} is not set"
        ))
        .hint(format!("set {name} to its redis:// or rediss:// URL"))
    })?;
    other_at(&Secret::new(url)).await
}

async fn other_at(url: &Secret) -> Result<Server> {
    let tls = url.expose().trim_start().starts_with("rediss://");
    let server = Server::from_url("other", url, tls.then_some(Trust::Public))?;
    let server = login::with_known_user(server).await;
    let text: String = server
        .connect(0)
        .await?
        .query(redis::cmd("INFO").arg("cluster"))
        .await?;
    if Fields::read(&text).said("cluster_enabled") == Some("1") {
        return Err(Error::usage(format!("compare the master with {server}: it is a node of a cluster"))
            .because("each node has only a part of the keys")
            .hint("compare before the data goes into the cluster, with a server outside of it that follows the master"));
    }
    Ok(server)
}

fn show(ui: &Ui, comparison: &Comparison, names: &[String; 2]) {
    ui.report(fields(comparison), lines(comparison, names));
}

fn lines(comparison: &Comparison, [source, target]: &[String; 2]) -> Vec<String> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let headers = [
        "database".to_string(),
        format!("{source} keys"),
        format!("{target} keys"),
        "compared".into(),
    ];
    table.set_header(headers);
    for (database, counts) in &comparison.databases {
        table.add_row([
            database.to_string(),
            size::count(counts.source_keys),
            size::count(counts.target_keys),
            size::count(counts.compared),
        ]);
    }
    let per_second = if comparison.seconds > 0.0 {
        comparison.compared as f64 / comparison.seconds
    } else {
        0.0
    };
    let counts = format!(
        "missing {}  extra {}  different {}  uncomparable {}  ({:.2} s, {} keys a second in all)",
        size::count(comparison.missing),
        size::count(comparison.extra),
        size::count(comparison.different),
        size::count(comparison.uncomparable),
        comparison.seconds,
        size::count(per_second as u64)
    );
    let differing = comparison.first.iter();
    let differing = differing.map(|key| format!("  db {}  {}  {}", key.database, key.key, key.reason));
    let mut lines: Vec<String> = [table.to_string(), counts].into_iter().chain(differing).collect();
    lines.extend(comparison.later_said());
    lines.push(format!("not compared: {}", comparison.not_compared.join("; ")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::redis::compare::{DatabaseCounts, DifferenceKind, DifferingKey, Round};
    use crate::effects::redis::testing::TestServer;

    fn comparison() -> Comparison {
        Comparison {
            databases: [(
                0,
                DatabaseCounts {
                    source_keys: 1_000,
                    target_keys: 999,
                    compared: 1_001,
                },
            )]
            .into(),
            compared: 1_001,
            missing: 1,
            extra: 0,
            different: 1,
            uncomparable: 0,
            expired: 2,
            counts_are_approximate: false,
            first: vec![
                DifferingKey {
                    database: 0,
                    key: "cart:17".into(),
                    kind: DifferenceKind::Missing,
                    reason: "not on the target".into(),
                },
                DifferingKey {
                    database: 0,
                    key: "cart:18".into(),
                    kind: DifferenceKind::Different,
                    reason: "length 3 on the source, 2 on the target".into(),
                },
            ],
            rounds: vec![
                Round {
                    full: true,
                    compared: 1_001,
                    differing: 40,
                    seconds: 0.75,
                },
                Round {
                    full: false,
                    compared: 40,
                    differing: 2,
                    seconds: 0.25,
                },
            ],
            expiry_tolerance_ms: 0,
            expire_later: 0,
            expire_later_by_ms: 0,
            not_compared: vec!["data of modules"],
            seconds: 2.0,
        }
    }

    #[tokio::test]
    async fn a_node_of_a_cluster_is_refused_since_it_has_only_a_part_of_the_keys() {
        let node = TestServer::start(&["--cluster-enabled", "yes"]).await;
        let alone = TestServer::start(&[]).await;
        let url = |server: &TestServer| Secret::new(format!("redis://127.0.0.1:{}", server.port));
        let error = other_at(&url(&node)).await.unwrap_err();
        assert!(error.to_string().contains("node of a cluster"), "{error}");
        let other = other_at(&url(&alone)).await.unwrap();
        assert_eq!((other.label.as_str(), other.port), ("other", alone.port));
    }

    #[test]
    fn the_table_names_both_servers() {
        let lines = lines(&comparison(), &["master".into(), "other".into()]);
        assert!(
            lines[0].contains("master keys") && lines[0].contains("other keys"),
            "{lines:?}"
        );
    }

    #[test]
    fn the_json_of_a_comparison_names_what_differs() {
        insta::assert_json_snapshot!("verify", crate::ui::document(fields(&comparison())));
    }
}
