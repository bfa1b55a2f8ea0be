//! Tests the client with the sandbox's platform: the effect of changes, and answers that get lost.

use super::*;
use crate::ui::Ui;
use sandbox::platform::{self, Options};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const KEY: &str = "platform-key";
const URL: &str = "rediss://:hunter2@hosted.test:6390";

pub(super) struct Stand {
    pub(super) heroku: Heroku,
    api: String,
    shutdown: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Stand {
    pub(super) async fn new() -> Stand {
        let folder = tempfile::tempdir().unwrap();
        let port = sandbox::addon::free_port(Ipv4Addr::LOCALHOST.into()).unwrap();
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let options = Options {
            listen: vec![address],
            api_key: KEY.into(),
            state_dir: folder.path().into(),
            time_scale: 0.0,
        };
        let shutdown = CancellationToken::new();
        tokio::spawn(platform::serve(options, shutdown.clone()));
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let api = format!("http://{address}");
        let stand = Stand {
            heroku: Heroku::new(&api, Secret::new(KEY), "demo").unwrap(),
            api,
            shutdown,
            _folder: folder,
        };
        let formation = json!({"web": {"command": ["sleep", "600"]}});
        stand
            .admin(
                "apps",
                json!({"name": "demo", "region": "us", "formation": formation, "config": {"COLOUR": "red"}}),
            )
            .await;
        stand
            .admin(
                "apps/demo/addons",
                json!({"name": "redis-1", "plan": "p:q", "url": URL, "attachment": "REDIS"}),
            )
            .await;
        stand
    }

    pub(super) async fn admin(&self, path: &str, body: serde_json::Value) {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .build()
            .unwrap();
        let response = client
            .post(format!("{}/_sandbox/{path}", self.api))
            .json(&body)
            .send()
            .await
            .unwrap();
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.text().await.unwrap()
        );
    }

    async fn set(&self, name: &str, value: Option<&str>) -> Result<Option<u64>> {
        let wanted = BTreeMap::from([(name.to_string(), value.map(Secret::new))]);
        self.heroku.set_config_vars(&wanted).await
    }

    async fn release(&self) -> u64 {
        self.heroku.newest_release().await.unwrap().unwrap().version
    }
}

#[tokio::test]
async fn processes_that_sleep_or_had_crashed_before_are_not_waited_for() {
    let stand = Stand::new().await;
    let formation = json!({
        "web": {"command": ["sleep", "600"], "quantity": 1},
        "worker": {"command": ["sleep", "600"]},
        "clock": {"command": ["sleep", "600"]},
    });
    stand
        .admin("apps", json!({"name": "lazy", "region": "us", "formation": formation}))
        .await;
    stand
        .admin(
            "apps/lazy/behaviour",
            json!({"boot_seconds": 0, "asleep": ["worker"], "crashing": ["clock"]}),
        )
        .await;
    let heroku = stand.heroku.of("lazy");
    let scaled = BTreeMap::from([("worker".to_string(), 1), ("clock".to_string(), 1)]);
    heroku.scale(&scaled).await.unwrap();
    let crashed = heroku.crashed().await.unwrap();
    assert_eq!(crashed.iter().collect::<Vec<_>>(), ["clock"]);
    let before = heroku.newest_release().await.unwrap().unwrap().version;
    let wanted = BTreeMap::from([("COLOUR".to_string(), Some(Secret::new("blue")))]);
    heroku.set_config_vars(&wanted).await.unwrap();
    let step = Ui::silent().step("test");
    let wait = |crashed| heroku.await_processes(before + 1, crashed, Duration::from_secs(5), &step);
    wait(&crashed).await.unwrap();
    let error = wait(&Crashed::new()).await.unwrap_err();
    assert!(
        error.to_string().contains("1 clock to come up, which crashed with it"),
        "{error}"
    );
}

#[tokio::test]
async fn processes_of_a_release_that_failed_are_not_waited_for() {
    let stand = Stand::new().await;
    stand
        .heroku
        .scale(&BTreeMap::from([("web".to_string(), 1)]))
        .await
        .unwrap();
    stand
        .admin(
            "apps/demo/behaviour",
            json!({"release_phase": {"seconds": 0, "fails": true}}),
        )
        .await;
    let before = stand.release().await;
    stand.set("COLOUR", Some("blue")).await.unwrap();
    let step = Ui::silent().step("test");
    let release = stand
        .heroku
        .terminal_release(before, Duration::from_secs(20), &step)
        .await
        .unwrap();
    assert_eq!(release.status, ReleaseStatus::Failed);
    let begun = Instant::now();
    let error = stand
        .heroku
        .await_processes(release.version, &Crashed::new(), Duration::from_secs(600), &step)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("that release failed"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn the_plan_of_an_owned_var_has_its_price() {
    let stand = Stand::new().await;
    let plan = stand.heroku.plan_of("REDIS_URL").await.unwrap();
    assert_eq!(plan, Some(("p:q".to_string(), 1500)));
    assert_eq!(stand.heroku.plan_of("COLOUR").await.unwrap(), None);
}

#[tokio::test]
async fn an_owned_var_cannot_be_set_and_the_error_says_who_owns_it() {
    let stand = Stand::new().await;
    let attachments = stand.heroku.attachments().await.unwrap();
    assert_eq!(owner(&attachments, "demo", "REDIS_URL").unwrap().addon_name, "redis-1");
    let error = stand.set("REDIS_URL", Some("redis://else.test")).await.unwrap_err();
    assert!(
        error.to_string().contains("Cannot overwrite attachment values"),
        "{error}"
    );
    assert!(error.next_step().unwrap().contains("attachment"));
}

#[tokio::test]
async fn vars_that_an_attachment_owns_are_those_that_the_platform_refuses() {
    let stand = Stand::new().await;
    for (name, attachment, values) in [
        (
            "redis-2",
            "QUEUE",
            json!({"URL": URL, "TLS_URL": URL, "BASTIONS": "192.0.2.4"}),
        ),
        ("cloud-1", "REDISCLOUD", json!({"URL": URL})),
        ("memory-1", "MEMORY", json!({"SERVERS": "192.0.2.5:11211"})),
    ] {
        let addon = json!({"name": name, "plan": "p:q", "attachment": attachment, "values": values});
        stand.admin("apps/demo/addons", addon).await;
    }
    stand.heroku.attach("redis-2", "HOSTED_QUEUE").await.unwrap();
    stand.heroku.attach("cloud-1", "HOSTED").await.unwrap();
    // This removes the name that the add-on's own vars begin with.
    let gone = stand.heroku.attachments().await.unwrap();
    let gone = gone.into_iter().find(|attachment| attachment.name == "QUEUE").unwrap();
    stand.heroku.detach(&gone).await.unwrap();
    stand.set("QUEUE_URL", Some("redis://plain.test")).await.unwrap();
    let attachments = stand.heroku.attachments().await.unwrap();
    let vars = stand.heroku.config_vars().await.unwrap();
    let more = ["QUEUE_TLS_URL", "MEMORY_URL", "HOSTED_QUEUE_SIZE", "HOSTED_TLS_URL"];
    for var in vars.names().chain(more) {
        let owned = owner(&attachments, "demo", var).is_some();
        let refused = stand.set(var, Some("x")).await.is_err();
        assert_eq!(owned, refused, "{var}");
    }
    assert_eq!(
        owner(&attachments, "demo", "HOSTED_QUEUE_TLS_URL").unwrap().name,
        "HOSTED_QUEUE"
    );
}

#[tokio::test]
async fn a_change_makes_one_release_also_when_its_answer_is_lost() {
    let stand = Stand::new().await;
    let before = stand.release().await;
    stand
        .admin("apps/demo/behaviour", json!({"drop_after_commit": 1}))
        .await;
    assert_eq!(stand.set("COLOUR", Some("blue")).await.unwrap(), Some(before));
    assert_eq!(stand.release().await, before + 1, "it was sent twice");
    assert_eq!(stand.set("COLOUR", Some("blue")).await.unwrap(), None);
    assert_eq!(
        stand.release().await,
        before + 1,
        "what was there already was set again"
    );
    stand.set("COLOUR", None).await.unwrap();
    assert!(!stand.heroku.config_vars().await.unwrap().has("COLOUR"));
}

#[tokio::test]
async fn attaching_and_detaching_survive_lost_answers() {
    let stand = Stand::new().await;
    let before = stand.release().await;
    stand
        .admin("apps/demo/behaviour", json!({"drop_after_commit": 1}))
        .await;
    let hosted = stand.heroku.attach("redis-1", "HOSTED_REDIS").await.unwrap();
    assert_eq!(hosted.url_var(), "HOSTED_REDIS_URL");
    assert_eq!(stand.heroku.attach("redis-1", "HOSTED_REDIS").await.unwrap(), hosted);
    let old = stand
        .heroku
        .attachments()
        .await
        .unwrap()
        .into_iter()
        .find(|there| there.name == "REDIS")
        .unwrap();
    stand
        .admin("apps/demo/behaviour", json!({"drop_after_commit": 1}))
        .await;
    stand.heroku.detach(&old).await.unwrap();
    stand.heroku.detach(&old).await.unwrap();
    assert_eq!(stand.release().await, before + 2);
    let vars = stand.heroku.config_vars().await.unwrap();
    assert!(!vars.has("REDIS_URL"));
    assert_eq!(vars.get("HOSTED_REDIS_URL").unwrap().unwrap().expose(), URL);
    let error = stand.heroku.detach(&hosted).await.unwrap_err();
    assert!(error.to_string().contains("last attachment"), "{error}");
}

#[tokio::test]
async fn lists_are_read_over_all_their_pages() {
    let stand = Stand::new().await;
    stand.admin("apps/demo/behaviour", json!({"page_size": 1})).await;
    for number in 0..4 {
        stand.set("NUMBER", Some(&number.to_string())).await.unwrap();
    }
    stand.heroku.attach("redis-1", "SECOND").await.unwrap();
    assert_eq!(stand.heroku.attachments().await.unwrap().len(), 2);
    let newest = stand.heroku.newest_release().await.unwrap().unwrap();
    let described = stand
        .heroku
        .terminal_release(newest.version - 1, Duration::from_secs(5), &Ui::silent().step(""))
        .await
        .unwrap();
    assert_eq!(
        (described.version, described.status),
        (newest.version, ReleaseStatus::Succeeded)
    );
}

#[tokio::test]
async fn a_platform_that_fails_for_a_while_is_asked_again() {
    let stand = Stand::new().await;
    stand
        .admin(
            "apps/demo/behaviour",
            json!({"api_failures": {"status": 503, "count": 2}}),
        )
        .await;
    assert_eq!(stand.heroku.app().await.unwrap().region, "us");
    assert_eq!(stand.heroku.aws_region().await.unwrap(), "us-east-1");
}

#[tokio::test]
async fn maintenance_and_preboot_stay_as_they_were_set() {
    let stand = Stand::new().await;
    assert!(!stand.heroku.preboot().await.unwrap());
    stand.heroku.set_preboot(true).await.unwrap();
    stand.heroku.set_maintenance(true).await.unwrap();
    assert!(stand.heroku.preboot().await.unwrap() && stand.heroku.app().await.unwrap().maintenance);
    stand.heroku.scale(&[("web".into(), 1)].into()).await.unwrap();
    assert_eq!(stand.heroku.formation().await.unwrap()["web"], 1);
    assert_eq!(stand.heroku.dynos().await.unwrap()[0].kind, "web");
}

#[tokio::test]
async fn a_wrong_key_and_an_unknown_app_are_different_errors() {
    let stand = Stand::new().await;
    let ask = async |key: &str, app: &str| {
        Heroku::new(&stand.api, Secret::new(key), app)
            .unwrap()
            .app()
            .await
            .unwrap_err()
    };
    let wrong = ask("wrong", "demo").await;
    assert!(wrong.next_step().unwrap().contains("HEROKU_API_KEY"), "{wrong:?}");
    assert!(!format!("{wrong:?}").contains("wrong"), "the key is in the error");
    assert!(ask(KEY, "nobody").await.next_step().unwrap().contains("app.name"));
}

#[test]
fn the_key_is_not_sent_in_clear_to_a_named_host() {
    let Err(error) = Heroku::new("http://api.example.com", Secret::new("k"), "demo") else {
        panic!()
    };
    assert!(error.to_string().contains("not https"));
}
