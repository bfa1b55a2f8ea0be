//! How the platform fails: with which ids, before or after the change, and all at once.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod rig;

use std::time::{Duration, Instant};

use reqwest::Method;
use rig::PATIENCE;
use rig::platform::Platform;
use serde_json::{Value, json};

async fn with_app(folder: &tempfile::TempDir, time_scale: f64) -> Platform {
    let platform = Platform::serve(folder.path(), time_scale).await;
    let formation = json!({"web": {"command": ["sleep", "600"], "quantity": 1}});
    platform
        .create_app(formation, json!({"COLOUR": "red"}), "rediss://:secret@127.0.0.1:6390")
        .await;
    platform
}

#[tokio::test]
async fn each_status_has_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let platform = with_app(&folder, 0.0).await;
    for (status, id) in [
        (401, "unauthorized"),
        (402, "delinquent"),
        (403, "forbidden"),
        (404, "not_found"),
        (409, "conflict"),
        (422, "invalid_params"),
        (429, "rate_limit"),
        (503, "service_unavailable"),
    ] {
        platform
            .behave(json!({"api_failures": {"status": status, "count": 1}}))
            .await;
        let (found, body) = platform.send(Method::GET, "/apps/demo/config-vars", None).await;
        assert_eq!((found, &body["id"]), (status, &json!(id)));
        assert_eq!(platform.send(Method::GET, "/apps/demo/config-vars", None).await.0, 200);
    }
    platform
        .behave(json!({"api_failures": {"status": 403, "count": 1, "id": "two_factor"}}))
        .await;
    assert_eq!(
        platform.send(Method::GET, "/apps/demo", None).await.1["id"],
        "two_factor"
    );
    platform.end().await;
}

#[tokio::test]
async fn failures_can_be_of_one_method_and_path_alone() {
    let folder = tempfile::tempdir().unwrap();
    let platform = with_app(&folder, 0.0).await;
    platform
        .behave(json!({"api_failures": {"status": 503, "count": 1, "method": "PATCH", "path": "/config-vars"}}))
        .await;
    assert_eq!(platform.send(Method::GET, "/apps/demo/config-vars", None).await.0, 200);
    let change = || Some(json!({"maintenance": true}));
    assert_eq!(platform.send(Method::PATCH, "/apps/demo", change()).await.0, 200);
    let change = || Some(json!({"COLOUR": "blue"}));
    assert_eq!(
        platform.send(Method::PATCH, "/apps/demo/config-vars", change()).await.0,
        503
    );
    assert_eq!(
        platform.send(Method::PATCH, "/apps/demo/config-vars", change()).await.0,
        200
    );
    platform.end().await;
}

/// Loses the answer of one request. The caller checks what the request changed.
async fn lost(platform: &Platform, method: Method, path: &str, body: Value) {
    platform.behave(json!({"drop_after_commit": 1})).await;
    let answer = platform.try_send(method.clone(), path, Some(body)).await;
    assert!(answer.is_err(), "{method} {path} was answered");
    let knobs = platform.get("/_sandbox/apps/demo/behaviour").await;
    assert_eq!(knobs["drop_after_commit"], 0);
}

#[tokio::test]
async fn with_any_verb_the_change_is_made_and_the_answer_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let platform = with_app(&folder, 0.0).await;
    lost(
        &platform,
        Method::PATCH,
        "/apps/demo/config-vars",
        json!({"COLOUR": "blue"}),
    )
    .await;
    assert_eq!(platform.get("/apps/demo/config-vars").await["COLOUR"], "blue");
    lost(&platform, Method::PATCH, "/apps/demo", json!({"maintenance": true})).await;
    assert_eq!(platform.get("/apps/demo").await["maintenance"], true);
    let web = json!({"updates": [{"type": "web", "quantity": "3"}]});
    lost(&platform, Method::PATCH, "/apps/demo/formation", web).await;
    assert_eq!(platform.get("/apps/demo/formation").await[0]["quantity"], 3);
    lost(
        &platform,
        Method::PATCH,
        "/apps/demo/features/preboot",
        json!({"enabled": true}),
    )
    .await;
    assert_eq!(platform.get("/apps/demo/features/preboot").await["enabled"], true);

    let attachment = json!({"addon": "redis-oval-1", "app": "demo", "name": "HOSTED_REDIS"});
    lost(&platform, Method::POST, "/addon-attachments", attachment).await;
    let attachment = platform.get("/apps/demo/addon-attachments/HOSTED_REDIS").await;
    let path = format!("/addon-attachments/{}", attachment["id"].as_str().unwrap());
    lost(&platform, Method::DELETE, &path, json!({})).await;
    assert_eq!(platform.send(Method::DELETE, &path, None).await.0, 404);

    lost(
        &platform,
        Method::POST,
        "/apps/demo/dynos",
        json!({"command": "exec sleep 600"}),
    )
    .await;
    let dynos = platform.get("/apps/demo/dynos").await;
    let run = dynos
        .as_array()
        .unwrap()
        .iter()
        .find(|dyno| dyno["type"] == "run")
        .unwrap();
    let path = format!("/apps/demo/dynos/{}", run["name"].as_str().unwrap());
    lost(&platform, Method::DELETE, &path, json!({})).await;
    platform
        .wait_for_processes("the one-off ended", |all| {
            all.iter()
                .any(|process| process["name"] == run["name"] && process["state"] == "ended")
        })
        .await;
    let before = platform.processes().await.len();
    lost(&platform, Method::DELETE, "/apps/demo/dynos", json!({})).await;
    assert_eq!(platform.processes().await.len(), before + 3, "all three were replaced");
    platform.end().await;
}

#[tokio::test]
async fn a_refusal_is_answered_and_the_loss_waits_for_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let platform = with_app(&folder, 0.0).await;
    platform.behave(json!({"drop_after_commit": 1})).await;
    let taken = json!({"REDIS_URL": "redis://other"});
    let (status, _) = platform
        .send(Method::PATCH, "/apps/demo/config-vars", Some(taken))
        .await;
    assert_eq!(status, 422);
    let change = Some(json!({"COLOUR": "blue"}));
    assert!(
        platform
            .try_send(Method::PATCH, "/apps/demo/config-vars", change)
            .await
            .is_err()
    );
    platform.end().await;
}

#[tokio::test]
async fn an_outage_refuses_connections_and_ends_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let platform = with_app(&folder, 1.0).await;
    let begun = Instant::now();
    platform.behave(json!({"outage": {"seconds": 1.0}})).await;
    let mut refused = 0;
    loop {
        // A new connection each time: one that is kept would be ended instead of refused.
        let fresh = reqwest::Client::new().get(format!("{}/apps/demo", platform.url));
        match fresh.send().await {
            Err(error) => {
                assert!(error.is_connect(), "{error:?}");
                refused += 1;
            }
            Ok(_) => break,
        }
        assert!(begun.elapsed() < PATIENCE, "the outage does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused > 0 && begun.elapsed() >= Duration::from_secs(1), "{refused}");
    assert_eq!(platform.get("/apps/demo").await["name"], "demo");
    platform.end().await;
}

#[tokio::test]
async fn an_outage_can_answer_503_instead() {
    let folder = tempfile::tempdir().unwrap();
    let platform = with_app(&folder, 1.0).await;
    platform
        .behave(json!({"outage": {"seconds": 600.0, "form": "503"}}))
        .await;
    let (status, body) = platform.send(Method::GET, "/apps/demo", None).await;
    assert_eq!((status, &body["id"]), (503, &json!("service_unavailable")));
    // The sandbox's own paths still answer, so a test can end what it began.
    platform.behave(json!({"outage": {"seconds": 0.0}})).await;
    assert_eq!(platform.get("/apps/demo").await["name"], "demo");
    let (status, _) = platform
        .send(
            Method::POST,
            "/_sandbox/apps/demo/behaviour",
            Some(json!({"outage": {"form": "flood"}})),
        )
        .await;
    assert_eq!(status, 400);
    platform.end().await;
}
