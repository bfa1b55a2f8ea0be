//! Add-ons that own several vars, or one beside a plain copy: every reader ends on the endpoint.

use super::super::{Command, Phase};
use super::stage::{PLAIN, Rented, Stage};
use super::{expect_moved, expect_unmoved};
use crate::effects::platform::Heroku;
use crate::model::error::Kind;
use serde_json::json;
use std::collections::BTreeMap;

pub const TWO_VARS: Rented = Rented {
    attachment: "REDIS",
    second_port: true,
    copy: None,
    config_var: "REDIS_URL",
    web_reads: "REDIS_URL",
    worker_reads: "REDIS_TLS_URL",
    ..PLAIN
};

/// The add-on owns REDISCLOUD_URL, REDIS_URL is a plain copy of it, and each has a reader.
pub const BESIDE_A_COPY: Rented = Rented {
    attachment: "REDISCLOUD",
    second_port: false,
    copy: Some(""),
    config_var: "REDIS_URL",
    web_reads: "REDIS_URL",
    worker_reads: "REDISCLOUD_URL",
    ..PLAIN
};

async fn values(app: &Heroku) -> BTreeMap<String, String> {
    let vars = app.config_vars().await.unwrap();
    vars.readable()
        .map(|(var, value)| (var.to_string(), value.expose().to_string()))
        .collect()
}

/// Moves the app under load. Expects no loss, a silent source, and these vars on the endpoint.
async fn expect_switched(stage: &Stage, vars: &[&str]) {
    stage.load().await;
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(stage).await;
    assert_eq!(outcome.late_writes, Some(0), "{outcome:?}");
    let now = values(&stage.heroku).await;
    for var in vars {
        assert!(
            now[*var].contains(&format!(":{}", stage.master.port)),
            "{var} stayed: {now:?}"
        );
    }
}

#[tokio::test]
async fn a_process_type_that_had_crashed_before_is_not_waited_for() {
    // With and without a restart by the detachment before the switch.
    for rented in [PLAIN, TWO_VARS] {
        for pausable in [true, false] {
            let stage = Stage::renting(
                0.02,
                Rented {
                    worker_reads: "REDIS_URL",
                    ..rented
                },
            )
            .await;
            if !pausable {
                stage.forbid_pausing().await;
            }
            stage.behave(json!({"crashing": ["worker"]})).await;
            expect_switched(&stage, &["REDIS_URL"]).await;
            stage.end().await;
        }
    }
}

#[tokio::test]
async fn both_vars_of_an_add_on_move_where_the_worker_reads_the_other_port() {
    for pausable in [true, false] {
        let stage = Stage::renting(0.02, TWO_VARS).await;
        if !pausable {
            stage.forbid_pausing().await;
        }
        let before = values(&stage.heroku).await;
        expect_switched(&stage, &["REDIS_URL", "REDIS_TLS_URL"]).await;
        let after = values(&stage.heroku).await;
        for var in ["REDIS_URL", "REDIS_TLS_URL", "REDIS_BASTIONS"] {
            assert_eq!(after[&format!("HOSTED_{var}")], before[var], "{var} is not kept");
        }
        assert_eq!(
            after["REDIS_BASTIONS"], "192.0.2.4",
            "a var of the attachment vanished with it"
        );
        stage.end().await;
    }
}

#[tokio::test]
async fn the_twin_as_the_apps_own_var_moves_with_the_other() {
    for pausable in [true, false] {
        let rented = Rented {
            config_var: "REDIS_TLS_URL",
            ..TWO_VARS
        };
        let stage = Stage::renting(0.02, rented).await;
        if !pausable {
            stage.forbid_pausing().await;
        }
        expect_switched(&stage, &["REDIS_URL", "REDIS_TLS_URL"]).await;
        stage.end().await;
    }
}

#[tokio::test]
async fn an_owned_var_beside_a_plain_copy_moves_with_it() {
    for pausable in [true, false] {
        let stage = Stage::renting(0.02, BESIDE_A_COPY).await;
        if !pausable {
            stage.forbid_pausing().await;
        }
        let before = values(&stage.heroku).await;
        expect_switched(&stage, &["REDIS_URL", "REDISCLOUD_URL"]).await;
        let after = values(&stage.heroku).await;
        assert_eq!(after["HOSTED_REDIS_URL"], before["REDIS_URL"]);
        assert_eq!(after["HOSTED_REDISCLOUD_URL"], before["REDISCLOUD_URL"]);
        stage.end().await;
    }
}

#[tokio::test]
async fn an_owned_var_that_stays_on_purpose_keeps_its_attachment_and_one_change_is_enough() {
    let rented = Rented {
        worker_reads: "REDIS_URL",
        ..BESIDE_A_COPY
    };
    let mut stage = Stage::renting(0.02, rented).await;
    stage.naming.stay = vec!["REDISCLOUD_URL".into()];
    let before = values(&stage.heroku).await;
    let release = stage.heroku.newest_release().await.unwrap().unwrap().version;
    expect_switched(&stage, &["REDIS_URL"]).await;
    assert_eq!(values(&stage.heroku).await["REDISCLOUD_URL"], before["REDISCLOUD_URL"]);
    assert_eq!(
        stage.heroku.newest_release().await.unwrap().unwrap().version,
        release + 1
    );
    stage.end().await;
}

#[tokio::test]
async fn a_third_partys_var_that_the_app_reads_is_detached_as_any_other() {
    for pausable in [true, false] {
        let rented = Rented {
            attachment: "REDISTOGO",
            second_port: false,
            copy: None,
            config_var: "REDISTOGO_URL",
            web_reads: "REDISTOGO_URL",
            worker_reads: "REDISTOGO_URL",
            ..PLAIN
        };
        let stage = Stage::renting(0.02, rented).await;
        if !pausable {
            stage.forbid_pausing().await;
        }
        expect_switched(&stage, &["REDISTOGO_URL"]).await;
        stage.end().await;
    }
}

#[tokio::test]
async fn another_apps_attachment_of_the_same_add_on_is_detached_too() {
    let mut stage = Stage::renting(0.02, TWO_VARS).await;
    let second = stage.attached_app("QUEUE").await;
    expect_switched(&stage, &["REDIS_URL", "REDIS_TLS_URL"]).await;
    let now = values(&second).await;
    for var in ["REDIS_URL", "QUEUE_URL", "QUEUE_TLS_URL"] {
        assert!(
            now[var].contains(&format!(":{}", stage.master.port)),
            "{var} stayed: {now:?}"
        );
    }
    stage.end().await;
}

#[tokio::test]
async fn the_way_back_gives_every_var_its_own_old_value() {
    for rented in [
        TWO_VARS,
        BESIDE_A_COPY,
        Rented {
            copy: Some("/3?timeout=5"),
            // The ledger is compared with database 0.
            web_reads: "REDISCLOUD_URL",
            ..BESIDE_A_COPY
        },
    ] {
        let stage = Stage::renting(0.02, rented).await;
        let mut before = values(&stage.heroku).await;
        stage.run(Command::SwitchApp).await.unwrap();
        assert!(stage.app_is_on(&stage.master).await);
        stage.run(Command::Back).await.unwrap();
        let mut after = values(&stage.heroku).await;
        after.retain(|var, _| !var.starts_with("HOSTED_"));
        before.retain(|var, _| !var.starts_with("HOSTED_"));
        assert_eq!(after, before);
        // The app is switched again, with what the first switch left.
        expect_switched(&stage, &["REDIS_URL"]).await;
        stage.end().await;
    }
}

#[tokio::test]
async fn two_vars_survive_a_tool_that_is_killed_at_any_step() {
    let stage = Stage::renting(0.02, TWO_VARS).await;
    stage.load().await;
    for steps in 0..60 {
        let killed = stage.killed_after(steps, Command::SwitchApp).await;
        if stage.history().phase == Some(Phase::Settled) {
            break;
        }
        let error = killed.unwrap_err();
        assert!(
            error.to_string().contains("killed") || error.kind() == Kind::Unproven,
            "after {steps} steps: {error:?}"
        );
    }
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    stage.end().await;
}

#[tokio::test]
async fn what_the_platform_would_refuse_stops_it_before_the_fence() {
    // One look comes before the detachment, another, after two requests, after the comparison.
    for (status, id, skip) in [
        (403, "suspended", 0),
        (402, "delinquent", 2),
        (422, "verification_needed", 0),
        (423, "locked", 3),
    ] {
        let stage = Stage::renting(0.02, BESIDE_A_COPY).await;
        stage.load().await;
        let before = values(&stage.heroku).await;
        stage
            .behave(json!({"api_failures": {
                "status": status, "id": id, "count": 1000, "skip": skip, "method": "PATCH", "path": "config-vars",
            }}))
            .await;
        let error = stage.run(Command::SwitchApp).await.unwrap_err();
        assert!(error.to_string().contains(&status.to_string()), "{error:?}");
        assert_eq!(error.kind(), Kind::Failed, "{error:?}");
        assert!(
            matches!(stage.history().phase, None | Some(Phase::Following)),
            "it was fenced all the same"
        );
        if skip == 0 {
            assert_eq!(values(&stage.heroku).await, before, "something was detached");
        }
        assert!(stage.source_takes_writes().await);
        stage.behave(json!({"api_failures": {"status": 0, "count": 0}})).await;
        stage.run(Command::SwitchApp).await.unwrap();
        expect_moved(&stage).await;
        stage.end().await;
    }
}

#[tokio::test]
async fn an_attachment_that_comes_back_after_the_comparison_is_found_before_the_fence() {
    let stage = Stage::renting(0.02, TWO_VARS).await;
    stage.load().await;
    // The run dies with the entry before `fenced`.
    let mut steps = 0;
    while stage.history().phase.is_none() {
        steps += 1;
        let _ = stage.killed_after(steps, Command::Promote).await;
    }
    stage.heroku.attach("redis-oval-1", "CACHE").await.unwrap();
    stage.run(Command::SwitchApp).await.unwrap();
    expect_moved(&stage).await;
    let now = values(&stage.heroku).await;
    assert!(
        now["CACHE_TLS_URL"].contains(&format!(":{}", stage.master.port)),
        "{now:?}"
    );
    stage.end().await;
}

#[tokio::test]
async fn a_name_in_the_way_of_the_add_on_changes_nothing() {
    let stage = Stage::renting(0.02, TWO_VARS).await;
    stage.load().await;
    let mine = BTreeMap::from([(
        "HOSTED_REDIS_TLS_URL".to_string(),
        Some(crate::model::secret::Secret::new("mine")),
    )]);
    stage.heroku.set_config_vars(&mine).await.unwrap();
    let error = stage.run(Command::SwitchApp).await.unwrap_err();
    assert!(
        error.to_string().contains("HOSTED_REDIS_TLS_URL of its own"),
        "{error:?}"
    );
    expect_unmoved(&stage).await;
    stage.end().await;
}
