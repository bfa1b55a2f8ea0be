//! `infra verify`: compares source and master both ways. Exits with 5 if they are not identical.

use crate::effects::redis::compare::{Comparison, Options, compare};
use crate::model::error::{Error, ExitCode, Result};
use crate::model::follow::Follower;
use crate::model::role::Role;
use crate::model::size;
use crate::sequences::arguments::Verify;
use crate::sequences::context::Context;
use crate::ui::Ui;
use serde_json::{Value, json};

pub async fn run(context: &Context, arguments: &Verify) -> Result<ExitCode> {
    context.interrupt.or(look(context, arguments)).await
}

async fn look(context: &Context, arguments: &Verify) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let (source, pair) = tokio::try_join!(context.source(), environment.pair())?;
    let master = pair.server(Role::Master)?;
    let options = Options {
        rounds: arguments.rounds,
        pause: arguments.pause,
        first: arguments.first as usize,
        ..Options::default()
    };
    let step = context.ui.step("verify");
    let comparison = compare(&source, &master, &options, |progress| {
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
    show(&context.ui, &comparison);
    if comparison.identical() {
        return Ok(ExitCode::Done);
    }
    Err(Error::unproven(format!(
        "prove that source and master are identical: after {} rounds {} keys are missing, {} are extra, {} differ, {} cannot be compared",
        comparison.rounds.len(),
        comparison.missing,
        comparison.extra,
        comparison.different,
        comparison.uncomparable
    ))
    .hint(match pair.state.source.follower {
        Follower::Replication => "look at the keys named above; `infra status` tells whether the master still follows, --rounds gives more time to converge",
        Follower::Copy => "look at the keys named above: those that the app writes all the time differ while the source is copied, and are compared when it waits; `infra status` tells whether the copy goes on",
    }))
}

fn fields(comparison: &Comparison) -> Value {
    json!({ "identical": comparison.identical(), "comparison": comparison })
}

fn show(ui: &Ui, comparison: &Comparison) {
    ui.report(fields(comparison), lines(comparison));
}

fn lines(comparison: &Comparison) -> Vec<String> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["database", "source keys", "master keys", "compared"]);
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

    #[test]
    fn the_json_of_a_comparison_names_what_differs() {
        let comparison = Comparison {
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
        };
        insta::assert_json_snapshot!("verify", crate::ui::document(fields(&comparison)));
    }
}
