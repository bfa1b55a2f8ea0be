//! The platform's API as its clients meet it.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod rig;

use reqwest::Method;
use rig::platform::{ACCEPT, KEY, Platform};
use serde_json::{Value, json};

async fn with_app(folder: &tempfile::TempDir) -> Platform {
    let platform = Platform::serve(folder.path(), 0.0).await;
    let formation = json!({"web": {"command": ["sleep", "600"]}, "worker": {"command": ["sleep", "600"]}});
    platform
        .create_app(formation, json!({"COLOUR": "red"}), "rediss://:secret@127.0.0.1:6390")
        .await;
    platform
}

fn attachment<'a>(attachments: &'a Value, name: &str) -> Option<&'a str> {
    attachments
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["name"] == name)?["id"]
        .as_str()
}

#[tokio::test]
async fn requests_need_the_key_and_the_version() {
    let folder = tempfile::tempdir().unwrap();
    let platform = with_app(&folder).await;
    let request = |accept: &str, key: &str| {
        platform
            .client
            .get(format!("{}/apps/demo", platform.url))
            .header("Accept", accept)
            .bearer_auth(key)
            .send()
    };
    let response = request(ACCEPT, KEY).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("Request-Id"));
    assert!(
        response.headers()["RateLimit-Remaining"]
            .to_str()
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 4000
    );
    assert_eq!(
        request("application/vnd.heroku+json; version=3.sdk", KEY)
            .await
            .unwrap()
            .status(),
        200
    );
    let response = request(ACCEPT, "wrong").await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.json::<Value>().await.unwrap()["id"], "unauthorized");
    let response = request("application/json", KEY).await.unwrap();
    assert_eq!(response.status(), 404);
    assert_eq!(response.json::<Value>().await.unwrap()["id"], "not_found");
    for path in ["/nonsense", "/apps/other", "/apps/demo/nonsense"] {
        let (status, body) = platform.send(Method::GET, path, None).await;
        assert_eq!((status, &body["id"]), (404, &json!("not_found")), "{path}");
    }
}

#[tokio::test]
async fn an_app_shows_region_owner_of_variables_and_maintenance() {
    let folder = tempfile::tempdir().unwrap();
    let platform = with_app(&folder).await;
    let app = platform.get("/apps/demo").await;
    assert_eq!((&app["region"]["name"], &app["space"]), (&json!("us"), &Value::Null));
    assert_eq!(platform.get("/regions/us").await["provider"]["region"], "us-east-1");
    assert_eq!(platform.get("/regions/eu").await["provider"]["region"], "eu-west-1");
    let changed = platform
        .done(Method::PATCH, "/apps/demo", json!({"maintenance": true}))
        .await;
    assert_eq!(changed["maintenance"], true);

    let addon = &platform.get("/apps/demo/addons").await[0];
    assert_eq!(
        (&addon["name"], &addon["app"]["name"]),
        (&json!("redis-oval-1"), &json!("demo"))
    );
    assert_eq!(addon["config_vars"], json!(["REDIS_URL"]));
    let config = platform
        .get(&format!("/addons/{}/config", addon["id"].as_str().unwrap()))
        .await;
    assert_eq!(
        config,
        json!([{"name": "REDIS_URL", "value": "rediss://:secret@127.0.0.1:6390"}])
    );
    let attachments = platform.get("/addons/redis-oval-1/addon-attachments").await;
    assert_eq!(
        (&attachments[0]["name"], &attachments[0]["app"]["name"]),
        (&json!("REDIS"), &json!("demo"))
    );
    let preboot = platform
        .done(Method::PATCH, "/apps/demo/features/preboot", json!({"enabled": true}))
        .await;
    assert_eq!(preboot["enabled"], true);
    assert_eq!(platform.get("/apps/demo/features/preboot").await["enabled"], true);
}

#[tokio::test]
async fn detaching_an_attached_redis_meets_both_refusals() {
    let folder = tempfile::tempdir().unwrap();
    let platform = with_app(&folder).await;
    let new_url = json!({"REDIS_URL": "rediss://:other@10.77.144.1:6379"});
    let (status, body) = platform
        .send(Method::PATCH, "/apps/demo/config-vars", Some(new_url.clone()))
        .await;
    assert_eq!((status, &body["id"]), (422, &json!("invalid_params")));
    assert_eq!(body["message"], "Cannot overwrite attachment values REDIS_URL.");
    let attachments = platform.get("/apps/demo/addon-attachments").await;
    let detach = format!("/addon-attachments/{}", attachment(&attachments, "REDIS").unwrap());
    let (status, body) = platform.send(Method::DELETE, &detach, None).await;
    assert_eq!(status, 422);
    assert_eq!(
        body["message"],
        "Cannot destroy last attachment to billing app for resource redis-oval-1"
    );

    let request = json!({"addon": "redis-oval-1", "app": "demo", "name": "HOSTED_REDIS"});
    let (status, body) = platform
        .send(Method::POST, "/addon-attachments", Some(request.clone()))
        .await;
    assert_eq!((status, &body["name"]), (201, &json!("HOSTED_REDIS")));
    let (status, body) = platform.send(Method::POST, "/addon-attachments", Some(request)).await;
    assert_eq!((status, &body["id"]), (423, &json!("confirmation_required")));
    assert_eq!(platform.send(Method::DELETE, &detach, None).await.0, 200);
    assert_eq!(platform.send(Method::DELETE, &detach, None).await.0, 404);
    assert_eq!(platform.get("/apps/demo/config-vars").await["REDIS_URL"], Value::Null);
    let vars = platform.done(Method::PATCH, "/apps/demo/config-vars", new_url).await;
    assert_eq!(vars["REDIS_URL"], "rediss://:other@10.77.144.1:6379");
    assert_eq!(vars["HOSTED_REDIS_URL"], "rediss://:secret@127.0.0.1:6390");
    let versions: Vec<u64> = platform
        .get("/apps/demo/releases")
        .await
        .as_array()
        .unwrap()
        .iter()
        .map(|release| release["version"].as_u64().unwrap())
        .collect();
    assert_eq!(versions.len(), 5, "initial, attach, attach, detach, set");
}

#[tokio::test]
async fn third_party_add_ons_own_the_variables_that_they_name() {
    let folder = tempfile::tempdir().unwrap();
    let platform = with_app(&folder).await;
    let plain = json!({"SHOP_URL": "redis://:secret@127.0.0.1:6400"});
    platform.done(Method::PATCH, "/apps/demo/config-vars", plain).await;
    for (name, attachment, addon) in [
        (
            "rediscloud-flat-1",
            "REDISCLOUD",
            json!({"url": "redis://:secret@127.0.0.1:6400"}),
        ),
        (
            "memory-tall-1",
            "MEMORY",
            json!({"values": {"SERVERS": "127.0.0.1:6401", "BASTIONS": "192.0.2.4"}}),
        ),
    ] {
        let mut body = json!({"name": name, "plan": "other:mini", "attachment": attachment});
        body.as_object_mut().unwrap().extend(addon.as_object().unwrap().clone());
        platform.done(Method::POST, "/_sandbox/apps/demo/addons", body).await;
    }
    let addons = platform.get("/apps/demo/addons").await;
    let config_vars = |name: &str| {
        let addon = addons.as_array().unwrap().iter().find(|addon| addon["name"] == name);
        addon.unwrap()["config_vars"].clone()
    };
    assert_eq!(config_vars("rediscloud-flat-1"), json!(["REDISCLOUD_URL"]));
    assert_eq!(
        config_vars("memory-tall-1"),
        json!(["MEMORY_BASTIONS", "MEMORY_SERVERS"])
    );
    for (var, free) in [
        ("REDISCLOUD_URL", false),
        ("MEMORY_SERVERS", false),
        ("MEMORY_BASTIONS", false),
        // No attachment has such a value, whatever the name looks like.
        ("MEMORY_URL", true),
        ("SHOP_URL", true),
    ] {
        let (status, body) = platform
            .send(
                Method::PATCH,
                "/apps/demo/config-vars",
                Some(json!({var: "redis://else"})),
            )
            .await;
        assert_eq!(status == 200, free, "{var}: {body}");
        if !free {
            assert_eq!(body["message"], format!("Cannot overwrite attachment values {var}."));
        }
    }
    platform.end().await;
}

#[tokio::test]
async fn failures_can_begin_after_some_requests() {
    let folder = tempfile::tempdir().unwrap();
    let platform = with_app(&folder).await;
    platform
        .behave(json!({"api_failures": {"status": 402, "count": 1, "skip": 2, "method": "PATCH"}}))
        .await;
    for expected in [200, 200, 402, 200] {
        let change = Some(json!({"maintenance": false}));
        assert_eq!(platform.send(Method::PATCH, "/apps/demo", change).await.0, expected);
        assert_eq!(platform.send(Method::GET, "/apps/demo", None).await.0, 200);
    }
    platform.end().await;
}

#[tokio::test]
async fn long_lists_come_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let platform = with_app(&folder).await;
    for number in 0..7 {
        platform
            .done(
                Method::PATCH,
                "/apps/demo/config-vars",
                json!({"NUMBER": number.to_string()}),
            )
            .await;
    }
    platform.behave(json!({"page_size": 4})).await;
    let (mut seen, mut range) = (Vec::new(), Some("version ..; order=desc".to_owned()));
    while let Some(part) = range {
        let request = platform
            .client
            .get(format!("{}/apps/demo/releases", platform.url))
            .header("Accept", ACCEPT);
        let response = request.bearer_auth(KEY).header("Range", part).send().await.unwrap();
        range = response
            .headers()
            .get("Next-Range")
            .map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(response.status(), if range.is_some() { 206 } else { 200 });
        let items: Vec<Value> = response.json().await.unwrap();
        seen.extend(items.iter().map(|item| item["version"].as_u64().unwrap()));
    }
    assert_eq!(seen, [9, 8, 7, 6, 5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn a_release_phase_answers_the_old_values_and_can_fail() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::serve(folder.path(), 0.1).await;
    platform
        .create_app(json!({}), json!({"COLOUR": "red"}), "redis://:secret@127.0.0.1:1")
        .await;
    platform
        .behave(json!({"release_phase": {"seconds": 3.0, "fails": true}}))
        .await;
    for (fails, expected, status) in [(true, "red", "failed"), (false, "blue", "succeeded")] {
        platform
            .behave(json!({"release_phase": {"seconds": 3.0, "fails": fails}}))
            .await;
        let change = json!({"COLOUR": "blue"});
        let response = platform
            .try_send(Method::PATCH, "/apps/demo/config-vars", Some(change))
            .await
            .unwrap();
        assert!(response.headers().contains_key("Warning-Message"));
        assert_eq!(response.json::<Value>().await.unwrap()["COLOUR"], "red");
        let last = async || {
            platform
                .get("/apps/demo/releases")
                .await
                .as_array()
                .unwrap()
                .iter()
                .max_by_key(|release| release["version"].as_u64())
                .unwrap()
                .clone()
        };
        assert_eq!(last().await["status"], "pending");
        let started = std::time::Instant::now();
        while last().await["status"] == "pending" {
            assert!(started.elapsed() < rig::PATIENCE, "the release stays pending");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(last().await["status"], status);
        assert_eq!(platform.get("/apps/demo/config-vars").await["COLOUR"], expected);
    }
    platform.end().await;
}

#[tokio::test]
async fn the_apps_own_release_command_decides_with_the_new_variables() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::serve(folder.path(), 0.0).await;
    let formation = json!({"release": {"command": ["sh", "-c", "test \"$COLOUR\" = blue"]}});
    platform
        .create_app(formation, json!({"COLOUR": "red"}), "redis://:secret@127.0.0.1:1")
        .await;
    for (colour, status) in [("green", "failed"), ("blue", "succeeded")] {
        platform
            .done(Method::PATCH, "/apps/demo/config-vars", json!({"COLOUR": colour}))
            .await;
        let started = std::time::Instant::now();
        loop {
            let releases = platform.get("/apps/demo/releases").await;
            let releases = releases.as_array().unwrap();
            if releases.iter().all(|release| release["status"] != "pending") {
                let last = releases
                    .iter()
                    .max_by_key(|release| release["version"].as_u64())
                    .unwrap();
                assert_eq!(last["status"], status, "{colour}");
                break;
            }
            assert!(started.elapsed() < rig::PATIENCE, "the release stays pending");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    platform.end().await;
}

#[tokio::test]
async fn failures_come_as_often_as_asked_before_or_after_the_change() {
    let folder = tempfile::tempdir().unwrap();
    let platform = with_app(&folder).await;
    platform
        .behave(json!({"api_failures": {"status": 503, "count": 2}}))
        .await;
    for expected in [503, 503, 200] {
        assert_eq!(platform.send(Method::GET, "/apps/demo", None).await.0, expected);
    }
    platform.behave(json!({"drop_after_commit": 1})).await;
    let change = || Some(json!({"COLOUR": "blue"}));
    assert!(
        platform
            .try_send(Method::PATCH, "/apps/demo/config-vars", change())
            .await
            .is_err()
    );
    assert_eq!(
        platform.get("/apps/demo/config-vars").await["COLOUR"],
        "blue",
        "it was done all the same"
    );
    assert_eq!(
        platform.send(Method::PATCH, "/apps/demo/config-vars", change()).await.0,
        200
    );
    let (status, body) = platform
        .send(Method::POST, "/_sandbox/apps/demo/behaviour", Some(json!({"typo": 1})))
        .await;
    assert_eq!((status, &body["id"]), (400, &json!("bad_request")));
}
