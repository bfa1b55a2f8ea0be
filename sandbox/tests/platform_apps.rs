//! Several apps on one add-on: attachments, what a rotation of credentials reaches, and lists.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod rig;

use reqwest::Method;
use rig::platform::{ACCEPT, KEY, Platform};
use serde_json::{Value, json};

const OLD: &str = "rediss://:old@127.0.0.1:6390";
const NEW: &str = "rediss://:new@127.0.0.1:6390";

/// `demo` pays for a Redis, `admin` is attached to it, `copier` has its URL in a plain variable.
async fn three_apps(folder: &tempfile::TempDir) -> Platform {
    let platform = Platform::serve(folder.path(), 0.0).await;
    platform.create_app(json!({}), json!({}), OLD).await;
    for (name, config) in [("admin", json!({})), ("copier", json!({"CACHE_URL": OLD}))] {
        let formation = json!({"web": {"command": ["sleep", "600"], "quantity": 1}});
        let app = json!({"name": name, "region": "us", "formation": formation, "config": config});
        platform.done(Method::POST, "/_sandbox/apps", app).await;
    }
    let attachment = json!({"addon": "redis-oval-1", "app": "admin", "name": "SHARED"});
    platform.done(Method::POST, "/addon-attachments", attachment).await;
    platform
}

fn column(list: &Value, of: impl Fn(&Value) -> Value) -> Vec<String> {
    let mut found: Vec<String> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|item| of(item).as_str().unwrap().to_owned())
        .collect();
    found.sort();
    found
}

async fn releases(platform: &Platform, app: &str) -> Vec<Value> {
    let list = platform.get(&format!("/apps/{app}/releases")).await;
    let mut list = list.as_array().unwrap().clone();
    list.sort_by_key(|release| release["version"].as_u64());
    list
}

#[tokio::test]
async fn an_add_on_shows_all_that_is_attached_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let platform = three_apps(&folder).await;
    let attachments = platform.get("/addons/redis-oval-1/addon-attachments").await;
    assert_eq!(
        column(&attachments, |item| item["app"]["name"].clone()),
        ["admin", "demo"]
    );
    for app in ["demo", "admin"] {
        let addons = platform.get(&format!("/apps/{app}/addons")).await;
        assert_eq!(
            (&addons[0]["name"], &addons[0]["app"]["name"]),
            (&json!("redis-oval-1"), &json!("demo")),
            "seen from {app}"
        );
    }
    assert_eq!(platform.get("/apps/copier/addons").await, json!([]));
    assert_eq!(
        column(&platform.get("/apps").await, |app| app["name"].clone()),
        ["admin", "copier", "demo"]
    );
    assert_eq!(platform.get("/addons").await.as_array().unwrap().len(), 1);
    assert_eq!(platform.get("/addon-attachments").await.as_array().unwrap().len(), 2);
    assert_eq!(platform.get("/apps/admin/config-vars").await["SHARED_URL"], OLD);
    platform.end().await;
}

#[tokio::test]
async fn the_list_of_apps_comes_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let platform = three_apps(&folder).await;
    platform.behave(json!({"page_size": 2})).await;
    let (mut seen, mut range, mut parts) = (Vec::new(), None::<String>, 0);
    loop {
        let request = platform.client.get(format!("{}/apps", platform.url)).bearer_auth(KEY);
        let request = request.header("Accept", ACCEPT);
        let request = match range {
            Some(range) => request.header("Range", range),
            None => request,
        };
        let response = request.send().await.unwrap();
        parts += 1;
        range = response
            .headers()
            .get("Next-Range")
            .map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(response.status(), if range.is_some() { 206 } else { 200 });
        seen.extend(column(&response.json().await.unwrap(), |app| app["name"].clone()));
        if range.is_none() {
            break;
        }
    }
    seen.sort();
    assert_eq!((parts, seen), (2, vec!["admin".into(), "copier".into(), "demo".into()]));
    platform.end().await;
}

#[tokio::test]
async fn a_rotation_reaches_what_is_attached_and_no_copy() {
    let folder = tempfile::tempdir().unwrap();
    let platform = three_apps(&folder).await;
    let ups = async |app: &str| {
        let dynos = platform.get(&format!("/apps/{app}/dynos")).await;
        dynos[0]["id"].clone()
    };
    let (admins, copiers) = (ups("admin").await, ups("copier").await);
    let copies = releases(&platform, "copier").await.len();
    platform
        .done(Method::POST, "/_sandbox/addons/redis-oval-1/url", json!({"url": NEW}))
        .await;
    for (app, name, url) in [
        ("demo", "REDIS_URL", NEW),
        ("admin", "SHARED_URL", NEW),
        ("copier", "CACHE_URL", OLD),
    ] {
        assert_eq!(
            platform.get(&format!("/apps/{app}/config-vars")).await[name],
            url,
            "{app}"
        );
    }
    let config = platform.get("/addons/redis-oval-1/config").await;
    assert_eq!(config, json!([{"name": "REDIS_URL", "value": NEW}]));
    assert_eq!(
        releases(&platform, "admin").await.last().unwrap()["description"],
        "Update SHARED by hosted-redis"
    );
    assert_eq!(releases(&platform, "copier").await.len(), copies);
    assert_ne!(ups("admin").await, admins, "it was restarted");
    assert_eq!(ups("copier").await, copiers, "it was not");
    platform.end().await;
}

#[tokio::test]
async fn review_apps_are_found_by_their_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::serve(folder.path(), 0.0).await;
    for (name, stage) in [("shop", "production"), ("shop-pr-7", "review")] {
        let pipeline = json!({"name": "shop", "stage": stage});
        let app = json!({"name": name, "region": "us", "pipeline": pipeline});
        platform.done(Method::POST, "/_sandbox/apps", app).await;
    }
    let own = platform.get("/apps/shop/pipeline-couplings").await;
    assert_eq!(own["stage"], "production");
    let id = own["pipeline"]["id"].as_str().unwrap();
    let all = platform.get(&format!("/pipelines/{id}/pipeline-couplings")).await;
    let review = all.as_array().unwrap().iter().find(|item| item["stage"] == "review");
    let app = review.unwrap()["app"]["id"].as_str().unwrap();
    assert_eq!(platform.get(&format!("/apps/{app}")).await["name"], "shop-pr-7");
    let alone = json!({"name": "alone", "region": "us"});
    platform.done(Method::POST, "/_sandbox/apps", alone).await;
    let (status, _) = platform.send(Method::GET, "/apps/alone/pipeline-couplings", None).await;
    assert_eq!(status, 404);
    platform.end().await;
}

#[tokio::test]
async fn masked_variables_are_there_without_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let platform = three_apps(&folder).await;
    for (shown_as, expected) in [("null", Value::Null), ("stars", json!("****"))] {
        platform
            .behave(json!({"masked_vars": {"names": ["REDIS_URL"], "shown_as": shown_as}}))
            .await;
        let vars = platform.get("/apps/demo/config-vars").await;
        assert!(vars.as_object().unwrap().contains_key("REDIS_URL"));
        assert_eq!(vars["REDIS_URL"], expected);
        let answer = platform
            .done(Method::PATCH, "/apps/demo/config-vars", json!({"SHAPE": shown_as}))
            .await;
        assert_eq!((&answer["REDIS_URL"], &answer["SHAPE"]), (&expected, &json!(shown_as)));
    }
    platform.end().await;
}
