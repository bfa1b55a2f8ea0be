//! Heroku's real command line, against this platform.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a step that fails is a test that fails"
)]

mod heroku;
mod rig;

use std::path::PathBuf;
use std::time::Duration;

use rig::platform::{KEY, Platform};
use serde_json::json;

const OLD: &str = "rediss://:secret@127.0.0.1:6390";
/// Node takes a second to load it, on a quiet computer.
const PATIENCE: Duration = Duration::from_secs(120);

struct Cli {
    program: PathBuf,
    home: tempfile::TempDir,
    url: String,
}

struct Output {
    ok: bool,
    stdout: String,
    stderr: String,
}

impl Cli {
    fn record(&self) -> PathBuf {
        self.home.path().join("connections")
    }

    async fn try_run(&self, words: &[&str]) -> Output {
        let guard = format!(
            "{}/tests/heroku/loopback_only.cjs",
            std::env::var("CARGO_MANIFEST_DIR").unwrap()
        );
        let mut command = tokio::process::Command::new(&self.program);
        command.args(words);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command
            .env("HOME", self.home.path())
            .env("HEROKU_HOST", &self.url)
            .env("HEROKU_API_KEY", KEY)
            // These would connect elsewhere: statistics and updates.
            .env("DISABLE_TELEMETRY", "true")
            .env("HEROKU_DISABLE_AUTOUPDATE", "true")
            .env("HEROKU_SKIP_NEW_VERSION_CHECK", "true")
            .env("NODE_OPTIONS", format!("--require={guard}"))
            .env("LOOPBACK_RECORD", self.record());
        command
            .current_dir(self.home.path())
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = output
            .unwrap_or_else(|_| panic!("heroku {words:?} does not end"))
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Output {
            ok: output.status.success(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    async fn run(&self, words: &[&str]) -> Output {
        let output = self.try_run(words).await;
        assert!(output.ok, "heroku {words:?}: {}{}", output.stdout, output.stderr);
        eprintln!("$ heroku {}\n{}{}", words.join(" "), output.stdout, output.stderr);
        output
    }
}

#[tokio::test]
async fn herokus_own_command_line_does_its_work_here() {
    let program = match heroku::program() {
        Ok(program) => program,
        Err(reason) => {
            eprintln!("SKIPPED, the real Heroku CLI was not tried: {reason}");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::serve(folder.path(), 0.0).await;
    let formation = json!({"web": {"command": ["sleep", "600"]}, "worker": {"command": ["sleep", "600"]}});
    platform.create_app(formation, json!({"COLOUR": "red"}), OLD).await;
    let cli = Cli {
        program,
        home: tempfile::tempdir().unwrap(),
        url: platform.url.clone(),
    };
    let app = ["--app", "demo"];
    let with = |words: &[&'static str]| [words, &app].concat();

    let vars = cli.run(&with(&["config", "--json"])).await;
    let vars: serde_json::Value = serde_json::from_str(&vars.stdout).unwrap();
    assert_eq!(vars, json!({"COLOUR": "red", "REDIS_URL": OLD}));
    assert!(cli.run(&with(&["config"])).await.stdout.contains("COLOUR"));

    let said = cli.run(&with(&["config:set", "COLOUR=blue"])).await.stderr;
    assert!(said.contains("v3"), "{said}");
    assert_eq!(platform.get("/apps/demo/config-vars").await["COLOUR"], "blue");
    let refused = cli.try_run(&with(&["config:set", "REDIS_URL=redis://other"])).await;
    assert!(
        !refused.ok && refused.stderr.contains("Cannot overwrite attachment values REDIS_URL."),
        "{}",
        refused.stderr
    );

    let addons = cli.run(&with(&["addons"])).await.stdout;
    assert!(addons.contains("redis-oval-1") && addons.contains("REDIS"), "{addons}");
    cli.run(&with(&["addons:attach", "redis-oval-1", "--as", "HOSTED_REDIS"]))
        .await;
    assert_eq!(platform.get("/apps/demo/config-vars").await["HOSTED_REDIS_URL"], OLD);
    cli.run(&with(&["addons:detach", "REDIS"])).await;
    let vars = platform.get("/apps/demo/config-vars").await;
    assert!(
        vars.get("REDIS_URL").is_none() && vars["HOSTED_REDIS_URL"] == OLD,
        "{vars}"
    );
    let refused = cli.try_run(&with(&["addons:detach", "HOSTED_REDIS"])).await;
    assert!(
        !refused.ok && refused.stderr.contains("Cannot destroy last attachment"),
        "{}",
        refused.stderr
    );

    cli.run(&with(&["ps:scale", "web=2", "worker=1"])).await;
    platform
        .wait_for_processes("all are up", |all| {
            all.iter().filter(|process| process["state"] == "up").count() == 3
        })
        .await;
    let ps = cli.run(&with(&["ps"])).await.stdout;
    for name in ["web.1", "web.2", "worker.1"] {
        assert!(ps.contains(name), "{ps}");
    }
    cli.run(&with(&["maintenance:on"])).await;
    assert_eq!(platform.get("/apps/demo").await["maintenance"], true);
    cli.run(&with(&["ps:scale", "web=0", "worker=0"])).await;
    assert_eq!(platform.get("/apps/demo/dynos").await, json!([]));
    cli.run(&with(&["maintenance:off"])).await;
    assert_eq!(platform.get("/apps/demo").await["maintenance"], false);
    let connections = std::fs::read_to_string(cli.record()).unwrap();
    assert!(
        connections.lines().count() >= 10,
        "the guard was not there: {connections}"
    );
    let elsewhere: Vec<&str> = connections.lines().filter(|line| *line != "loopback").collect();
    assert!(elsewhere.is_empty(), "tried to leave this computer: {elsewhere:?}");
    platform.end().await;
}
