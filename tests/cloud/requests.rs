//! Commands read the app's vars and attachments once, and hand them on. The platform counts requests.
//!
//! Only AWS, the platform and a Redis run, on loopback. A pair without hosts is enough: the commands
//! report them as absent, and `switch-app` stops there.

use super::store;
use infra::model::state::State;
use jiff::Timestamp;
use sandbox::platform::{self, Options};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};
use testkit::aws::{Aws, call};
use testkit::free_port;
use testkit::processes::spawn;
use tokio_util::sync::CancellationToken;

const KEY: &str = "platform-key";

struct Stage {
    aws: Aws,
    platform: SocketAddr,
    redis: Child,
    stop: CancellationToken,
    folder: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = self.redis.kill();
        let _ = self.redis.wait();
    }
}

impl Stage {
    /// Two apps use the same Redis, and an empty pair is in the bucket.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut redis = Command::new("redis-server");
        redis.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
        let redis = spawn(redis.arg("--dir").arg(folder.path()), &folder.path().join("redis.log"));

        let platform = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let options = Options {
            listen: vec![platform],
            api_key: KEY.into(),
            state_dir: folder.path().into(),
            time_scale: 0.0,
        };
        let stop = CancellationToken::new();
        tokio::spawn(platform::serve(options, stop.clone()));
        wait_for(platform).await;
        wait_for(SocketAddr::from(([127, 0, 0, 1], port))).await;
        let admin = |path: &str, body: Value| call(platform, "POST", &format!("/_sandbox/{path}"), Some(body));
        let url = format!("redis://127.0.0.1:{port}");
        admin("apps", json!({"name": "demo", "region": "us"}));
        admin(
            "apps/demo/addons",
            json!({"name": "redis-1", "plan": "p:q", "url": url, "attachment": "REDIS"}),
        );
        admin(
            "apps",
            json!({"name": "other", "region": "us", "config": {"REDIS_URL": url}}),
        );
        std::fs::write(
            folder.path().join("infra.yml"),
            "name: demo\nregion: us-east-1\nsource: {config_var: REDIS_URL}\napp: {name: demo, also: [other]}\nhosts: {admin_cidrs: [192.0.2.7/32]}\n",
        )
        .unwrap();

        let aws = Aws::start();
        let store = store(&aws.connect().await, "production").await;
        store.save(&State::begin(Timestamp::now()), None).await.unwrap();
        Stage {
            aws,
            platform,
            redis,
            stop,
            folder,
        }
    }

    /// Runs a command, and returns its output and how often it asked for each path.
    fn infra(&self, arguments: &[&str]) -> (Output, BTreeMap<String, u64>) {
        let keys = call(self.aws.address, "GET", "/_hv/operator", None).unwrap();
        let before = self.requests();
        let output = Command::new(env!("CARGO_BIN_EXE_infra"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("AWS_ENDPOINT_URL", format!("http://{}", self.aws.address))
            .env("AWS_ACCESS_KEY_ID", keys["access_key_id"].as_str().unwrap())
            .env("AWS_SECRET_ACCESS_KEY", keys["secret_access_key"].as_str().unwrap())
            .env("HEROKU_API_URL", format!("http://{}", self.platform))
            .env("HEROKU_API_KEY", KEY)
            .output()
            .unwrap();
        let mut asked = self.requests();
        asked.retain(|path, times| {
            *times -= before.get(path).copied().unwrap_or(0);
            *times > 0
        });
        (output, asked)
    }

    fn requests(&self) -> BTreeMap<String, u64> {
        let counted = call(self.platform, "GET", "/_sandbox/requests", None).unwrap();
        serde_json::from_value(counted).unwrap()
    }
}

async fn wait_for(address: SocketAddr) {
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{address} does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns how often the vars and the attachments of an app were read.
fn reads(asked: &BTreeMap<String, u64>, app: &str) -> (u64, u64) {
    let times = |what: &str| asked.get(&format!("GET /apps/{app}/{what}")).copied().unwrap_or(0);
    (times("config-vars"), times("addon-attachments"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_reads_the_vars_and_attachments_of_an_app_once() {
    let stage = Stage::new().await;
    let (output, asked) = stage.infra(&["check", "--json"]);
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(findings.to_string().contains("consumer"), "{findings}");
    assert_eq!(reads(&asked, "demo"), (1, 1), "{asked:#?}");
    assert_eq!(reads(&asked, "other"), (1, 1), "{asked:#?}");

    let (output, asked) = stage.infra(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["app"], "source", "{status}");
    assert_eq!(status["servers"]["source"]["role"], "master", "{status}");
    assert_eq!(reads(&asked, "demo"), (1, 0), "{asked:#?}");

    // Once to see who else uses the source, and once more under the lock.
    let (output, asked) = stage.infra(&["switch-app", "--confirm", "demo"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("cannot find the master"), "{error}");
    assert_eq!(reads(&asked, "demo"), (2, 2), "{asked:#?}");
    assert_eq!(reads(&asked, "other"), (2, 2), "{asked:#?}");
}
