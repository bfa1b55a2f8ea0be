//! The database is an add-on of the app, beside its Redis: the platform owns the var that holds the URL.

use super::rig::Rig;
use sandbox::platform::{self, Options};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use tempfile::TempDir;
use testkit::{free_port, waiting};
use tokio_util::sync::CancellationToken;

const KEY: &str = "key-of-the-test";

/// The sandbox's platform on loopback, with one app.
struct Hosted {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
    _folder: TempDir,
}

impl Hosted {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let options = Options {
            listen: vec![address],
            api_key: KEY.into(),
            state_dir: folder.path().to_owned(),
            time_scale: 0.0,
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(platform::serve(options, stopped)).unwrap();
        });
        waiting::until("the platform listens", || std::net::TcpStream::connect(address).is_ok());
        let hosted = Hosted {
            address,
            stop,
            thread: Some(thread),
            _folder: folder,
        };
        hosted.ask(
            "POST",
            "_sandbox/apps",
            &json!({"name": "demo", "region": "us", "formation": {}}),
        );
        hosted
    }

    fn provide(&self, name: &str, url: &str, attachment: &str) {
        let addon = json!({"name": name, "plan": "hosted:mini", "url": url, "attachment": attachment});
        self.ask("POST", "_sandbox/apps/demo/addons", &addon);
    }

    fn ask(&self, method: &str, path: &str, body: &serde_json::Value) -> serde_json::Value {
        let output = Command::new("curl")
            .args(["-sSf", "-X", method, "-H", "Content-Type: application/json"])
            .args(["-H", "Accept: application/vnd.heroku+json; version=3"])
            .args(["-H", &format!("Authorization: Bearer {KEY}")])
            .args(["-d", &body.to_string(), &format!("http://{}/{path}", self.address)])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{path}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn the_url_is_read_from_the_app_and_the_reads_are_switched_by_its_config_var() {
    let rig = Rig::start();
    rig.postgres
        .sql("CREATE TABLE markers (user_id bigint PRIMARY KEY, status text); INSERT INTO markers VALUES (1, 'one')");
    let hosted = Hosted::start();
    hosted.provide("redis-oval-1", &rig.redis_url(), "REDIS");
    hosted.provide("postgresql-round-2", &rig.postgres.url(), "DATABASE");
    let infra = "name: demo\nregion: eu-west-1\nsource: {config_var: REDIS_URL}\napp: {platform: heroku, name: demo}\n";
    std::fs::write(rig.path("infra.yml"), infra).unwrap();
    std::fs::write(
        rig.path("import.yml"),
        "source: {config_var: DATABASE_URL}\ntarget: {redis: hosted}\ntables:\n- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}\n",
    )
    .unwrap();
    let api = format!("http://{}", hosted.address);
    let variables = [
        ("HEROKU_API_URL", api.as_str()),
        ("HEROKU_API_KEY", KEY),
        ("DATABASE_URL", ""),
        ("REDIS_URL", ""),
    ];
    for arguments in [
        &["run"][..],
        &["follow", "--once"],
        &["finish", "--rounds", "1", "--set", "READS_FROM=redis", "--yes"],
    ] {
        let answer = rig.infra_with(arguments, &variables);
        assert_eq!(answer.code, 0, "{arguments:?}: {}", answer.text);
    }
    assert_eq!(rig.redis_text("GET marker:1"), "one");
    let vars = hosted.ask("GET", "apps/demo/config-vars", &json!({}));
    assert_eq!(vars["READS_FROM"], "redis", "{vars}");
    let missing = std::fs::read_to_string(rig.path("import.yml")).unwrap();
    std::fs::write(rig.path("import.yml"), missing.replace("DATABASE_URL", "DATABASE")).unwrap();
    let refused = rig.infra_with(&["run"], &variables);
    assert!(
        refused.code == 64 && refused.text.contains("no config var DATABASE"),
        "{}",
        refused.text
    );
}
